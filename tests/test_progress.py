"""How far a long step is: on a terminal, in a pipe, where logs are JSON, and where nobody asked."""

import json
import os
import pty
import re
import subprocess
import sys
import threading

import pytest

from linkner_ray.logs import QUIET, progress
from linkner_ray.logs.progress import Step, duration, shown, step, track

SHOW = """
import sys, time
from linkner_ray.logs import log_as_json, progress

progress.BAR_AFTER_S = progress.BAR_INTERVAL_S = progress.LINE_INTERVAL_S = 0.1
if "json" in sys.argv:
    log_as_json()
with progress.shown():
    for number in progress.track(range(4), "[things]", 4):
        time.sleep(0.15)
        if number == 1:
            print("from elsewhere")
            for _ in progress.track(range(2), "inner", 2):
                time.sleep(0.15)
print("after")
"""


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_follows_from_what_was_done_since_the_first_look(clock):
    step = Step("steps", 1000)
    assert step.numbers == "0 of 1,000"
    clock[0] += 50  # starting
    step.update(400)  # of a training that goes on
    assert step.numbers == "400 of 1,000"
    clock[0] += 10
    step.update(500, "loss 0.1")
    assert step.left_s == 50
    step.update(500)
    assert step.numbers == "500 of 1,000, 50 s left; loss 0.1"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (9000, "2.5 h")]
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", SHOW, *arguments], text=True, check=True, capture_output=True
    )


def test_a_pipe_has_a_line_now_and_then_without_a_control_character():
    done = run()
    assert done.stdout == "from elsewhere\nafter\n"
    assert done.stderr.isprintable() or set(done.stderr) - set("\n") == set(
        filter(str.isprintable, done.stderr)
    )
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 10
    assert all(re.fullmatch(r"\[things\]: \d of 4(, \d s left)?", line) for line in lines)


def test_json_logs_have_events():
    events = [json.loads(line) for line in run("json").stderr.splitlines()]
    assert {event["event"] for event in events} == {"progress"}
    assert {(event["step"], event["total"]) for event in events} == {("[things]", 4)}
    assert events[-1]["done"] > events[0]["done"]


def test_a_terminal_has_a_bar_and_what_is_printed_stands_above_it():
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW],
        stdin=child, stdout=child, stderr=child, close_fds=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(child)
    content = b""
    while True:
        try:
            content += os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
    os.close(parent)
    assert process.wait() == 0
    seen = content.decode()
    assert "\x1b[2K" in seen  # drawn over, not again and again
    assert seen.rfind("\x1b[?25h") > seen.index("\x1b[?25l")  # the cursor is back
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert re.search(r"\[things\] .*\d of 4", plain)
    assert plain.count("from elsewhere") == 1
    assert "inner" not in plain
    assert plain.rstrip().endswith("after")


def test_nothing_is_shown_unless_a_process_asks_and_not_quietly():
    def threads_in(items):
        return {threading.active_count() for _ in track(items, "things", 3)}

    before = threading.active_count()
    assert threads_in(range(3)) == {before}
    with shown():
        assert threads_in(range(3)) == {before + 1}
        QUIET.set()
        try:
            assert threads_in(range(3)) == {before}
        finally:
            QUIET.clear()
    assert threading.active_count() == before


def test_stopping_takes_the_bar_away_and_a_step_ends_all_the_same():
    before = threading.active_count()
    with shown(), step("things", 3):
        progress.stop()
        assert threading.active_count() == before
    progress.stop()
