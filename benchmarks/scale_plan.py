"""What a driver holds for a run of very many units: its sources, unit results and plan; no Ray."""

import json
import resource
import sys
import time
from functools import cache

from benchmarks.measure import MEBIBYTE
from linkner_ray.config import ExtractConfig
from linkner_ray.extract.plan import Plan, remaining
from linkner_ray.labels import load_label_set
from linkner_ray.runs.counters import UNCERTAINTY_BINS, add_counts, uncertainty_counter
from linkner_ray.runs.folder import UnitResult
from linkner_ray.runs.units import Source, unit_name

UNITS_PER_SHARD = 10

Numbers = dict[str, object]


def simulate_plan(num_units: int) -> Numbers:
    """Hold sources, and unit results of all units but those of every hundredth shard; then plan.

    A unit result comes as the JSON that a worker sends, with the counters of an ordinary unit.
    """
    before = _resident_mib()
    started = time.perf_counter()
    plan = _plan(num_units // UNITS_PER_SHARD)
    sources_mib = _resident_mib() - before
    unit_results = []
    totals: dict[str, int] = {}
    for index, source in enumerate(plan.sources):
        if index % 100 == 0:
            continue
        digest = source.digest(plan.digest)
        for place in range(UNITS_PER_SHARD):
            unit_result = UnitResult.from_record(json.loads(_unit_result(source, digest, place)))
            unit_results.append(unit_result)
    received_s = time.perf_counter() - started
    started = time.perf_counter()
    for unit_result in unit_results:
        totals = add_counts(totals, unit_result.counts)
    added_s = time.perf_counter() - started
    started = time.perf_counter()
    todo = remaining(plan, unit_results, "out")
    planned_s = time.perf_counter() - started
    driver_mib = _resident_mib() - before
    numbers: Numbers = {
        "planned_units": num_units,
        "planned_shards": len(plan.sources),
        "planned_driver_mib": driver_mib,
        "planned_sources_mib": sources_mib,
        "planned_kib_per_unit": driver_mib * 1024 / max(num_units, 1),
        "planned_receive_s": received_s,
        "planned_add_s": added_s,
        "planned_remaining_s": planned_s,
        "planned_shards_left": len(todo),
    }
    for name, value in numbers.items():
        print(f"{name:<24} {value:,.1f}" if isinstance(value, float) else f"{name:<24} {value:,}")
    return numbers


def _plan(num_shards: int) -> Plan:
    config = ExtractConfig.model_validate(
        {
            "input": {"paths": ["crawl"]},
            "output": {"path": "out"},
            "recognize": {"checkpoint": "model"},
            "llm": {"backend": "none"},
        }
    )
    sources = tuple(
        Source(
            path=f"s3://crawl/2026-11-24/segment-{index % 64:05d}/warc/shard-{index:09d}.parquet",
            format="parquet",
            size=10_000_000 + index,
            version=f"etag-{index:032x}",
        )
        for index in range(num_shards)
    )
    return Plan(config=config, label_set=load_label_set("conll03"), fingerprint={}, sources=sources)


def _unit_result(source: Source, digest: str, place: int) -> str:
    """What a worker sends for a unit."""
    return (
        _template(place)
        .replace("UNIT", unit_name(digest, place * 512))
        .replace("SOURCE", source.path)
    )


@cache
def _template(place: int) -> str:
    """A unit result without its names."""
    bins = {
        uncertainty_counter(kind, index): 37 * index + place
        for kind in ("predicted", "near_miss")
        for index in range(UNCERTAINTY_BINS)
    }
    names = (
        "documents_read", "documents_entities", "documents_empty", "documents_quarantined",
        "files_quarantined", "characters_total", "characters_in_sentences",
        "characters_between_sentences", "characters_quarantined", "sentences", "tokens",
        "candidates", "candidates_predicted", "candidates_near_miss", "routed", "stayed_local",
        "audited", "over_budget", "questions", "verdict_label", "verdict_non_entity",
        "verdict_unreadable", "verdict_failed", "prompt_tokens", "entities", "entities_PER",
        "entities_LOC", "entities_source_local", "entities_source_llm", "flips",
    )  # fmt: skip
    counts = {name: 1_000 * number + place for number, name in enumerate(names)}
    stages = ("ReadDocuments", "SplitSentences", "RecognizeSpans", "WriteEntities")
    return json.dumps(
        {
            "unit": "UNIT",
            "source": "SOURCE",
            "first_record": place * 512,
            "num_records": 512,
            "is_last": place == UNITS_PER_SHARD - 1,
            "counts": {**counts, **bins},
            "seconds": dict.fromkeys(stages, 0.1 + place),
            "costs": {"questions_asked": place, "questions_from_cache": 0},
        }
    )


def _resident_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "linux" else peak / MEBIBYTE
