"""Every test is run by `make test` or by `make soak`, and `make test` has each real thing once."""

import re
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

from tests.conftest import COLLECTED

MAKEFILE = Path(__file__).parent.parent / "Makefile"

REAL_THINGS = {
    "Ray Train with a killed worker": "tests/training/test_job.py::test_a_killed_worker_goes_on",
    "Ray Data with a vLLM engine": "tests/examples/demo/test_run.py::test_the_engine_answers",
    "S3": "tests/test_jobs.py::test_the_same_job_from_and_to_s3",
    "a submitted job that fails": "tests/test_jobs.py::test_a_submitted_job_with_a_wrong_config",
    "a submitted job that is stopped, and one that succeeds": (
        "tests/test_jobs.py::test_a_submitted_job_can_be_stopped_and_succeeds"
    ),
    "a killed driver": "tests/test_jobs.py::test_a_run_killed_in_the_middle",
    "a night": "tests/nightly/test_night.py::test_a_night_on_ray",
    "a lost node": "tests/extract/test_several_nodes.py::test_a_node_that_is_lost_while_encoding",
}


@pytest.fixture
def tiers():
    """The marker expression of each tier, as the Makefile hands it to pytest."""
    found = re.findall(
        r'^(test|soak):.*\n\t.*pytest.* -m "([^"]+)"', MAKEFILE.read_text(), re.I | re.M
    )
    assert [name for name, _ in found] == ["test", "soak"]
    return {name: Expression.compile(expression) for name, expression in found}


def test_every_test_is_in_exactly_one_tier(tiers, pytestconfig):
    for test, markers in pytestconfig.stash[COLLECTED].items():
        where = [name for name, tier in tiers.items() if tier.evaluate(markers.__contains__)]
        assert len(where) == 1, f"{test} is in {where or 'no tier'}"


@pytest.mark.parametrize("thing", REAL_THINGS)
def test_each_real_thing_is_tested_every_time(tiers, pytestconfig, thing):
    collected = pytestconfig.stash[COLLECTED]
    module = REAL_THINGS[thing].partition("::")[0]
    if not any(test.startswith(module) for test in collected):
        pytest.skip(f"{module} was not asked for")
    found = [test for test in collected if test.startswith(REAL_THINGS[thing])]
    assert any(tiers["test"].evaluate(collected[test].__contains__) for test in found), thing
