"""The steps of a run one after the other in this process: what a run does, without a cluster."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import pyarrow as pa

from linkner_ray.config import ExtractConfig
from linkner_ray.labels import LabelSet
from linkner_ray.runs.folder import Receipt
from linkner_ray.runs.units import Source
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.route_spans import RouteSpans
from linkner_ray.unit_steps import UNIT_ROW, apply_stages, read_sources, write_units


def run_here(
    config: ExtractConfig,
    *,
    plan_digest: str,
    label_set: LabelSet,
    todo: Sequence[tuple[Source, list[int]]],
    sources: Sequence[Source],
) -> Iterator[Receipt]:
    """In place of `pipeline.run_extraction`, for a run that has no LLM."""
    del sources
    stages = [
        RecognizeSpans(config.recognize),
        RouteSpans(config.routing, has_llm=False),
        ClassifySpans(None, label_set, config=config.llm),
    ]
    items = [
        {"source": json.dumps(asdict(source)), "done": done, "allotment": None}
        for source, done in todo
    ]
    for units in read_sources(
        pa.Table.from_pylist(items),
        plan_digest=plan_digest,
        config=config.input,
        sentences=config.sentences,
        raw_chars=config.errors.raw_chars,
    ):
        rows = [apply_stages(row, stages) for row in units.to_pylist()]
        written = write_units(
            pa.Table.from_pylist(rows, schema=UNIT_ROW),
            output=config.output,
            fusion=config.fusion,
            label_set=label_set,
        )
        for row in written.to_pylist():
            yield Receipt.from_facts(json.loads(row["receipt"]))
