"""What does one question for a name cost in F1, and how many questions does it save?

    python -m benchmarks.same_name --pair conll=CHECKPOINT:SET:RECORDING

A pair is as in `benchmarks.link`, its set in SpanNER's JSON: the sentences between two `-DOCSTART-`
entries become a document. All candidates are asked about, each with its own sentence. Printed are
points of F1 over the local model and questions by `routing.per_name`: of answers that override
from several thresholds up, and of links, each fitted on one half of the documents and used on the
other.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.link import Pair, f1_of, recognized_set
from benchmarks.measure import write_json
from linkner_ray.config import RoutingConfig
from linkner_ray.corpora.labelled import DOCUMENT_MARKER
from linkner_ray.corpora.scores import Entity
from linkner_ray.evaluation.curves import answers_of_routes
from linkner_ray.evaluation.judge import Gold
from linkner_ray.evaluation.measure_link import fit_on
from linkner_ray.evaluation.ways_of_asking import Asker
from linkner_ray.linking.judged import IntArray
from linkner_ray.linking.link import Link
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.schemas import STAGE_COLUMNS, list_offsets, make_lists, with_field
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.contract import apply_stage

THRESHOLDS = (0.0, 0.1, 0.25, 0.4)
PER_NAME = (None, 4, 2, 1)


class Part(NamedTuple):
    """Documents that are routed by the same rules."""

    rows: IntArray
    rules: dict[str, Any]
    link: Link | None


class Found(NamedTuple):
    """Points of F1 over the local model, and what they took."""

    gain: float
    questions: int


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the benchmark, print its tables, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--pair", action="append", required=True, help="NAME=CHECKPOINT:SET:RECORDING"
    )
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(argv)
    numbers = {}
    for pair in map(Pair.of, options.pair):
        found = measure(pair)
        print(f"\n{pair.name}\n\n{describe(found)}", flush=True)
        for (way, per_name), one in found.items():
            numbers[f"gain_{pair.name}_{way}_{per_name}"] = one.gain
            numbers[f"questions_{pair.name}_{way}_{per_name}"] = one.questions
    if options.json is not None:
        write_json(options.json, numbers)
    return numbers


def describe(found: dict[tuple[str, int | None], Found]) -> str:
    """What was measured of one pair, as Markdown."""
    rows = []
    for way in dict.fromkeys(way for way, _ in found):
        every = found[way, None]
        cells = {"asked": way, "each": f"{every.gain:+.2f} ({every.questions:,})"}
        for per_name in PER_NAME[1:]:
            one = found[way, per_name]
            share = one.questions / max(1, every.questions)
            cells[f"{per_name} a name"] = f"{one.gain:+.2f} ({one.questions:,}, {share:.0%})"
        rows.append(cells)
    return markdown_table(rows)


def measure(pair: Pair) -> dict[tuple[str, int | None], Found]:
    """Measure one pair by ways to choose and by `routing.per_name`."""
    chain, labelled, recognized = recognized_set(pair)
    _, llm = next(iter(pair.ways(chain.label_set)))
    with Asker(chain) as asker:
        answered = asker.ask(llm, recognized)
    chain = replace(chain, llm=llm)
    table, gold = as_documents(answered, labelled.gold, document_starts(Path(pair.path)))
    local = f1_of(gold, chain.decide_locally(table))
    found = {}
    for way, parts in _ways(chain, table, gold).items():
        for per_name in PER_NAME:
            f1, questions = _asked(chain, table, gold, parts, per_name)
            found[way, per_name] = Found(f1 - local, questions)
    return found


def _ways(chain: Chain, table: pa.Table, gold: Gold) -> dict[str, list[Part]]:
    """The parts of a set in each way to choose who is asked about."""
    everything = np.arange(table.num_rows)
    half = np.random.default_rng(0).permutation(table.num_rows) % 2
    sides = [np.flatnonzero(half == side) for side in (0, 1)]
    links = [fit_on(chain, table.take(pa.array(s)), [gold[i] for i in s]) for s in sides[::-1]]
    return {
        **{f"from {t:g}": [Part(everything, {"threshold": t}, None)] for t in THRESHOLDS},
        "by a link": [
            Part(s, {"link": "here"}, link) for s, link in zip(sides, links, strict=True)
        ],
    }


def _asked(
    chain: Chain, table: pa.Table, gold: Gold, parts: Sequence[Part], per_name: int | None
) -> tuple[float, int]:
    """F1 and questions of a set that is routed in parts."""
    tables, golden, questions = [], [], 0
    for part in parts:
        routing = RoutingConfig(per_name=per_name, **part.rules)
        asking = replace(chain, routing=routing, link=part.link)
        routed = apply_stage(asking.route(), table.take(pa.array(part.rows)).combine_chunks())
        known = answers_of_routes(routed)
        questions += pc.list_flatten(routed["routes"]).to_pylist().count("llm")
        tables.append(apply_stage(asking.fuse(), known))
        golden += [gold[row] for row in part.rows]
    return f1_of(golden, pa.concat_tables(tables)), questions


def document_starts(path: Path) -> list[int]:
    """Numbers of the sentences with which the documents of SpanNER's JSON begin."""
    starts, sentences = [], 0
    for entry in json.loads(path.read_text(encoding="utf-8")):
        if entry["context"].startswith(DOCUMENT_MARKER):
            starts.append(sentences)
        else:
            sentences += 1
    return starts


def as_documents(table: pa.Table, gold: Gold, starts: Sequence[int]) -> tuple[pa.Table, Gold]:
    """Answered sentences as documents, a line each.

    Args:
        table: The sentences with `candidates` and `answers`.
        gold: Of the sentences.
        starts: The first sentence of each document.
    """
    texts = table["text"].to_pylist()
    bounds = np.array([*starts, len(texts)])
    begins = np.cumsum([0, *(len(text) + 1 for text in texts)])
    document = np.searchsorted(bounds, np.arange(len(texts)), side="right") - 1
    shift = begins[:-1] - begins[bounds[document]]
    candidates, answers = (table[name].combine_chunks() for name in ("candidates", "answers"))
    of_each = pa.array(shift[pc.list_parent_indices(candidates).to_numpy()], pa.int32())
    for name in ("start", "end"):
        moved = pc.add(pc.struct_field(candidates.flatten(), name), of_each)
        candidates = with_field(candidates, name, moved)
    columns = {
        "doc_id": [str(number) for number in range(len(starts))],
        "text": ["\n".join(texts[first:end]) for first, end in pairwise(bounds.tolist())],
        "sentences": pa.array([[] for _ in starts], STAGE_COLUMNS["sentences"]),
    }
    for name, lists in (("candidates", candidates), ("answers", answers)):
        whole = list_offsets(lists)[bounds]
        columns[name] = make_lists(lists.flatten(), whole, STAGE_COLUMNS[name])
    joined: list[list[Entity]] = [[] for _ in starts]
    for row, golden in enumerate(gold):
        move = int(shift[row])
        joined[document[row]] += [(start + move, end + move, label) for start, end, label in golden]
    return pa.table(columns), joined


if __name__ == "__main__":
    main()
