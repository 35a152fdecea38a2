"""What a driver holds for a run of very many units, and its manifest; no Ray.

It holds sources, unit results and the list of files; each unit has two of these.
"""

import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from benchmarks.measure import MEBIBYTE
from linkner_ray.config import ExtractConfig
from linkner_ray.extract.plan import Plan, remaining
from linkner_ray.labels import load_label_set
from linkner_ray.runs.counters import UNCERTAINTY_BINS, add_counts, uncertainty_counter
from linkner_ray.runs.folder import RunFolder, UnitResult
from linkner_ray.runs.manifest import FILES, MANIFEST, FileEntry, FileList, read_manifest
from linkner_ray.runs.units import Source, unit_name

UNITS_PER_SHARD = 10

Numbers = dict[str, object]


def simulate_plan(num_units: int) -> Numbers:
    """Hold sources, and unit results of all units but those of every hundredth shard; then plan.

    A unit result comes as the JSON that a worker sends, with the counters of an ordinary unit.
    """
    before = _resident_mib()
    started = time.process_time()
    plan = _plan(num_units // UNITS_PER_SHARD)
    sources_mib = _resident_mib() - before
    unit_results = []
    files = FileList()
    totals: dict[str, int] = {}
    for index, source in enumerate(plan.sources):
        if index % 100 == 0:
            continue
        digest = source.digest(plan.digest)
        for place in range(UNITS_PER_SHARD):
            unit_result = UnitResult.from_record(json.loads(_unit_result(source, digest, place)))
            unit_results.append(unit_result)
            files.add(_files(unit_result))
    received_s = time.process_time() - started
    started = time.process_time()
    for unit_result in unit_results:
        add_counts(totals, unit_result.counts)
    added_s = time.process_time() - started
    started = time.process_time()
    todo = remaining(plan, unit_results, "out")
    planned_s = time.process_time() - started
    driver_mib = _resident_mib() - before
    sources = {source.digest(plan.digest): source for source in plan.sources}
    written = _write_manifest(unit_results, files, sources)
    numbers: Numbers = {
        "planned_units": num_units,
        "planned_shards": len(plan.sources),
        "planned_driver_mib": driver_mib,
        "planned_sources_mib": sources_mib,
        "planned_kib_per_unit": driver_mib * 1024 / max(num_units, 1),
        "planned_receive_cpu_s": received_s,
        "planned_add_cpu_s": added_s,
        "planned_remaining_cpu_s": planned_s,
        "planned_shards_left": len(todo),
        **written,
        "planned_driver_mib_manifest": _resident_mib() - before,
    }
    for name, value in numbers.items():
        print(f"{name:<27} {value:,.1f}" if isinstance(value, float) else f"{name:<27} {value:,}")
    return numbers


def _files(unit_result: UnitResult) -> list[FileEntry]:
    digest = hashlib.blake2b(unit_result.unit.encode(), digest_size=16).hexdigest()
    rows = unit_result.counts["documents_entities"] + unit_result.counts["documents_empty"]
    return [
        FileEntry(path=f"{below}/{unit_result.file_name}", rows=rows, size_bytes=1, digest=digest)
        for below in ("entities", "candidates")
    ]


def _write_manifest(
    unit_results: Sequence[UnitResult], files: FileList, sources: Mapping[str, Source]
) -> Numbers:
    """Finish the run, and read its manifest back."""
    with tempfile.TemporaryDirectory() as output:
        run = RunFolder(output)
        started = time.process_time()
        run.finish(unit_results, files, {}, sources=sources)
        written_s = time.process_time() - started
        started = time.process_time()
        listed = read_manifest(run.folder).files
        read_s = time.process_time() - started
        size = sum((Path(output) / name).stat().st_size for name in (MANIFEST, FILES))
    return {
        "manifest_files": listed.num_rows,
        "manifest_mib": size / MEBIBYTE,
        "manifest_in_memory_mib": listed.nbytes / MEBIBYTE,
        "manifest_write_cpu_s": written_s,
        "manifest_read_cpu_s": read_s,
    }


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
    fingerprint = {"config": config.deciding()}
    return Plan(
        config=config,
        label_set=load_label_set("conll03"),
        fingerprint=fingerprint,
        sources=sources,
    )


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
        "audited", "over_budget", "same_name", "questions", "verdict_label", "verdict_non_entity",
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
            "began": dict.fromkeys(stages, 1.7e9 + place),
            "workers": dict.fromkeys(stages, 20_000 + place),
            "costs": {"questions_asked": place, "questions_from_cache": 0},
        }
    )


def _resident_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "linux" else peak / MEBIBYTE
