"""What is a link worth, and how many questions does it save?

    python -m benchmarks.link --pair science=CHECKPOINT:SET:RECORDING [--pair ...]
    python -m benchmarks.link --pair conll=CHECKPOINT:SET:MODEL:TRAIN --sentences 300 --plot FILE

Each pair is a checkpoint, a labelled set in its labels, and an LLM: what one extracted from the
sentences of the set, or the folder of one that is asked live, in several ways, with demonstrations
from TRAIN. A link is fitted on one half of the sentences and scored on the other, both ways, over
several draws of the halves. Printed are strict F1 of the local model and of the LLM (of a recording
its own extraction, of a live one its answers about every candidate taken at their word); and the
gain at shares of the candidates asked: the most uncertain ones with answers that override, and by
the link. Last, the answers are dealt out at random: a useless LLM, which a link must not ask.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.measure import write_json
from linkner_ray.config import (
    DemonstrationsConfig,
    EvaluateSet,
    LlmConfig,
    RecognizeConfig,
    RoutingConfig,
    SentencesConfig,
)
from linkner_ray.corpora.scores import document_counts
from linkner_ray.evaluation.judge import Gold, entity_triples
from linkner_ray.evaluation.measure_link import classes_of, fit_on, recognize_set
from linkner_ray.evaluation.plan import LabelledSet, load_labelled_set
from linkner_ray.evaluation.recorded import extraction_f1
from linkner_ray.evaluation.ways_of_asking import Asker, ways_of
from linkner_ray.labels import LabelSet
from linkner_ray.linking.judged import Answers
from linkner_ray.linking.link import Link
from linkner_ray.reporting.figures import as_svg, finish, new_strips
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.schemas import STAGE_COLUMNS, list_offsets, make_lists
from linkner_ray.spanner.checkpoint import local_checkpoint, read_parts
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.contract import apply_stage

SHARES = ("5%", "10%", "20%", "50%", "100%")
LEAST = 1e-9
"""As `routing.min_gain`: whoever may gain anything is asked, as far as the share reaches."""


class Pair(NamedTuple):
    """A local model, a labelled set and an LLM.

    Attributes:
        name: What tables and plots call it.
        checkpoint: Folder that training wrote.
        path: Labelled set in its labels.
        llm: A recording as `llm.replay_path`, or the folder of a model.
        train: Labelled corpus for demonstrations; empty for none.
    """

    name: str
    checkpoint: str
    path: str
    llm: str
    train: str = ""

    @classmethod
    def of(cls, given: str) -> "Pair":
        """As `--pair` has it."""
        name, _, paths = given.partition("=")
        return cls(name, *paths.split(":"))

    def ways(self, label_set: LabelSet) -> Iterator[tuple[str, LlmConfig]]:
        """Each way in which the LLM is asked, by name: those that `linkner link` compares."""
        if not Path(self.llm).is_dir():
            yield "recorded", LlmConfig(backend="replay", model="recorded", replay_path=self.llm)
            return
        shown = DemonstrationsConfig(corpus=self.train)
        llm = LlmConfig(model=self.llm, max_model_len=2048, demonstrations=shown)
        for way in ways_of(llm, RecognizeConfig(checkpoint=self.checkpoint), label_set):
            yield f"{way.answer_form}, {way.demonstrations.kind}", way


class Measured(NamedTuple):
    """What asking gains on one pair in one way; F1 in percent.

    Attributes:
        local: Of the local model.
        llm: Of the LLM.
        right: Share of all candidates about which the LLM is right, in percent.
        tokens: Of a prompt.
        gains: F1 less that of the local model, by way and share asked.
    """

    local: float
    llm: float
    right: float
    tokens: float
    gains: dict[str, dict[str, float]]


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the benchmark, print its tables, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--pair", action="append", required=True, help="NAME=MODEL:SET:RECORDING or :LLM[:TRAIN]"
    )
    parser.add_argument("--draws", type=int, default=3, help="ways to cut the set in halves")
    parser.add_argument("--sentences", type=int, help="no more of each set, drawn at random")
    parser.add_argument(
        "--way", action="append", help="ask a live LLM in this way alone, such as 'name, nearest'"
    )
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--plot", type=Path, help="write the gains here, as SVG")
    options = parser.parse_args(argv)
    found: dict[str, Measured] = {}
    for pair in map(Pair.of, options.pair):
        for asked, one in measure(pair, options.draws, options.sentences, options.way):
            name = pair.name if asked == "recorded" else f"{pair.name}, {asked}"
            found[name] = one
            print(f"\n{name}: {describe(one)}", flush=True)
    numbers = {
        f"{key}_{name}": value for name, one in found.items() for key, value in flat(one).items()
    }
    if options.json is not None:
        write_json(options.json, numbers)
    if options.plot is not None:
        options.plot.write_bytes(draw(found))
    return numbers


def describe(one: Measured) -> str:
    """What was measured in one way, as Markdown."""
    rows = [
        {"gain of": way, **{share: f"{gain:+.2f}" for share, gain in gains.items()}}
        for way, gains in one.gains.items()
    ]
    return (
        f"local F1 {one.local:.2f}, LLM {one.llm:.2f}; it is right about {one.right:.1f} % of "
        f"the candidates, {one.tokens:.0f} prompt tokens a question; gain by share asked"
        f"\n\n{markdown_table(rows)}"
    )


def flat(one: Measured) -> dict[str, float]:
    """The numbers of one way."""
    gains = {f"{way}_{s}": gain for way, by in one.gains.items() for s, gain in by.items()}
    return {"f1_local": one.local, "f1_llm": one.llm, "right": one.right, **gains}


def draw(found: dict[str, Measured]) -> bytes:
    """Gains by share asked, a strip for each pair and way, as SVG."""
    figure, strips = new_strips(0.6 + 1.7 * len(found), len(found))
    for axes, (name, one) in zip(strips, found.items(), strict=True):
        for way, by_share in one.gains.items():
            label = way.replace("_", " ") if axes is strips[-1] else None
            axes.plot(range(len(SHARES)), list(by_share.values()), marker="o", label=label)
        axes.axhline(0.0, color="grey", linewidth=0.8)
        axes.set_ylabel("points of F1")
        finish(figure, axes, f"{name} (local {one.local:.1f}, LLM {one.llm:.1f})")
    strips[-1].set_xticks(range(len(SHARES)), [share.replace("%", " %") for share in SHARES])
    strips[-1].set_xlabel("share of the candidates asked about")
    return as_svg(figure)


def measure(
    pair: Pair, draws: int, sentences: int | None, wanted: Sequence[str] | None
) -> Iterator[tuple[str, Measured]]:
    """Measure one pair in each way that its LLM can be asked.

    Args:
        pair: What is measured.
        draws: Ways to cut the set in halves.
        sentences: How many of the set are drawn; None for all.
        wanted: Ways to ask a live LLM in; None for all.
    """
    chain, labelled, recognized = recognized_set(pair)
    rows = np.arange(recognized.num_rows)
    if sentences is not None:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:sentences])
    gold = [labelled.gold[row] for row in rows]
    bare = recognized.take(pa.array(rows))
    with Asker(chain) as asker:
        for asked, llm in pair.ways(chain.label_set):
            if wanted and asked not in (*wanted, "recorded"):
                continue
            found = _measured(replace(chain, llm=llm), asker.ask(llm, bare), gold, draws)
            if llm.replay_path is not None:
                alone = extraction_f1(llm.replay_path, [labelled.sentences[row] for row in rows])
                found = found._replace(llm=100 * (alone or 0.0))
            yield asked, found


def recognized_set(pair: Pair) -> tuple[Chain, LabelledSet, pa.Table]:
    """A chain that asks about everything, and the set with its candidates."""
    parts = read_parts(local_checkpoint(pair.checkpoint))
    labelled = load_labelled_set(EvaluateSet(name="set", path=pair.path), parts)
    chain = Chain(
        label_set=parts.label_set,
        recognize=RecognizeConfig(checkpoint=pair.checkpoint),
        llm=LlmConfig(backend="none"),
        has_llm=True,
        routing=RoutingConfig(threshold=0.0, per_name=None),
        sentences=SentencesConfig(),
    )
    return chain, labelled, recognize_set(chain, labelled)


def _measured(chain: Chain, table: pa.Table, gold: Gold, draws: int) -> Measured:
    classes = chain.label_set.classes
    answers = table["answers"].combine_chunks()
    said = Answers.of(answers, classes).said
    local = f1_of(gold, chain.decide_locally(table))
    overriding = {share: f1_of(gold, _fused(chain, table, share, None)) for share in SHARES}
    ways = {
        "overriding": overriding,
        "link": _linked(chain, table, gold, draws),
        "link_of_dealt_answers": _linked(chain, dealt_out(table), gold, draws),
    }
    return Measured(
        local=local,
        llm=overriding["100%"],
        right=100 * float((said == classes_of(table, gold, classes)).mean()),
        tokens=pc.mean(pc.struct_field(answers.flatten(), "prompt_tokens")).as_py() or 0.0,
        gains={
            way: {s: f1 - local for s, f1 in by_share.items()} for way, by_share in ways.items()
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
    asking = replace(chain, routing=RoutingConfig(budget=share, per_name=None, **rules), link=link)
    bare = table.drop_columns(["routes"]).combine_chunks()
    routed = apply_stage(asking.route(), bare)
    return apply_stage(asking.fuse(), routed)


if __name__ == "__main__":
    main()
