"""Metrics of a run, read where Prometheus reads them, against the report's own sums."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from linkner_ray.extract.metrics import COUNTED, UNIT_SECONDS, RunMetrics
from linkner_ray.runs.folder import UnitResult
from tests.crawl import overrides, write_checkpoint, write_crawl
from tests.endpoint_server import Server, completion

LLM = ["llm.backend=openai", "llm.model=judge", "routing.threshold=0.3", "routing.audit_share=0.2"]


def run_job(arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "tests.metrics_job", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """What a run counted, and what its node showed."""
    folder = tmp_path_factory.mktemp("metrics")
    checkpoint = write_checkpoint(folder / "checkpoint")
    crawl = write_crawl(folder / "crawl")
    server = Server()
    server.reply = lambda number, _: (
        (400, {"error": "no"})
        if number % 5 == 4
        else (200, completion("A", {"A": 0.6, "B": 0.3, "C": 0.05, "D": 0.05}))
    )
    cache = f"cache.path={folder / 'cache'}"
    llm = [*LLM, f"llm.base_url={server.url}", "llm.max_retries=0", cache]
    more = [*llm, "errors.max_failed_answers_share=1"]
    yield run_job(overrides(crawl, folder / "out", checkpoint, *more))
    server.close()


def shown(job, name, tag):
    """Samples of a metric by the value of its one tag."""
    found = [(tags, value) for sample, tags, value in job["samples"] if sample == name]
    assert all(set(tags) == {tag} for tags, _ in found)
    assert len({tags[tag] for tags, _ in found}) == len(found)
    return {tags[tag]: value for tags, value in found}


@pytest.mark.ray
def test_every_counter_is_the_sum_of_the_report(job):
    counts = {**job["totals"], **job["costs"]}
    for counted in COUNTED:
        expected = {value: counts.get(name, 0) for value, name in counted.of.items()}
        expected = {value: count for value, count in expected.items() if count}
        assert shown(job, f"ray_{counted.name}_total", counted.tag) == expected, counted.name
    # worth something only if the run had all of it
    assert counts["documents_quarantined"] == 2
    assert min(counts[name] for name in (
        "documents_entities", "routed", "audited", "verdict_label", "verdict_failed",
        "questions_asked", "questions_from_cache", "candidates_predicted",
        "entities_source_local",
    )) > 0  # fmt: skip


@pytest.mark.ray
def test_every_unit_is_in_the_histogram_of_each_stage(job):
    counts = shown(job, "ray_linkner_unit_seconds_count", "stage")
    assert counts == dict.fromkeys(job["seconds"], job["units"])
    seconds = shown(job, "ray_linkner_stage_seconds_total", "stage")
    assert seconds == pytest.approx(job["seconds"])
    bounds = {
        float(tags["le"]) for name, tags, _ in job["samples"] if name.endswith("seconds_bucket")
    }
    assert bounds == {*UNIT_SECONDS, float("inf")}


@pytest.mark.ray
def test_bytes_are_those_of_the_files(job):
    sizes = Counter()
    for path, size in job["bytes"].items():
        sizes[path.split("/")[0]] += size
    assert set(sizes) == {"entities", "candidates", "_quarantine"}
    assert shown(job, "ray_linkner_bytes_written_total", "folder") == sizes


@pytest.mark.ray
def test_shards_go_from_waiting_to_done(job):
    assert shown(job, "ray_linkner_shards", "state") == {"waiting": 0, "done": 4}


@pytest.mark.ray
def test_rebuilds_are_counted_in_the_actor_of_the_engine(job):
    rebuilds = [value for name, _, value in job["samples"] if "engine_rebuilds_total" in name]
    assert rebuilds == [3]


UNIT_RESULT = UnitResult(
    unit="u-0", source="a", first_record=0, num_records=1, is_last=True,
    counts={"documents_entities": 1}, costs={"questions_asked": 2},
    seconds={"ReadDocuments": 0.0, "RecognizeSpans": 0.5},
    files=[{"path": "entities/part-u-0.parquet", "rows": 1, "size_bytes": 10}],
)  # fmt: skip


def test_without_ray_counting_changes_nothing_and_fails_nowhere():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c",
         "from linkner_ray.extract.metrics import RunMetrics, count_rebuilds\n"
         "from linkner_ray.runs.folder import UnitResult\n"
         f"RunMetrics(shards=1).add({UNIT_RESULT!r}); count_rebuilds()()\n"
         "import ray; assert not ray.is_initialized()"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_run_of_the_same_process_counts_on():
    for _ in range(2):
        RunMetrics(shards=1).add(UNIT_RESULT)


def test_no_tag_has_more_than_ten_values():
    assert max(len(counted.of) for counted in COUNTED) <= 10
    assert len({counted.name for counted in COUNTED}) == len(COUNTED)
