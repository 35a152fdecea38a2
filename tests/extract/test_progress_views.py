"""What is seen of a run: on a terminal, in a pipe, and where logs are JSON."""

import os
import pty
import re
import subprocess
import sys

SHOW = """
import sys
from linkner_ray.extract.progress import Snapshot
from linkner_ray.extract.progress_views import progress_view

print("out", flush=True)
with progress_view(print) as view:
    view.say("two shards [of] three")
    view(Snapshot(seconds=1.0, shards=3))
    view(Snapshot(
        seconds=4.0, shards=3, shards_done=2, units=9, documents=10, entities=4, questions=7
    ))
    print("from elsewhere", file=sys.stderr)
print("after", view.interval_s, type(view).__name__)
"""

LINES = [
    "out",
    "two shards [of] three",
    "4 s, 2/3 shards (2 s left), 10 documents (2.5/s), 4 entities, 7 questions",
    "from elsewhere",
    "after 10.0 LineView",
]


def seen_on_a_terminal(**environment):
    """All that a terminal of 120 columns gets."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW],
        stdin=child, stdout=child, stderr=child, close_fds=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", **environment},
    )  # fmt: skip
    os.close(child)
    content = b""
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        content += piece
    os.close(parent)
    assert process.wait() == 0
    return content.decode()


def test_a_terminal_has_a_bar_with_the_numbers_and_sentences_above_it():
    seen = seen_on_a_terminal()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert "BarView" in plain
    assert "shards" in plain
    assert re.search(r"2/3\s+\(2 s left\), 10 documents \(2\.5/s\), 4 entities, 7 questions", plain)
    assert plain.index("two shards [of] three") < plain.index("2/3")
    assert plain.count("from elsewhere") == 1
    assert "\x1b[2K" in seen  # drawn over, not again and again


def test_the_cursor_is_there_while_the_bar_is():
    seen = seen_on_a_terminal()
    assert seen.rfind("\x1b[?25l") < seen.index("two shards")
    assert "\x1b[?25h" in seen[: seen.index("two shards")]


def test_a_terminal_that_can_only_write_has_lines():
    assert seen_on_a_terminal(TERM="dumb").splitlines() == LINES


def test_a_pipe_has_lines_and_nothing_else():
    done = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, text=True, check=True,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    assert done.stdout.splitlines() == [line for line in LINES if line != "from elsewhere"]
