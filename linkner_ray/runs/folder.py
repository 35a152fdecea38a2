"""The folder of a run: what is finished, what the run was, and the marks that it is complete."""

import hashlib
import io
import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from linkner_ray.errors import ConfigError, ContractError, DataError, StoreError
from linkner_ray.fault_injection import fault_point
from linkner_ray.runs.fingerprint import differences
from linkner_ray.runs.manifest import (
    FILES,
    FOLDERS,
    MANIFEST,
    FileEntry,
    FileList,
    as_json,
    read_json,
    with_sources,
    write_manifest,
    written_files,
)
from linkner_ray.runs.packed_counts import PackedCounts
from linkner_ray.runs.part_work import HERE, Spread, pieces_of, side_by_side
from linkner_ray.runs.units import Source
from linkner_ray.storage import Folder

logger = logging.getLogger(__name__)

UNIT_RESULT_KEY = b"linkner.unit_result"
"""Where a part file carries its unit result, in the metadata of its schema."""

_PART_FILE = re.compile(r"part-[0-9a-f]+-[0-9]{10}\.parquet")
"""Names of the files of a unit, see `units.unit_name`."""

_WRITTEN_NAMES = frozenset(
    {*FOLDERS, "_run.json", MANIFEST, FILES, "_SUCCESS", "plots"}
    | {"README.md", "report.md", "report.html", "report.json"}
)
"""What a run writes directly into its output; without a `_run.json` no run wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitResult:
    """What one unit became; stored in its part file, so a resumed run reads it back."""

    unit: str
    source: str
    """Path of the shard."""

    first_record: int
    num_records: int
    is_last: bool
    counts: Mapping[str, int]
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds in each stage; empty when read back, since files hold nothing that varies."""

    began: Mapping[str, float] = field(default_factory=dict)
    """Unix time at which each stage began with the unit; empty when read back."""

    workers: Mapping[str, int] = field(default_factory=dict)
    """Number of the process that each stage was done in; empty when read back."""

    costs: Mapping[str, int] = field(default_factory=dict)
    """Counters of `counters.count_costs`; empty when read back, for the same reason."""

    files: Sequence[Mapping[str, Any]] = ()
    """`FileEntry` of what was written; empty when read back, as no file can hold its own digest."""

    @property
    def file_name(self) -> str:
        """Name of the unit's files, each in a folder of its kind."""
        return f"part-{self.unit}.parquet"

    @property
    def source_digest(self) -> str:
        """Name of the shard under the run's plan."""
        return self.unit.rpartition("-")[0]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """A unit result as it was sent or stored, in little memory: a driver holds all of a run."""
        packed = {
            name: PackedCounts(record[name])
            for name in ("counts", "seconds", "began", "workers", "costs")
            if name in record
        }
        return cls(**{**record, **packed, "source": sys.intern(record["source"])})

    def to_metadata(self) -> dict[bytes, bytes]:
        """As the metadata of a part file's schema."""
        record = {
            "unit": self.unit,
            "source": self.source,
            "first_record": self.first_record,
            "num_records": self.num_records,
            "is_last": self.is_last,
            "counts": dict(sorted(self.counts.items())),
        }
        return {UNIT_RESULT_KEY: json.dumps(record, sort_keys=True).encode()}


