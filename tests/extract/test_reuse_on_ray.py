"""Incremental runs on a real Ray: the index in the object store, encoders that are not loaded."""

import shutil

import pytest

from linkner_ray.extract.job import extract
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.extract.report import summarise, write_run_report
from linkner_ray.runs.previous import open_previous
from tests.crawl import (
    config_of,
    files_of,
    overrides,
    text_of,
    write_checkpoint,
    write_crawl,
    write_parquet,
)
from tests.local_pipeline import extract_here

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("two_cpus"),
]


def test_on_ray_a_changed_crawl_gives_the_bytes_of_a_full_run(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    crawl = write_crawl(tmp_path / "crawl")

    def settings(output):
        return overrides(crawl, output, checkpoint, "recognize.batch_scope=document")

    monday, output = tmp_path / "monday", tmp_path / "tuesday"
    extract_here(*settings(monday))
    (crawl / "b.parquet").rename(crawl / "renamed.parquet")
    write_parquet(crawl / "new.parquet", [text_of(700), text_of(0), text_of(701)], first=300)
    full = extract_here(*settings(output))
    expected = files_of(output)
    shutil.rmtree(output)
    plan = plan_extraction(config_of(*settings(output)))
    quick = extract(plan, previous=open_previous(str(monday), plan.fingerprint, output=str(output)))
    assert files_of(output) == expected
    assert quick.totals == full.totals
    assert quick.costs["redone_text_new"] == 2
    assert quick.costs["documents_reused"] > 20
    write_run_report(plan, quick)
    taken = f"{quick.costs['documents_reused']} documents with"
    assert taken in (output / "report.md").read_text()
    assert taken in summarise(plan, quick)


@pytest.mark.soak
def test_on_ray_another_threshold_loads_no_encoder(tmp_path):
    """The weights are emptied after planning: an actor that loaded them would end the run."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    write_parquet(crawl / "a.parquet", [text_of(number) for number in range(8)])
    extract(plan_extraction(config_of(*overrides(crawl, tmp_path / "before", checkpoint))))
    output = tmp_path / "out"
    plan = plan_extraction(
        config_of(*overrides(crawl, output, checkpoint, "routing.threshold=0.7"))
    )
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(b"")
    known = open_previous(str(tmp_path / "before"), plan.fingerprint, output=str(output))
    result = extract(plan, previous=known)
    assert result.costs["documents_reused"] == result.totals["documents_read"] == 8
