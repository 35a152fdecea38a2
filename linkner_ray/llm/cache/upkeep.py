"""Statistics, verification, compaction and pruning of an answer cache, a few rows at a time."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.config import CacheConfig
from linkner_ray.errors import ConfigError, DataError, counted
from linkner_ray.llm.cache.answer_rows import KEY, key_column, sort_keys
from linkner_ray.llm.cache.files import SET_ASIDE, CacheFolder, OtherVersionError
from linkner_ray.logs.progress import track
from linkner_ray.schemas import join_tables

MANY_FILES = 1000
"""Files above which a run says that they should be merged."""

_NAMED = 5
"""Files named in a note."""

_ROWS_A_GROUP = 2**17
"""Of a merged file."""

T = TypeVar("T")


class Fault(NamedTuple):
    """A file that is not trusted."""

    name: str
    problem: str
    is_broken: bool
    """False for one that is foreign or of another version, which is left where it lies."""

    version: str = ""
    """What tells a broken one from other files of its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The files of an answer cache, all of them read; of their rows the keys are in memory."""

    sizes: dict[str, int]
    """Bytes of each good file, in the order in which they count."""

    versions: dict[str, str]
    """What tells each good file from others of its name."""

    counts: dict[str, NDArray[np.bool_]]
    """Of each good file the rows that count: the first ones of their keys."""

    faults: list[Fault]

    @property
    def num_answers(self) -> int:
        """How many answers count."""
        return sum(int(mask.sum()) for mask in self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What an answer cache holds; of several answers to a request the first counts."""

    survey: Survey
    times: tuple[datetime, datetime] | None
    """Of the first and of the last answer."""

    mean_latency_s: float | None
    by_model: dict[tuple[str, str], Counter[str]]
    """Answers by model and revision, then by verdict; an unknown revision is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """Result of merging the files of an answer cache."""

    files_before: int
    kept: int
    """Answers that are still there."""

    dropped: int
    """Answers that were removed, repeated answers to one key not counted."""

    faults: list[Fault]
    """Broken ones were set aside."""


def survey(url: str) -> Survey:
    """Read all files of an answer cache; nothing is changed.

    Raises:
        ConfigError: If there is no answer cache.
    """
    return _unless_compacted(lambda: _survey(CacheFolder(url)))


def statistics(url: str) -> Statistics:
    """Say what an answer cache holds.

    Raises:
        ConfigError: If there is no answer cache.
    """
    return _unless_compacted(lambda: _statistics(CacheFolder(url)))


def compact(url: str, *, keep: Callable[[pa.Table], pa.Table] = lambda table: table) -> Compaction:
    """Merge all files into one, with what `keep` leaves of each table, and set broken files aside.

    Runs that write to the answer cache at the same time are not disturbed: the merged file is there
    before the others go, and nothing is removed that was not read.

    Raises:
        ConfigError: If there is no answer cache.
    """
    return _unless_compacted(lambda: _compact(CacheFolder(url), keep))


def cache_notes(config: CacheConfig) -> list[str]:
    """Sentences about files that were not trusted, or are many; cheap, since none is read."""
    if not config.path:
        return []
    folder = CacheFolder(config.path)
    listing = folder.list()
    groups = {
        f"broken, in {SET_ASIDE}/": folder.folder.names(SET_ASIDE),
        "not of an answer cache, ignored": listing.foreign,
    }
    notes = []
    if len(listing.names) > MANY_FILES:
        notes.append(
            f"answer cache {config.path}: has {len(listing.names):,} files, read once on a node; "
            f"`linkner cache compact {config.path}` makes them one, also while runs write"
        )
    return notes + [
        f"answer cache {config.path}: {counted(len(names), 'file')} {what}: "
        f"{', '.join(names[:_NAMED])}{' ...' if len(names) > _NAMED else ''}; see `linkner cache "
        "verify`"
        for what, names in groups.items()
        if names
    ]


def _unless_compacted(action: Callable[[], T]) -> T:
    """What an action gives; if another process merges the files meanwhile, it begins again."""
    while True:
        try:
            return action()
        except FileNotFoundError:
            continue


def _survey(folder: CacheFolder) -> Survey:
    listing = folder.list()
    if not listing.names and not listing.foreign:
        raise ConfigError(
            f"{folder.url}: there is no answer cache here, or it is empty; name a run's cache.path"
        )
    faults = [Fault(n, "is no file of an answer cache", is_broken=False) for n in listing.foreign]
    sizes: dict[str, int] = {}
    versions: dict[str, str] = {}
    keys: list[NDArray[np.bytes_]] = []
    for name in track(listing.names, "files read", len(listing.names)):
        try:
            parts = [key_column(t["key"]) for t in folder.read(name, ("key", "verdict"))]
        except OtherVersionError as error:
            faults.append(Fault(name, str(error), is_broken=False))
        except DataError as error:
            version = listing.versions[name]
            faults.append(Fault(name, str(error), is_broken=True, version=version))
        else:
            sizes[name] = folder.size(name)
            versions[name] = listing.versions[name]
            keys.append(np.concatenate([np.empty(0, KEY), *parts]))
    ends = np.cumsum([len(part) for part in keys])[:-1]
    order, is_first = sort_keys(np.concatenate([np.empty(0, KEY), *keys]))
    counts = np.empty(len(order), dtype=bool)
    counts[order] = is_first
    return Survey(
        sizes=sizes,
        versions=versions,
        counts=dict(zip(sizes, np.split(counts, ends), strict=False)),
        faults=faults,
    )


def _rows_of(folder: CacheFolder, found: Survey) -> Iterator[pa.Table]:
    """The rows that count, some at a time.

    Raises:
        FileNotFoundError: At the end at the latest, if a file is gone or changed since the survey.
    """
    for name, chosen in track(found.counts.items(), "files", len(found.counts)):
        first = 0
        for table in folder.read(name):
            part = chosen[first : first + table.num_rows]
            if len(part) == table.num_rows:
                yield table.filter(pa.array(part))
            first += table.num_rows
    now = folder.list().versions
    for name, version in found.versions.items():
        if now.get(name) != version:
            raise FileNotFoundError(f"{folder.url}/{name}: was changed since it was read")


@dataclass(slots=True)
class _Totals:
    """What `_statistics` adds up."""

    by_model: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    times: list[datetime] = field(default_factory=list)
    latency_s: float = 0.0
    timed: int = 0

    def add(self, answers: pa.Table) -> None:
        if not answers.num_rows:
            return
        ends = pc.min_max(answers["time"]).as_py()
        self.times = [min([ends["min"], *self.times]), max([ends["max"], *self.times])]
        self.latency_s += pc.sum(answers["latency_s"]).as_py() or 0.0
        self.timed += pc.count(answers["latency_s"]).as_py()
        names = ["model", "revision", "verdict"]
        groups = answers.group_by(names).aggregate([([], "count_all")])
        for row in groups.to_pylist():
            verdicts = self.by_model.setdefault((row["model"], row["revision"] or ""), Counter())
            verdicts[row["verdict"]] += row["count_all"]


def _statistics(folder: CacheFolder) -> Statistics:
    found = _survey(folder)
    totals = _Totals()
    for table in _rows_of(folder, found):
        totals.add(table)
    return Statistics(
        survey=found,
        times=(totals.times[0], totals.times[1]) if totals.times else None,
        mean_latency_s=totals.latency_s / totals.timed if totals.timed else None,
        by_model=dict(sorted(totals.by_model.items())),
    )


def _compact(folder: CacheFolder, keep: Callable[[pa.Table], pa.Table]) -> Compaction:
    found = _survey(folder)
    kept = sum(keep(table).num_rows for table in _rows_of(folder, found))
    if found.sizes and (len(found.sizes) > 1 or kept < found.num_answers):
        rows = map(keep, _rows_of(folder, found))
        groups = join_tables(rows, _ROWS_A_GROUP)
        written = folder.write_compacted(max(map(folder.number, found.sizes)), groups)
        for name in found.sizes.keys() - {written}:
            folder.folder.remove(name)
    for fault in found.faults:
        if fault.is_broken:
            folder.set_aside(fault.name, fault.version)
    return Compaction(
        files_before=len(found.sizes),
        kept=kept,
        dropped=found.num_answers - kept,
        faults=found.faults,
    )
