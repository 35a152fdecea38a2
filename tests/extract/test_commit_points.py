"""Runs killed at every named point, and at any moment, by real SIGKILLs; without Ray.

`benchmarks/chaos.py` does the same on a real Ray, a run in minutes; here a run takes a second.
"""

import json
import os
import random
import shutil
import signal
import threading
import time
from dataclasses import replace
from unittest.mock import patch

import pytest

from linkner_ray.errors import ConfigError, LockLostError
from linkner_ray.extract.job import extract
from linkner_ray.extract.report import summarise, write_run_report
from linkner_ray.extract.result import find_finished
from linkner_ray.fault_injection import POINTS, VARIABLE, arm
from linkner_ray.runs import code_version as code
from linkner_ray.runs.lock import OutputLock
from linkner_ray.runs.shutdown import exit_on_signal
from linkner_ray.storage import Folder
from tests.in_process import (
    every_file,
    extract_in_process,
    plan_of,
    run_in_process,
    status_of_child,
)

pytestmark = pytest.mark.ray  # no Ray is started, but a test takes seconds

KILLED = -signal.SIGKILL


@pytest.fixture
def points(tmp_path, monkeypatch):
    """Folder of the points at which to die."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "points"))
    return tmp_path / "points"


@pytest.fixture(params=["local", "s3"])
def run(request, tmp_path, crawl, checkpoint):
    """A plan and its output."""
    output = str(tmp_path / "out")
    if request.param == "s3":
        request.getfixturevalue("s3")
        Folder.at("s3://bucket").filesystem.mkdir("bucket")
        output = "s3://bucket/out"
    return plan_of(crawl, output, checkpoint), output


def test_a_run_whose_last_marks_alone_are_missing_ends_with_a_report(run, monkeypatch):
    plan, output = run
    extract_in_process(monkeypatch, plan)
    wanted = every_file(output)
    for name in ("_SUCCESS", "_manifest.json"):
        Folder.at(output).remove(name)
    again = extract_in_process(monkeypatch, plan)
    assert (again.units_written, again.costs["questions_asked"]) == (0, 0)
    assert every_file(output) == wanted
    write_run_report(plan, again)
    told = summarise(plan, again)
    assert "asked now" in told
    assert f"report             {output}/report.html" in told
    assert f"linkner show {output} --doc ID" in told


def clear(output):
    folder = Folder.at(output)
    folder.filesystem.rm(folder.root, recursive=True)


def test_a_run_killed_at_each_point_ends_with_the_bytes_of_one_never_killed(
    run, points, monkeypatch
):
    plan, output = run
    extract_in_process(monkeypatch, plan)
    wanted = every_file(output)
    assert any(name.startswith("_quarantine/") for name in wanted)
    is_local = Folder.at(output).is_local
    for point in POINTS:
        if point == "rename" and not is_local:
            continue
        for passing in (0, 3) if point in ("write", "rename", "written") else (0,):
            clear(output)
            last = arm(points, point, passing=passing)
            assert status_of_child(lambda: extract_in_process(monkeypatch, plan)) == KILLED
            assert not last.exists()
            assert Folder.at(output).names("_lock"), "the lock of the dead is there"
            again = extract_in_process(monkeypatch, plan)
            assert every_file(output) == wanted, (point, passing)
            if point in ("manifest", "success"):
                assert again.units_written == 0


@pytest.mark.soak
def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(
    tmp_path, crawl, checkpoint, monkeypatch
):
    plan = plan_of(crawl, tmp_path / "out", checkpoint)
    started = time.monotonic()
    extract_in_process(monkeypatch, plan)
    seconds = time.monotonic() - started
    wanted = every_file(tmp_path / "out")
    dice = random.Random(11)
    killed = 0
    for _ in range(8):
        shutil.rmtree(tmp_path / "out")
        moment_s = dice.uniform(0, seconds)

        def doomed(moment_s=moment_s):
            timer = threading.Timer(moment_s, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
            extract_in_process(monkeypatch, plan)

        killed += status_of_child(doomed) == KILLED
        extract_in_process(monkeypatch, plan)
        assert every_file(tmp_path / "out") == wanted
    assert killed


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)]
)
def test_a_signal_says_what_is_done_and_lets_the_output_go(
    run, monkeypatch, capfd, number, name, code
):
    plan, output = run
    extract_in_process(monkeypatch, plan)
    wanted = every_file(output)
    clear(output)

    def stopped(*arguments, **settings):
        for units, unit_result in enumerate(run_in_process(*arguments, **settings), start=1):
            yield unit_result
            if units == 3:
                os.kill(os.getpid(), number)
                time.sleep(300)

    def stop():
        monkeypatch.setattr("linkner_ray.extract.job.run_extraction", stopped)
        with exit_on_signal() as shutdown:
            extract(plan, shutdown=shutdown)

    assert status_of_child(stop) == code
    assert f"linkner: stopped by {name}: 3 units done, kept in {output}" in (capfd.readouterr().err)
    assert Folder.at(output).names("_lock") == []
    assert not Folder.at(output).exists("_SUCCESS")
    assert extract_in_process(monkeypatch, plan).units_written == 5
    assert every_file(output) == wanted


def test_other_code_may_look_at_a_finished_output_and_not_go_on_with_a_half_one(
    tmp_path, crawl, checkpoint, monkeypatch
):
    plan = plan_of(crawl, tmp_path / "out", checkpoint)
    extract_in_process(monkeypatch, plan)
    wanted = every_file(tmp_path / "out")
    other = {**code.code_version(), "sources": "other"}
    monkeypatch.setattr("linkner_ray.extract.job.code_version", lambda: other)
    assert extract_in_process(monkeypatch, plan).units_written == 0
    assert every_file(tmp_path / "out") == wanted
    (tmp_path / "out" / "_SUCCESS").unlink()
    with pytest.raises(ConfigError, match=r"code.sources was '[0-9a-f]+', is 'other'"):
        extract_in_process(monkeypatch, plan)


def test_a_shard_that_comes_later_takes_the_mark_away_until_it_is_done(
    tmp_path, crawl, checkpoint, monkeypatch, points
):
    output = tmp_path / "out"
    some = plan_of(crawl / "a.parquet", output, checkpoint)
    extract_in_process(monkeypatch, some)
    both = plan_of(f"{crawl / 'a.parquet'}, {crawl / 'c.jsonl'}", output, checkpoint)
    arm(points, "written", passing=0)
    assert status_of_child(lambda: extract_in_process(monkeypatch, both)) == KILLED
    assert not (output / "_SUCCESS").exists()
    assert extract_in_process(monkeypatch, both).has_finished
    assert (output / "_SUCCESS").exists()


def lock_of(output):
    return OutputLock(Folder.at(str(output)), url=str(output), timeout_s=60, say=pytest.fail)


def test_an_output_that_another_run_holds_is_refused_and_left_alone(run, monkeypatch):
    plan, output = run
    with lock_of(output):
        with pytest.raises(ConfigError, match=r"out is being written by .*process"):
            extract_in_process(monkeypatch, plan)
        assert list(every_file(output)) == ["_lock/000001.json"]


def test_a_finished_output_is_looked_at_without_a_lock(tmp_path, crawl, checkpoint, monkeypatch):
    plan = plan_of(crawl, tmp_path / "out", checkpoint)
    extract_in_process(monkeypatch, plan)
    with lock_of(tmp_path / "out"):
        assert extract_in_process(monkeypatch, plan).units_written == 0


def test_a_finished_output_is_known_by_its_names_and_manifest(
    tmp_path, crawl, checkpoint, monkeypatch
):
    plan = plan_of(crawl, tmp_path / "out", checkpoint)
    first = extract_in_process(monkeypatch, plan)
    with patch("linkner_ray.runs.folder.pq.read_schema", side_effect=AssertionError):
        again = find_finished(plan)
        more = replace(plan.sources[0], path="later")
        assert find_finished(replace(plan, sources=(*plan.sources, more))) is None
    assert (again.totals, again.num_units) == (first.totals, first.num_units)
    assert [unit.unit for unit in find_finished(plan, with_units=True).unit_results] == sorted(
        unit.unit for unit in first.unit_results
    )
    with pytest.raises(ConfigError, match="no longer in the input"):
        find_finished(replace(plan, sources=plan.sources[1:]))
    next((tmp_path / "out" / "entities").iterdir()).unlink()
    assert find_finished(plan) is None


def test_a_run_that_is_taken_over_stops_before_it_finishes(run, monkeypatch):
    plan, output = run

    def taken_over(*arguments, **settings):
        yield from run_in_process(*arguments, **settings)
        folder = Folder.at(output)
        owner = json.loads(folder.read_bytes("_lock/000001.json"))
        other = json.dumps({**owner, "name": "eve@far-away, process 7", "token": "other"})
        assert folder.create_whole("_lock/000002.json", other.encode())

    monkeypatch.setattr("linkner_ray.extract.job.run_extraction", taken_over)
    with pytest.raises(LockLostError, match=r"taken over by eve@far-away, process 7"):
        extract(plan)
    left = Folder.at(output)
    assert not left.exists("_manifest.json")
    assert not left.exists("_SUCCESS")
    assert "000002.json" in left.names("_lock")