class RunFolder:
    """Output of a run: `entities/`, `_quarantine/`, `_run.json`, its manifest, `_SUCCESS`."""

    def __init__(self, url: str) -> None:
        """Open an output folder; nothing is written yet."""
        self.url = url
        self.folder = Folder.at(url)

    def check(self, plan: Mapping[str, Any]) -> None:
        """Check that the folder is free or belongs to the run of this plan; nothing is written.

        Raises:
            ConfigError: If the folder holds another run's output, or files that no run wrote under
                names that this one would write or remove; names what was found.
        """
        previous = self.record()
        if previous is None:
            self.folder.check_writable()
            if foreign := sorted(_WRITTEN_NAMES.intersection(self.folder.entries())):
                raise ConfigError(
                    f"{self.url} holds {', '.join(foreign)}, and {self.url}/_run.json, which "
                    "would say which run wrote them, is missing; choose another output.path, or "
                    "move them away"
                )
            return
        found = differences(previous["plan"], json.loads(json.dumps(plan)))
        if found:
            raise ConfigError(
                f"{self.url} holds the output of another run: "
                f"{'; '.join(line for _, line in found)}. "
                "Choose another output.path, or remove the folder"
            )
        foreign = [
            path for path in written_files(self.folder) if not _is_part_file(path.split("/")[1])
        ]
        if foreign:
            raise ConfigError(
                f"{self.url} holds {', '.join(foreign[:3])}, which no run wrote; move "
                f"{'it' if len(foreign) == 1 else f'these {len(foreign)} files'} away"
            )

    def begin(self, record: Mapping[str, Any]) -> None:
        """Write `_run.json`, or check that the folder belongs to this very run, and clear up.

        Call it under the lock, when there is work to do: it removes `_SUCCESS` of a run that goes
        on with more shards, and what killed writers left.

        Args:
            record: `plan` is what decides the output and must be the same when a run goes on, and
                so must `code`; the rest is kept for readers.

        Raises:
            ConfigError: If the folder holds another run's output; names what differs.
        """
        self.check(record["plan"])
        previous = self.record()
        if previous is None:
            self.folder.write_whole("_run.json", as_json(record))
        else:
            found = differences(previous.get("code"), record.get("code"), "code")
            if found:
                raise ConfigError(
                    f"{self.url} was begun by other code, and two codes may write two things: "
                    f"{'; '.join(line for _, line in found)}. Go on with that code, or choose "
                    "another output.path; an answer cache keeps the answers"
                )
        for mark in ("_SUCCESS", MANIFEST, FILES):
            if self.folder.exists(mark):
                self.folder.remove(mark)
        self.clear()

    def clear(self) -> None:
        """Remove what writers that were killed left under hidden names."""
        for below in ("", *FOLDERS):
            self.folder.remove_hidden(below)

    def abort_uploads(self) -> None:
        """Abort multipart uploads of part files that a killed writer began."""
        try:
            aborted = sum(self.folder.abort_uploads(below, _is_part_file) for below in FOLDERS)
        except StoreError as error:
            logger.warning("%s: cannot look for stale multipart uploads: %s", self.url, error)
            return
        if aborted:
            logger.warning("%s: aborted %d stale multipart uploads", self.url, aborted)

    def record(self) -> dict[str, Any] | None:
        """What `_run.json` says; None where there is none.

        Raises:
            DataError: If it is damaged.
        """
        return self._read("plan") if self.folder.exists("_run.json") else None

    def known_record(self) -> dict[str, Any]:
        """What `_run.json` says.

        Raises:
            ConfigError: If there is none.
            DataError: If it is damaged.
        """
        if not self.folder.exists("_run.json"):
            raise ConfigError(
                f"{self.url} is not the output of a run: it has no _run.json; name the output.path "
                "of one"
            )
        return self._read("plan", "config", "label_set")

    def _read(self, *keys: str) -> dict[str, Any]:
        mend = (
            "nothing else says which run this is, so put a copy of it back, or choose another "
            "folder"
        )
        return read_json(self.folder, "_run.json", has=keys, mend=mend)

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended and `_SUCCESS` stands."""
        return self.folder.exists("_SUCCESS")

    def unit_results(self, *, spread: Spread = HERE) -> list[UnitResult]:
        """Unit results of all finished units, read from the footers of their files."""
        pieces = pieces_of(self.folder.names("entities", "part-*.parquet"))
        return [
            UnitResult.from_record(json.loads(content))
            for contents in spread.each(partial(_read_unit_results, self.url), pieces)
            for content in contents
        ]

    def commit(
        self,
        unit_result: UnitResult,
        *,
        entities: pa.Table,
        quarantine: pa.Table,
        candidates: pa.Table | None,
    ) -> list[FileEntry]:
        """Write the files of a unit, and return their entries for the manifest.

        The entities come last, since they say that the unit is done.
        """
        tables = {
            "_quarantine": quarantine if quarantine.num_rows else None,
            "candidates": candidates,
            "entities": entities.replace_schema_metadata(unit_result.to_metadata()),
        }
        written = []
        for below, table in tables.items():
            if table is not None:
                path, content = f"{below}/{unit_result.file_name}", parquet_bytes(table)
                fault_point("write")
                self.folder.write_whole(path, content)
                written.append(FileEntry.of(path, content, rows=table.num_rows))
        fault_point("written")
        return written

    def finish(
        self,
        unit_results: Sequence[UnitResult],
        files: FileList,
        record: Mapping[str, Any],
        *,
        sources: Mapping[str, Source] | None = None,
    ) -> None:
        """Write the manifest, the list of files that count, then `_SUCCESS`.

        `record` is what the manifest says besides the files; shards are given by their digests.

        Raises:
            ContractError: If a unit has no file of entities, or one with other rows than its
                unit result counts.
        """
        listed = files.table()
        paths = pa.array([f"entities/{unit.file_name}" for unit in unit_results], pa.string())
        counted = pa.array(map(_num_rows, unit_results), pa.int64())
        found = listed["rows"].take(pc.index_in(paths, listed["path"]))
        is_wrong = pc.fill_null(pc.not_equal(found, counted), True)
        if pc.any(is_wrong).as_py():
            [first, *_] = np.flatnonzero(is_wrong.to_numpy())
            rows = found[first].as_py()
            raise ContractError(
                f"{self.url}/{paths[first]} has {'no' if rows is None else rows} rows, its unit "
                f"result counts {counted[first]}"
            )
        place_of = {digest: place for place, digest in enumerate(sources or {})}
        places = [place_of.get(unit_result.source_digest) for unit_result in unit_results]
        self.clear()
        fault_point("manifest")
        shards = [*(sources or {}).values()]
        table = with_sources(listed, paths=paths, places=places, sources=shards)
        write_manifest(self.folder, record, table)
        fault_point("success")
        self.folder.write_whole("_SUCCESS", b"")


def _read_unit_results(url: str, names: Sequence[str]) -> list[bytes]:
    """The unit results of some part files, as these carry them."""
    folder = Folder.at(url)

    def read(name: str) -> bytes:
        path = f"{url}/entities/{name}"
        try:
            with folder.open(f"entities/{name}") as stream:
                metadata = pq.read_schema(stream).metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is damaged ({error}); remove it and run again") from error
        if UNIT_RESULT_KEY not in metadata:
            raise ContractError(f"{path} carries no unit result; remove it")
        return bytes(metadata[UNIT_RESULT_KEY])

    return side_by_side(read, names)


def _num_rows(unit_result: UnitResult) -> int:
    """Rows that a unit has in `entities/`."""
    return unit_result.counts["documents_entities"] + unit_result.counts["documents_empty"]


def _is_part_file(name: str) -> bool:
    return _PART_FILE.fullmatch(name) is not None


def json_digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Name of what decides a run's output, or of a part of it."""
    canonical = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file; equal tables give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, compression="zstd", write_statistics=True)
    return sink.getvalue()
