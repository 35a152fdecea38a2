"""A local model that computes NaN for pages: these are quarantined, and too many end the run."""

import pytest

from linkner_ray.api import LinkNER
from linkner_ray.errors import StartupError
from linkner_ray.extract import job, limits
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.nightly.estimate import SampleSettings, estimate_run
from tests.crawl import config_of, overrides, write_parquet
from tests.spanner.tiny import without_a_number

pytestmark = pytest.mark.usefixtures("without_ray")

PAGES = ["Paris and London", "Obama visited the World Bank", "Berlin", "", "New York"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    without_a_number("Obama", max_width=3).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run(tmp_path, checkpoint):
    write_parquet(tmp_path / "a.parquet", PAGES)

    def run(*more):
        settings = ["input.unit_documents=1", *more]
        arguments = overrides(tmp_path / "a.parquet", tmp_path / "out", checkpoint, *settings)
        return job.extract(plan_extraction(config_of(*arguments)))

    return run


def test_over_the_limit_a_run_ends_with_4_and_goes_on_under_another(run, tmp_path):
    with pytest.raises(StartupError, match=r"for 1 of 5 documents, over errors.max_share = 0.19"):
        run("errors.max_share=0.19")
    assert StartupError.exit_code == 4
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    result = run("errors.max_share=0.2")
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert result.units_written == 0
    assert result.totals["quarantine_not_finite"] == result.totals["documents_quarantined"] == 1
    assert result.totals["documents_empty"] + result.totals["documents_entities"] == 4
    assert not result.problems


def test_a_run_does_not_wait_for_its_end_to_say_so(run, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FINITE_DOCUMENTS", 2)
    with pytest.raises(StartupError, match="for 1 of 2 documents"):
        run("errors.max_share=0.19")
    assert len(list((tmp_path / "out" / "entities").iterdir())) == 2


def test_an_estimate_passes_over_as_many_as_a_run_does(tmp_path, checkpoint):
    write_parquet(tmp_path / "a.parquet", PAGES)

    def estimate(share):
        arguments = overrides(
            tmp_path / "a.parquet", "out", checkpoint, f"errors.max_share={share}"
        )
        return estimate_run(plan_extraction(config_of(*arguments)), SampleSettings())

    assert estimate(0.2).sampled_documents == 4
    with pytest.raises(StartupError, match=r"for 1 of 5 documents, over errors.max_share = 0.19"):
        estimate(0.19)


def test_a_text_without_a_number_is_an_error_where_nothing_is_written(checkpoint):
    linkner = LinkNER.from_pretrained(checkpoint)
    assert linkner.predict(["Berlin"])
    with pytest.raises(StartupError, match=r"for 1 documents, such as '1'; set recognize.dtype"):
        linkner.predict(PAGES)
