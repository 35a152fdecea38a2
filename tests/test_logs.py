"""Logs as JSON: every line on standard error is one object, of the driver and of the workers."""

import json
import logging
import os
import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from linkner_ray.logs import SHOWN_OF_WORKERS, TEXT_FORMAT, JsonFormatter
from tests.crawl import overrides, write_checkpoint, write_crawl
from tests.endpoint_server import Server


def line_of(message, *arguments, **record):
    made = logging.LogRecord("linkner_ray.x", logging.WARNING, "", 1, message, arguments, None)
    vars(made).update(record)
    return JsonFormatter().format(made)


def test_a_record_is_one_line_with_its_own_fields():
    line = line_of("%d units\nof \u201cx\u201d", 3, event="progress", units=3, _ray_x=1)
    assert "\n" not in line
    fingerprint = json.loads(line)
    assert datetime.fromisoformat(fingerprint.pop("time")).tzinfo == UTC
    assert fingerprint.pop("pid") == os.getpid()
    assert fingerprint.pop("host")
    assert fingerprint == {
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


TEXT = """
import logging, os, sys, warnings
from pathlib import Path
from linkner_ray.config import LoggingConfig
from linkner_ray.logs import adopt, keep_in, log_to_console, say_last, set_up_logs
log_to_console()  # as the command does
set_up_logs(LoggingConfig())
def import_library(name):
    library = logging.getLogger(name)
    library.addHandler(logging.StreamHandler(sys.stderr))
    library.propagate = False
    adopt(name)
    return library

ray = import_library("ray")
ray.warning("token authentication")
for folder in sys.argv[1:]:
    keep_in(Path(folder))
set_up_logs(LoggingConfig())  # once more, as a second command in one process
ray.error("what is raised as well")
import_library("transformers").warning("load report")
warnings.warn("deprecated", stacklevel=1)
logging.getLogger("vllm.engine").error("died")
logging.getLogger("linkner_ray.x").warning("ours")
os.write(2, b"core_worker.cc: of C++\\n")
say_last("the end", exit_code=4)
"""


def test_what_is_not_for_the_console_is_kept_in_the_folder_it_names(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TEXT, str(tmp_path)], capture_output=True, text=True, check=True
    )
    first, died, ours, last = done.stderr.splitlines()
    assert first == f"linkner: Ray's and vLLM's own lines: {tmp_path}"
    assert died.endswith("ERROR vllm.engine: died")
    assert ours.endswith("WARNING linkner_ray.x: ours")
    assert last == "linkner: the end"
    (file,) = tmp_path.iterdir()
    kept = file.read_text()
    found = [kept.index(part) for part in ("token", "raised as well", "load report", "of C++")]
    assert found == sorted(found)
    assert "deprecated" in kept


def test_without_a_folder_all_of_it_is_shown_in_the_end():
    done = subprocess.run([sys.executable, "-c", TEXT], capture_output=True, text=True, check=True)
    shown = [done.stderr.index(part) for part in ("died", "ours", "C++", "the end", "token")]
    assert shown == sorted(shown)
    assert "what is raised as well" in done.stderr
    assert "load report" in done.stderr


@pytest.mark.parametrize(
    ("level", "name", "is_shown"),
    [
        ("INFO", "linkner_ray.training.worker", True),
        ("INFO", "linkner_ray.llm.backends.probe", False),
        ("WARNING", "linkner_ray.llm.backends.probe", True),
        ("ERROR", "linkner_ray", True),
        ("WARNING", "linkner_rayon", False),
        ("WARNING", "vllm.engine", False),
    ],
)
def test_of_workers_the_console_has_warnings_and_the_progress_of_a_training(level, name, is_shown):
    record = logging.LogRecord(name, getattr(logging, level), "", 1, "said", None, None)
    line = logging.Formatter(TEXT_FORMAT).format(record)
    assert bool(re.search(SHOWN_OF_WORKERS, line)) == is_shown
