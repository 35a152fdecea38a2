"""Views of the progress: a live bar on a terminal, lines without one, or events as JSON."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from linkner_ray.extract.progress import LINE_INTERVAL_S, LineView, Snapshot, View
from linkner_ray.logs import is_json
from linkner_ray.logs.progress import BAR_INTERVAL_S, shown

logger = logging.getLogger(__name__)


class JsonView:
    """Events in the log: `progress` with its numbers, `note` for a sentence."""

    interval_s = LINE_INTERVAL_S

    def __call__(self, snapshot: Snapshot, /) -> None:
        """Log a snapshot."""
        numbers = {
            **asdict(snapshot),
            "seconds": round(snapshot.seconds, 1),
            "documents_per_s": round(snapshot.documents_per_s, 3),
        }
        logger.info(snapshot.line, extra={"event": "progress", **numbers})

    def say(self, line: str) -> None:
        """Log a sentence."""
        logger.info(line, extra={"event": "note"})


class BarView:
    """A bar of shards at the foot of a terminal; sentences scroll above it."""

    interval_s = BAR_INTERVAL_S

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def __call__(self, snapshot: Snapshot, /) -> None:
        """Draw a snapshot."""
        numbers = snapshot.line
        if snapshot.units:  # the bar has the shards
            numbers = numbers.partition(" shard")[2].lstrip("s, ")
        if self._task is None:
            self._task = self._bars.add_task("shards", total=snapshot.shards, numbers=numbers)
        self._bars.update(
            self._task, completed=snapshot.shards_done, total=snapshot.shards, numbers=numbers
        )

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        self._bars.console.print(Text(line), soft_wrap=True)


@contextmanager
def progress_view(write: Callable[[str], None]) -> Iterator[View]:
    """The view for the format of the logs and for a terminal; without one, lines to `write`."""
    if is_json():
        yield JsonView()
    elif not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        yield LineView(write)
    else:
        console = Console(file=sys.stdout, highlight=False)
        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
        )  # fmt: skip
        bar = Bars(*columns, console=console, refresh_per_second=4)
        with shown(is_shown=False), bar as bars:
            console.show_cursor(True)  # SIGTERM ends the process without a chance to bring it back
            yield BarView(bars)
