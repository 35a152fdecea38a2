"""How far a long step is: a bar on a terminal, a line every half minute elsewhere.

Code that takes long counts with `track` or `step`. Nothing is shown but in a process that says
`shown`, as commands do, so neither workers nor other programs that call us see a bar. Everything
goes to standard error.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from linkner_ray.logs import QUIET, is_json

logger = logging.getLogger(__name__)

T = TypeVar("T")

BAR_AFTER_S = 1.0
"""What is over by then has no bar."""

BAR_INTERVAL_S = 0.5
LINE_INTERVAL_S = 30.0


class Step:
    """A long step; it counts from any thread."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.done: int | None = None
        """None until something is known."""

        self.note = ""
        self._first, self._began = 0, time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def update(self, done: int, note: str = "") -> None:
        """Say how far it is; the first call may come late, as in a training that goes on."""
        if self.done is None:
            self._first, self._began = done, time.monotonic()
        self.done, self.note = done, note or self.note

    @property
    def left_s(self) -> float | None:
        """Seconds until it is done, if it goes on as it went; None if there is nothing to tell."""
        new = (self.done or 0) - self._first
        if new <= 0:
            return None
        return (time.monotonic() - self._began) / new * (self.total - (self.done or 0))

    @property
    def numbers(self) -> str:
        """Such as "120 of 4,000, 3 min left; loss 0.12"."""
        left = self.left_s
        text = f"{self.done or 0:,} of {self.total:,}"
        text += f", {duration(left)} left" if left else ""
        return f"{text}; {self.note}" if self.note else text

    def show(self, refresh: "Callable[[Step], None]") -> None:
        """Begin to show it, in a thread of its own.

        Args:
            refresh: Called in that thread before each look, to update it.
        """
        self._thread = threading.Thread(target=self._show, args=(refresh,), daemon=True)
        self._thread.start()

    def end(self, timeout_s: float | None = None) -> None:
        """Show it no more; waits so long for a look that is under way."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _show(self, refresh: "Callable[[Step], None]") -> None:
        if not is_json() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._draw(refresh)
            return
        while not self._ended.wait(LINE_INTERVAL_S):
            refresh(self)
            if is_json():
                numbers = {"step": self.what, "done": self.done or 0, "total": self.total}
                extra = {"event": "progress", **numbers, "left_s": self.left_s}
                logger.info("%s: %s", self.what, self.numbers, extra=extra)
            else:
                sys.stderr.write(f"{self.what}: {self.numbers}\n")
                sys.stderr.flush()

    def _draw(self, refresh: "Callable[[Step], None]") -> None:
        if self._ended.wait(BAR_AFTER_S):
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(file=sys.stderr, highlight=False)
        texts = (
            TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[now]")
        )
        columns = next(texts), BarColumn(20), next(texts)
        # What is printed meanwhile stands above the bar, unless it goes elsewhere.
        bars = Progress(
            *columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()
        )
        with bars:
            console.show_cursor(True)  # a signal ends the process without a chance to bring it back
            bar = bars.add_task(self.what, total=self.total, now="")
            is_over = False
            while not is_over:
                refresh(self)
                bars.update(bar, completed=self.done or 0, now=self.numbers)
                is_over = self._ended.wait(BAR_INTERVAL_S)


class _Process:
    """Whether this process shows steps, and the one that it shows: the outermost."""

    is_shown = False
    current: Step | None = None


@contextmanager
def shown(*, is_shown: bool = True) -> Iterator[None]:
    """Inside, steps of this process are shown, or not, as beside another bar."""
    before, _Process.is_shown = _Process.is_shown, is_shown
    try:
        yield
    finally:
        _Process.is_shown = before


def stop() -> None:
    """Take the bar away, if there is one, since the process is about to end."""
    if _Process.current is not None:
        _Process.current.end(timeout_s=1.0)


@contextmanager
def step(what: str, total: int, refresh: Callable[[Step], None] = lambda _: None) -> Iterator[Step]:
    """A long step; within another one it is part of that and not shown.

    Args:
        what: Things that are counted, such as "sentences".
        total: How many.
        refresh: Updates it, in another thread, before each look at the numbers, if it is shown.
    """
    mine = Step(what, total)
    is_outermost = _Process.is_shown and not QUIET.is_set() and _Process.current is None
    if is_outermost:
        _Process.current = mine
        mine.show(refresh)
    try:
        yield mine
    finally:
        if is_outermost:
            mine.end()
            _Process.current = None


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The items, counted as one after the other is done with."""
    with step(what, total) as mine:
        mine.update(0)
        for done, item in enumerate(items, start=1):
            yield item
            mine.update(done)


def duration(seconds: float) -> str:
    """Such as "40 s", "3 min" and "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
