"""Logs as JSON: every line on standard error is one object, of the driver and of the workers."""

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from linkner_ray.logs import JsonFormatter
from tests.crawl import overrides, write_checkpoint, write_crawl
from tests.endpoint_server import Server


def line_of(message, *arguments, **record):
    made = logging.LogRecord("linkner_ray.x", logging.WARNING, "", 1, message, arguments, None)
    vars(made).update(record)
    return JsonFormatter().format(made)


def test_a_record_is_one_line_with_its_own_fields():
    line = line_of("%d units\nof \u201cx\u201d", 3, event="progress", units=3, _ray_x=1)
    assert "\n" not in line
    facts = json.loads(line)
    assert datetime.fromisoformat(facts.pop("time")).tzinfo == UTC
    assert facts.pop("pid") == os.getpid()
    assert facts.pop("host")
    assert facts == {
        "level": "WARNING", "logger": "linkner_ray.x", "message": "3 units\nof \u201cx\u201d",
        "event": "progress", "units": 3,
    }  # fmt: skip


def test_what_is_no_json_is_told_as_text():
    assert json.loads(line_of("x", zone=UTC))["zone"] == "UTC"


def test_an_error_brings_its_traceback():
    try:
        int("what went wrong")
    except ValueError:
        line = line_of("failed", exc_info=sys.exc_info())
    assert "what went wrong" in json.loads(line)["error"].splitlines()[-1]


def linkner(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "linkner_ray.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def events(done):
    """Every line of standard error, read as JSON."""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_why_a_command_ends_is_an_event(tmp_path):
    write_crawl(tmp_path / "crawl")
    arguments = overrides(tmp_path / "crawl", tmp_path / "out", tmp_path / "nowhere")
    done = linkner("extract", *arguments, "logging.format=json")
    [event] = events(done)
    assert (done.returncode, event["exit_code"], event["event"]) == (2, 2, "end")
    assert event["level"] == "ERROR"
    assert str(tmp_path / "nowhere") in event["message"]
    text = linkner("extract", *arguments)
    assert text.stderr == f"linkner: {event['message']}\n"


@pytest.mark.ray
def test_a_run_with_failures_writes_nothing_but_objects(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    crawl = write_crawl(tmp_path / "crawl")
    server = Server()
    started = iter([True])
    good = server.reply
    server.reply = lambda *call: good(*call) if next(started, False) else (400, {"error": "no"})
    llm = [
        "llm.backend=openai", f"llm.base_url={server.url}", "llm.model=judge",
        "llm.max_retries=0", "routing.threshold=0.3", "resources.check=false",
    ]  # fmt: skip
    done = linkner(
        "extract", *overrides(crawl, tmp_path / "out", checkpoint, *llm), "logging.format=json",
        RAY_ADDRESS="local",
    )  # fmt: skip
    server.close()
    assert done.returncode == 3, done.stderr
    of_core, found = [], []
    for one in events(done):
        (of_core if "asctime" in one else found).append(one)
    assert all("message" in one for one in of_core)
    assert all({"time", "level", "logger", "message", "host", "pid"} <= set(one) for one in found)
    last = [one for one in found if one.get("event") == "progress"][-1]
    assert (last["shards"], last["shards_done"], last["documents"]) == (4, 4, 33)
    assert last["questions"] > 0
    assert last["documents_per_s"] == pytest.approx(33 / last["seconds"], rel=0.02)
    [end] = [one for one in found if one.get("event") == "end"]
    assert end["exit_code"] == 3
    driver = {one["pid"] for one in found if one.get("event")}
    workers = [one for one in found if one["pid"] not in driver]
    assert any(one["logger"].startswith("linkner_ray.llm") for one in workers)
    assert "documents" in done.stdout
