"""How many questions does the answer cache spare a second night that shares most pages?

    python -m benchmarks.nights --checkpoint models/conll03 --crawl web/crawl --cache /tmp/cache

The pages are read in the order of their shards; the first night gets all but the last tenth, the
second all but the first. Pages go through the stages of a run as far as the question; what answers
is of no matter here and says non-entity to everything, so no engine is needed.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from benchmarks.measure import write_json
from linkner_ray.config import (
    InputConfig,
    LlmConfig,
    RecognizeConfig,
    RoutingConfig,
    SentencesConfig,
)
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends.cache_backend import CacheBackend
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.prompts import Answer, Request, Verdict, choose_symbols
from linkner_ray.readers import list_sources, read_units
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.route_spans import RouteSpans
from linkner_ray.stages.split_sentences import SplitSentences

Numbers = dict[str, object]

UNIT_DOCUMENTS = 32


class SaysNo:
    """A backend that calls everything a non-entity and counts what it is asked."""

    decoding = "always non-entity"

    def __init__(self, label_set: LabelSet) -> None:
        self.symbols = choose_symbols(len(label_set.classes))
        self.num_asked = 0

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer every request."""
        self.num_asked += len(requests)
        return [Answer(verdict=Verdict.NON_ENTITY, key=request.key) for request in requests]

    def describe(self) -> dict[str, str | int]:
        """What it is."""
        return {"backend": "says no", "requests": self.num_asked}

    def close(self) -> None:
        """Nothing to free."""


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="folder that training wrote")
    parser.add_argument("--crawl", required=True, help="shards of pages, as `input.paths` takes")
    parser.add_argument("--cache", help="folder for the answer cache, which must be new")
    parser.add_argument("--threshold", type=float, default=RoutingConfig().threshold)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recognize = RecognizeSpans(
        RecognizeConfig(checkpoint=options.checkpoint, device="cpu", dtype=options.dtype)
    )
    units = read_pages(options.crawl)
    split, route = (
        SplitSentences(SentencesConfig()),
        RouteSpans(RoutingConfig(threshold=options.threshold)),
    )
    tables = [apply_stage(route, apply_stage(recognize, apply_stage(split, u))) for u in units]
    pages = pa.concat_tables(tables).combine_chunks()
    with tempfile.TemporaryDirectory() as folder:
        numbers = run(pages, recognize.label_set, options.cache or f"{folder}/cache")
    print(_report(numbers))
    if options.json:
        write_json(options.json, numbers)
    return numbers


def read_pages(path: str) -> list[pa.Table]:
    """Documents of all shards, a table for each unit."""
    config = InputConfig(paths=(path,), unit_documents=UNIT_DOCUMENTS)
    return [
        unit.documents
        for source in list_sources(config)
        for unit in read_units(source, config=config, errors_raw_chars=0, done={})
    ]


def run(pages: pa.Table, label_set: LabelSet, cache: str) -> Numbers:
    """Ask about two nights of routed pages.

    Args:
        pages: With `routes`.
        label_set: Labels on offer.
        cache: Folder, which must be new.
    """
    tenth = pages.num_rows // 10
    nights = {"first": pages.slice(0, pages.num_rows - tenth), "second": pages.slice(tenth)}
    numbers: Numbers = {"pages": pages.num_rows, "pages_shared": pages.num_rows - 2 * tenth}
    config = LlmConfig(backend="vllm", model="says-no")
    for name, night in nights.items():
        backend = SaysNo(label_set)
        known = AnswerCache(cache, model=config.model, classes=label_set.classes)
        classify = ClassifySpans(CacheBackend(backend, known), label_set, config=config)
        for first in range(0, night.num_rows, UNIT_DOCUMENTS):
            apply_stage(classify, night.slice(first, UNIT_DOCUMENTS))
        uncertain = pc.sum(pc.equal(pc.list_flatten(night["routes"]), "llm")).as_py() or 0
        numbers |= {
            f"uncertain_spans_{name}": uncertain,
            f"questions_{name}": backend.num_asked,
            f"ratio_spans_to_questions_{name}": uncertain / max(1, backend.num_asked),
        }
    return numbers


def _report(numbers: Numbers) -> str:
    rows = [
        {
            "night": name,
            "uncertain spans": f"{numbers[f'uncertain_spans_{name}']:,}",
            "questions": f"{numbers[f'questions_{name}']:,}",
            "spans a question": f"{numbers[f'ratio_spans_to_questions_{name}']:.2f}",
        }
        for name in ("first", "second")
    ]
    head = f"{numbers['pages']} pages, {numbers['pages_shared']} of them in both nights"
    return "\n".join([head, "", markdown_table(rows)])


if __name__ == "__main__":
    main()
