"""What a run could not read or got no answer to: listed, and taken out to be done again.

A unit result says what failed in it, so nothing else is needed to find the units. Taking units
out goes from the marks of a complete run over the part files, which say that a unit is done, to
the files beside them. Wherever that is cut off, the next run does what is missing and removes
what is left over.
"""

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from linkner_ray.errors import CUT, DataError
from linkner_ray.runs.counters import num_failed
from linkner_ray.runs.folder import RunFolder, UnitResult
from linkner_ray.runs.manifest import FILES, MANIFEST
from linkner_ray.runs.part_work import pieces_of, side_by_side
from linkner_ray.runs.units import Source

FAILED_ANSWER = "failed_answer"
"""Reason of a span that was asked about and got no answer; all others are of the quarantine."""

_QUARANTINE_COUNTER = "quarantine_"
_BESIDE = ("candidates", "_quarantine")
"""Folders with files of a unit besides `entities/`."""

State = Literal["unchanged", "changed", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which failures are meant; empty means all."""

    reasons: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Paths of shards, `*` and `?` standing for anything."""

    def has_reason(self, reason: str) -> bool:
        """Whether failures of a reason are meant."""
        return not self.reasons or reason in self.reasons

    def has_file(self, path: str) -> bool:
        """Whether failures of a shard are meant."""
        return not self.files or any(
            path == pattern or fnmatch.fnmatchcase(path, pattern) for pattern in self.files
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedShard:
    """A shard with failures, and what is to be done again of it."""

    path: str
    state: State
    """Of its file, compared with the one that was read."""

    reasons: Mapping[str, int]
    """Failures by reason; a file as a whole counts as one."""

    units: tuple[UnitResult, ...]
    """Those with failures; all of the shard where it has changed or gone, since nothing of a
    shard may stay beside units of another version of it."""


def failures_of(unit_result: UnitResult) -> dict[str, int]:
    """What failed in a unit, by reason."""
    found = {
        name.removeprefix(_QUARANTINE_COUNTER): count
        for name, count in unit_result.counts.items()
        if name.startswith(_QUARANTINE_COUNTER) and count
    }
    unanswered = num_failed(unit_result.counts)
    return {**found, FAILED_ANSWER: unanswered} if unanswered else found


def read_failures(
    run: RunFolder, unit_results: Sequence[UnitResult], wanted: Wanted
) -> Iterator[pa.Table]:
    """Quarantined rows, schema `schemas.QUARANTINE`, by path and record; a few units at a time.

    Only rows of the units given: those of a unit that is not finished do not count yet.

    Raises:
        DataError: If a file cannot be read; names it.
    """
    there = set(run.folder.names("_quarantine", "part-*.parquet"))
    names = [
        name
        for unit_result in sorted(unit_results, key=lambda one: (one.source, one.first_record))
        if (name := f"part-{unit_result.unit}.parquet") in there
        and wanted.has_file(unit_result.source)
    ]

    def read(name: str) -> pa.Table:
        try:
            content = pa.BufferReader(run.folder.read_bytes(f"_quarantine/{name}"))
            table = pq.ParquetFile(content).read()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{run.url}/_quarantine/{name} is damaged ({error}); restore it, or remove it to "
                "list the others"
            ) from error
        keep = [wanted.has_reason(reason) for reason in table["reason"].to_pylist()]
        return table.filter(pa.array(keep, pa.bool_())).sort_by("record")

    for piece in pieces_of(names):
        yield from side_by_side(read, piece)


def find_failed_shards(
    unit_results: Sequence[UnitResult],
    wanted: Wanted,
    *,
    plan_digest: str,
    source_now: Callable[[str], Source | None],
) -> list[FailedShard]:
    """Shards with failures, by path; `source_now` gives a shard as it is now, None for none."""
    units_of: dict[str, list[UnitResult]] = {}
    for unit_result in unit_results:
        if wanted.has_file(unit_result.source):
            units_of.setdefault(unit_result.source, []).append(unit_result)
    shards = []
    for path, units in sorted(units_of.items()):
        failed = [unit for unit in units if any(map(wanted.has_reason, failures_of(unit)))]
        if not failed:
            continue
        reasons: Counter[str] = Counter()
        for unit in failed:
            reasons.update({r: n for r, n in failures_of(unit).items() if wanted.has_reason(r)})
        # A shard whose address had a secret cannot be looked at; the next run does.
        is_cut = CUT in path
        state = "unchanged" if is_cut else _state(units, source_now(path), plan_digest)
        chosen = failed if state == "unchanged" else units
        shards.append(
            FailedShard(path=path, state=state, reasons=dict(reasons), units=tuple(chosen))
        )
    return shards


def _state(units: Sequence[UnitResult], source: Source | None, plan_digest: str) -> State:
    if source is None:
        return "gone"
    digest = source.digest(plan_digest)
    return "unchanged" if all(unit.source_digest == digest for unit in units) else "changed"


def requeue(run: RunFolder, shards: Sequence[FailedShard]) -> None:
    """Take units out of an output, so that the next run of the same command does them again.

    Call it under the output's lock. The marks of a complete run go first, so that the output does
    not count as complete from then on. A unit's `entities` go before what lies beside them, since
    they say that it is done.
    """
    names = [f"part-{unit.unit}.parquet" for shard in shards for unit in shard.units]
    if not names:
        return
    for mark in ("_SUCCESS", MANIFEST, FILES):
        run.folder.remove(mark)
    for below in ("entities", *_BESIDE):
        side_by_side(run.folder.remove, (f"{below}/{name}" for name in names))


def remove_leftovers(run: RunFolder, unit_results: Sequence[UnitResult]) -> None:
    """Remove files of units that are not finished; to be called when no unit is under way.

    A requeue or a run that was cut off leaves some. Most would be written again, but not those of a
    shard that has changed, nor a quarantine that has become empty.
    """
    finished = {f"part-{unit_result.unit}.parquet" for unit_result in unit_results}
    for below in _BESIDE:
        for name in run.folder.names(below, "part-*.parquet"):
            if name not in finished:
                run.folder.remove(f"{below}/{name}")
