"""What is a link worth, and how many questions does it save?

    python -m benchmarks.link --pair science=CHECKPOINT:SET:RECORDING [--pair ...]

Each pair is a checkpoint, a labelled set and what an LLM extracted from its sentences. Recordings
have no dev set, so a link is fitted on one half of the sentences and scored on the other, both
ways, over several draws of the halves. Printed are strict F1 of the local model, of the LLM's
extraction, of every answer overriding, and of the link; and the gain at shares of the candidates
asked: the most uncertain ones with answers that override, and by the link. A last line deals the
answers out at random: a useless LLM, which a link must not ask.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.measure import write_json
from linkner_ray.config import (
    EvaluateSet,
    LlmConfig,
    RecognizeConfig,
    RoutingConfig,
    SentencesConfig,
)
from linkner_ray.corpora.scores import document_counts
from linkner_ray.evaluation.judge import Gold, entity_triples
from linkner_ray.evaluation.measure_link import ask_all, fit_on, recognize_set
from linkner_ray.evaluation.plan import load_labelled_set
from linkner_ray.evaluation.recorded import extraction_f1
from linkner_ray.linking.link import Link
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.schemas import STAGE_COLUMNS, list_offsets, make_lists
from linkner_ray.spanner.checkpoint import local_checkpoint, read_parts
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.contract import apply_stage

SHARES = ("5%", "10%", "20%", "50%", "100%")
LEAST = 1e-9
"""As `routing.min_gain`: whoever may gain anything is asked, as far as the share reaches."""


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the benchmark, print its tables, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pair", action="append", required=True, help="NAME=MODEL:SET:RECORDING")
    parser.add_argument("--draws", type=int, default=3, help="ways to cut the set in halves")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(argv)
    numbers: dict[str, float] = {}
    for given in options.pair:
        name, _, paths = given.partition("=")
        found = measure(*paths.split(":"), draws=options.draws)
        rows = [
            {"gain of": way, **{share: f"{gain:+.2f}" for share, gain in gains.items()}}
            for way, gains in found.gains.items()
        ]
        print(
            f"\n{name}: local F1 {found.local:.2f}, LLM alone {found.llm:.2f}; gain by share asked"
            f"\n\n{markdown_table(rows)}",
            flush=True,
        )
        numbers |= {f"f1_local_{name}": found.local, f"f1_llm_{name}": found.llm}
        for way, gains in found.gains.items():
            numbers |= {f"{way}_{share}_{name}": gain for share, gain in gains.items()}
    if options.json is not None:
        write_json(options.json, numbers)
    return numbers


class Measured(NamedTuple):
    """What asking gains on one pair; F1 in percent."""

    local: float
    llm: float
    """Of what the LLM extracted by itself."""

    gains: dict[str, dict[str, float]]
    """F1 less that of the local model, by way and share asked."""


def measure(checkpoint: str, path: str, recording: str, *, draws: int) -> Measured:
    """Measure one pair.

    Args:
        checkpoint: Folder that training wrote.
        path: Labelled set in its labels.
        recording: As `llm.replay_path`.
        draws: Ways to cut the set in halves.
    """
    parts = read_parts(local_checkpoint(checkpoint))
    labelled = load_labelled_set(EvaluateSet(name="set", path=path), parts)
    chain = Chain(
        label_set=parts.label_set,
        recognize=RecognizeConfig(checkpoint=checkpoint),
        llm=LlmConfig(backend="replay", model="recorded", replay_path=recording),
        has_llm=True,
        routing=RoutingConfig(threshold=0.0),
        sentences=SentencesConfig(),
    )
    table = ask_all(chain, recognize_set(chain, labelled))
    gold = labelled.gold
    local = f1_of(gold, chain.decide_locally(table))
    overriding = {share: f1_of(gold, _fused(chain, table, share, None)) for share in SHARES}
    ways = {
        "overriding": overriding,
        "link": _linked(chain, table, gold, draws),
        "link_of_dealt_answers": _linked(chain, dealt_out(table), gold, draws),
    }
    return Measured(
        local=local,
        llm=100 * (extraction_f1(recording, labelled.sentences) or 0.0),
        gains={
            way: {share: f1 - local for share, f1 in found.items()} for way, found in ways.items()
        },
    )


def f1_of(gold: Gold, table: pa.Table) -> float:
    """Strict F1 of a table's entities, in percent."""
    counts = document_counts(gold, entity_triples(table["entities"]))
    true, false, missed = (int(value) for value in counts.sum(axis=0))
    return 100 * 2 * true / max(1, 2 * true + false + missed)


def dealt_out(table: pa.Table) -> pa.Table:
    """The same answers, dealt out to the candidates at random."""
    answers = table["answers"].combine_chunks()
    order = np.random.default_rng(0).permutation(len(answers.flatten()))
    dealt = make_lists(
        answers.flatten().take(pa.array(order)), list_offsets(answers), STAGE_COLUMNS["answers"]
    )
    return table.drop_columns(["answers"]).append_column("answers", dealt)


def _linked(chain: Chain, table: pa.Table, gold: Gold, draws: int) -> dict[str, float]:
    """F1 by share, of links that were fitted on one half and used on the other; a mean of draws."""
    found: dict[str, list[float]] = {share: [] for share in SHARES}
    for seed in range(draws):
        half = np.random.default_rng(seed).permutation(table.num_rows) % 2
        sides = [np.flatnonzero(half == side) for side in (0, 1)]
        links = [
            fit_on(chain, table.take(pa.array(other)), [gold[row] for row in other])
            for other in reversed(sides)
        ]
        of_both = [gold[row] for row in np.concatenate(sides)]
        for share, f1s in found.items():
            fused = [
                _fused(chain, table.take(pa.array(own)), share, link)
                for own, link in zip(sides, links, strict=True)
            ]
            f1s.append(f1_of(of_both, pa.concat_tables(fused)))
    return {share: float(np.mean(f1s)) for share, f1s in found.items()}


def _fused(chain: Chain, table: pa.Table, share: str, link: Link | None) -> pa.Table:
    """Documents fused with so many of their candidates asked about; the others stay local."""
    rules = {"threshold": 0.0} if link is None else {"link": "here", "min_gain": LEAST}
    asking = replace(chain, routing=RoutingConfig(budget=share, **rules), link=link)
    bare = table.drop_columns(["routes"]).combine_chunks()
    routed = apply_stage(asking.route(), bare)
    return apply_stage(asking.fuse(), routed)


if __name__ == "__main__":
    main()
