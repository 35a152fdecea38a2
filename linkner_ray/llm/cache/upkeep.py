"""Statistics, verification, compaction and pruning of an answer cache."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa

from linkner_ray.config import CacheConfig
from linkner_ray.errors import ConfigError, DataError
from linkner_ray.llm.cache.files import (
    ENTRIES,
    SET_ASIDE,
    CacheFolder,
    OtherVersionError,
    first_answers,
    repeated_answers,
)

MANY_FILES = 1000
"""Files above which a run says that they should be merged."""

_NAMED = 5
"""Files named in a note."""


class Fault(NamedTuple):
    """A file that is not trusted."""

    name: str
    problem: str
    is_broken: bool
    """False for one that is foreign or of another version, which is left where it lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Everything an answer cache holds, read and checked."""

    sizes: dict[str, int]
    """Bytes of each good file."""

    tables: list[pa.Table]
    """Their content, in the order in which it counts."""

    faults: list[Fault]

    def answers(self) -> pa.Table:
        """The answers that count, one a key, sorted by key."""
        return first_answers(self.tables or [ENTRIES.empty_table()])

    def count_conflicts(self) -> int:
        """Keys to which different answers were written."""
        rows = repeated_answers(self.tables or [ENTRIES.empty_table()]).to_pylist()
        groups = groupby(rows, key=lambda row: row["key"])
        replies = [
            {repr((row["verdict"], row["label"], row["probs"])) for row in group}
            for _, group in groups
        ]
        return sum(len(different) > 1 for different in replies)


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
    folder = CacheFolder(url)
    while True:
        listing = folder.list()
        if not listing.names and not listing.foreign:
            raise ConfigError(f"{url}: there is no answer cache here, or it is empty")
        found = Survey(
            sizes={},
            tables=[],
            faults=[
                Fault(n, "is no file of an answer cache", is_broken=False) for n in listing.foreign
            ],
        )
        try:
            for name in listing.names:
                _read(folder, name, found)
        except FileNotFoundError:  # compacted meanwhile: begin again
            continue
        return found


def compact(url: str, *, keep: Callable[[pa.Table], pa.Table] = lambda table: table) -> Compaction:
    """Merge all files into one; broken files are set aside first.

    Runs that write to the answer cache at the same time are not disturbed: the merged file is there
    before the others go, and nothing is removed that was not read.

    Args:
        url: Folder or prefix.
        keep: Takes the answers of the answer cache, schema `ENTRIES`, and returns those to keep.

    Raises:
        ConfigError: If there is no answer cache.
    """
    found = survey(url)
    folder = CacheFolder(url)
    for fault in found.faults:
        if fault.is_broken:
            folder.set_aside(fault.name)
    answers = found.answers()
    kept = keep(answers)
    if found.sizes and (len(found.sizes) > 1 or kept.num_rows < answers.num_rows):
        written = folder.write_compacted(max(map(folder.number, found.sizes)), kept)
        for name in found.sizes.keys() - {written}:
            folder.folder.remove(name)
    return Compaction(
        files_before=len(found.sizes),
        kept=kept.num_rows,
        dropped=answers.num_rows - kept.num_rows,
        faults=found.faults,
    )


def cache_notes(config: CacheConfig) -> list[str]:
    """Sentences about files that were not trusted, or are many; cheap, since none is read."""
    if not config.path:
        return []
    folder = CacheFolder(config.path)
    listing = folder.list()
    groups = {
        f"broken and lie in {SET_ASIDE}/": folder.folder.names(SET_ASIDE),
        "no files of an answer cache and were ignored": listing.foreign,
    }
    notes = []
    if len(listing.names) > MANY_FILES:
        notes.append(
            f"answer cache {config.path}: has {len(listing.names):,} files, read once on a node; "
            f"`linkner cache compact {config.path}` makes them one, also while runs write"
        )
    return notes + [
        f"answer cache {config.path}: {len(names)} files are {what}: {', '.join(names[:_NAMED])}"
        f"{' ...' if len(names) > _NAMED else ''}; see `linkner cache verify`"
        for what, names in groups.items()
        if names
    ]


def count_by_model(answers: pa.Table) -> dict[tuple[str, str], Counter[str]]:
    """Answers by model and revision, then by verdict; an unknown revision is empty."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    columns = (answers[name].to_pylist() for name in ("model", "revision", "verdict"))
    for model, revision, verdict in zip(*columns, strict=True):
        counts.setdefault((model, revision or ""), Counter())[verdict] += 1
    return dict(sorted(counts.items()))


def _read(folder: CacheFolder, name: str, found: Survey) -> None:
    """Add a file to a survey."""
    try:
        table = folder.read(name)
    except OtherVersionError as error:
        found.faults.append(Fault(name, str(error), is_broken=False))
    except DataError as error:
        found.faults.append(Fault(name, str(error), is_broken=True))
    else:
        found.sizes[name] = folder.size(name)
        found.tables.append(table)
