"""Progress of a run, every few seconds."""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from linkner_ray.errors import counted
from linkner_ray.logs.progress import duration
from linkner_ray.runs.counters import add_counts, skipped_languages
from linkner_ray.runs.folder import UnitResult

LINE_INTERVAL_S = 10.0

_LOADING_INTERVAL_S = 60.0
"""Between two lines as long as no unit is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Progress at one moment; counts are of the units that this run has done."""

    seconds: float
    shards: int
    """Shards that this run has to read."""

    shards_done: int = 0
    units: int = 0
    documents: int = 0
    entities: int = 0
    questions: int = 0
    other_languages: int = 0
    """Documents that were skipped for their language."""

    @property
    def documents_per_s(self) -> float:
        """Documents a second since the start, models' loading included."""
        return self.documents / self.seconds if self.seconds else 0.0

    @property
    def _left(self) -> str:
        """Time until the last shard is done, if the others take as long."""
        if not 0 < self.shards_done < self.shards:
            return ""
        seconds = self.seconds / self.shards_done * (self.shards - self.shards_done)
        return f" ({duration(seconds)} left)"

    @property
    def line(self) -> str:
        """One line of text."""
        if not self.units:
            return f"{self.seconds:.0f} s, loading models"
        skipped = f", {self.other_languages} in other languages skipped"
        return (
            f"{self.seconds:.0f} s, {self.shards_done}/{counted(self.shards, 'shard')}{self._left}"
            f", {counted(self.documents, 'document')} ({self.documents_per_s:.1f}/s), "
            f"{counted(self.entities, 'entity')}, {counted(self.questions, 'question')}"
            f"{skipped if self.other_languages else ''}"
        )


class View(Protocol):
    """Where a run says how far it is."""

    interval_s: float
    """Between two snapshots."""

    def __call__(self, snapshot: Snapshot, /) -> None:
        """Show a snapshot."""

    def say(self, line: str) -> None:
        """Say a sentence."""


class LineView:
    """A line every ten seconds, for `ray job logs` and files; while models load, every minute."""

    interval_s = LINE_INTERVAL_S

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def __call__(self, snapshot: Snapshot, /) -> None:
        """Say the line of a snapshot."""
        if snapshot.units or snapshot.seconds % _LOADING_INTERVAL_S < self.interval_s <= (
            snapshot.seconds
        ):
            self.say(snapshot.line)

    def say(self, line: str) -> None:
        """Write a line, at once."""
        self._write(line)
        sys.stdout.flush()


class Progress:
    """Shows snapshots at intervals, also before the first unit is finished.

    Attributes:
        totals: Counters of the units that this run has done.
    """

    def __init__(self, show: View, *, shards: int) -> None:
        self._show, self._shards = show, shards
        self._started = time.monotonic()
        self._shards_done = self._units = 0
        self.totals: dict[str, int] = {}
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._ticker.join()
        self._show(self.snapshot())

    def add(self, unit_result: UnitResult) -> None:
        """Count a unit."""
        if not self._units:
            seconds = time.monotonic() - self._started
            self._show.say(f"the first unit is done after {seconds:.0f} s, loading included")
        add_counts(self.totals, unit_result.counts)
        self._shards_done += unit_result.is_last
        self._units += 1

    def snapshot(self) -> Snapshot:
        """Progress now."""
        totals = self.totals
        return Snapshot(
            seconds=time.monotonic() - self._started,
            shards=self._shards,
            shards_done=self._shards_done,
            units=self._units,
            documents=totals.get("documents_read", 0),
            entities=totals.get("entities", 0),
            questions=totals.get("questions", 0),
            other_languages=sum(skipped_languages(totals).values()),
        )

    def _tick(self) -> None:
        while not self._ended.wait(self._show.interval_s):
            self._show(self.snapshot())
