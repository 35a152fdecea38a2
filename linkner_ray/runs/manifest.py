"""The manifest of a finished run, every file with rows, size and digest, and the check of it.

`_manifest.json` is small: digests, totals and how many files there are. The files are listed in
`_manifest.parquet`, whose digest it names.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from linkner_ray.errors import DataError
from linkner_ray.runs.part_work import HERE, Spread, pieces_of, side_by_side
from linkner_ray.runs.units import Source
from linkner_ray.storage import Folder

MANIFEST = "_manifest.json"

FILES = "_manifest.parquet"

FOLDERS = ("entities", "candidates", "_quarantine")

_COLUMNS = pa.schema(
    [("path", pa.string()), ("rows", pa.int64()), ("bytes", pa.int64()), ("digest", pa.string())]
)
"""Of a file, as in `FileEntry`."""

SOURCE_COLUMNS = ("source", "source_format", "source_bytes", "source_version")
"""Of the shard that a file of entities was made from, as in `Source`; null for other files."""

_PENDING = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file of a run as the manifest lists it."""

    path: str
    """Within the output."""

    rows: int
    size_bytes: int
    digest: str
    """BLAKE2b of the content, 16 bytes in hexadecimal."""

    @classmethod
    def of(cls, path: str, content: bytes, *, rows: int) -> "FileEntry":
        """Entry of a file that is at hand."""
        return cls(path=path, rows=rows, size_bytes=len(content), digest=_digest(content))

    @classmethod
    def read(cls, folder: Folder, path: str) -> "FileEntry":
        """Entry of a Parquet file that lies in the output.

        Raises:
            DataError: If it is damaged.
            OSError: If it cannot be read.
        """
        content = folder.read_bytes(path)
        try:
            rows = pq.read_metadata(io.BytesIO(content)).num_rows
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is damaged ({error}); remove it and run again") from error
        return cls.of(path, content, rows=rows)


def written_files(folder: Folder) -> list[str]:
    """Paths of all part files in an output, sorted."""
    return [f"{below}/{n}" for below in FOLDERS for n in folder.names(below, "part-*.parquet")]


def read_entries(folder: Folder, paths: Sequence[str]) -> list[FileEntry]:
    """Entries of some files, read side by side."""
    return side_by_side(partial(FileEntry.read, folder), paths)


class FileList:
    """Entries of very many files, about 120 bytes each."""

    def __init__(self, entries: Iterable[FileEntry] = ()) -> None:
        """Hold some entries, or none yet."""
        self._tables = [_COLUMNS.empty_table()]
        self._pending: list[FileEntry] = []
        self.add(entries)

    def add(self, entries: Iterable[FileEntry]) -> None:
        """Hold more."""
        self._pending += entries
        if len(self._pending) >= _PENDING:
            self._pack()

    def table(self) -> pa.Table:
        """All entries by path: `path`, `rows`, `bytes`, `digest`."""
        self._pack()
        return pa.concat_tables(self._tables).sort_by("path")

    def without(self, paths: Sequence[str]) -> list[str]:
        """Those of some paths that have no entry."""
        if not paths:
            return []
        wanted = pa.array(paths)
        known = pc.is_in(wanted, self.table()["path"])
        return list(wanted.filter(pc.invert(known)).to_pylist())

    def _pack(self) -> None:
        columns = [
            [entry.path for entry in self._pending],
            [entry.rows for entry in self._pending],
            [entry.size_bytes for entry in self._pending],
            [entry.digest for entry in self._pending],
        ]
        self._tables.append(pa.table(columns, schema=_COLUMNS))
        self._pending = []


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished run says of itself and its files."""

    header: Mapping[str, Any]
    files: pa.Table
    """A row for each file, by path: `path`, `rows`, `bytes`, `digest` and `SOURCE_COLUMNS`."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the part files, as they stand in `entities/`."""
        paths = self.files["path"]
        entities = paths.filter(pc.starts_with(paths, "entities/"))
        return tuple(pc.utf8_slice_codeunits(entities, len("entities/")).to_pylist())


def with_sources(
    files: pa.Table, *, paths: pa.Array, places: Sequence[int | None], sources: Sequence[Source]
) -> pa.Table:
    """The list of files with the shards that those of entities were made from.

    Args:
        files: Of `FileList.table`.
        paths: The files of entities, in any order.
        places: The shard of each of these among the sources; None where it is not known.
        sources: All shards.
    """
    place_of = pa.array(places, pa.int32()).take(pc.index_in(files["path"], paths).combine_chunks())
    is_known = pc.is_valid(place_of).to_numpy(zero_copy_only=False)
    known = place_of.drop_null().to_numpy()

    def column(values: pa.Array) -> pa.Array:
        # Arrow leaves what it likes where a value is null, and Parquet may write it.
        taken = np.zeros(len(is_known), np.int64)
        taken[is_known] = values.to_numpy()[known]
        return pa.array(taken, mask=~is_known)

    for name, attribute in zip(SOURCE_COLUMNS, ("shown", "format", "size", "version"), strict=True):
        values = pa.array([getattr(source, attribute) for source in sources])
        if name == "source_bytes":
            files = files.append_column(name, column(values.cast(pa.int64())))
        else:
            encoded = values.cast(pa.string()).dictionary_encode()
            codes = column(encoded.indices).cast(pa.int32())
            names = pa.DictionaryArray.from_arrays(codes, encoded.dictionary)
            files = files.append_column(name, names)
    return files


def write_manifest(folder: Folder, header: Mapping[str, Any], files: pa.Table) -> None:
    """Write the list of files, as `with_sources` gives it, then the header that names it."""
    sink = io.BytesIO()
    pq.write_table(files.combine_chunks(), sink, compression="zstd")
    content = sink.getvalue()
    folder.write_whole(FILES, content)
    listed = {
        "name": FILES,
        "digest": _digest(content),
        "count": files.num_rows,
        "rows": pc.sum(files["rows"]).as_py() or 0,
        "bytes": pc.sum(files["bytes"]).as_py() or 0,
    }
    folder.write_whole(MANIFEST, as_json({**header, "files": listed}))


def read_manifest(folder: Folder) -> Manifest:
    """Read the manifest of a finished run; the list of files of the last few is remembered.

    Raises:
        DataError: If there is none, since the run has not ended, or its parts do not belong
            together.
    """
    if not (folder.exists(MANIFEST) and folder.exists("_SUCCESS")):
        raise DataError(
            f"{folder.root} has no {MANIFEST} or no _SUCCESS: its run has not ended; start the "
            "same command again"
        )
    header = read_json(folder, MANIFEST, has=("files",), mend="remove it and run again")
    return Manifest(header, _read_files(folder, header["files"]["digest"]))


@lru_cache(maxsize=2)
def _read_files(folder: Folder, digest: str) -> pa.Table:
    content = folder.read_bytes(FILES)
    if _digest(content) != digest:
        raise DataError(f"{folder.path(FILES)} is not the list that {MANIFEST} names; run again")
    # `read_table` would import pyarrow.dataset, and with it pandas.
    return pq.ParquetFile(io.BytesIO(content), read_dictionary=list(SOURCE_COLUMNS)).read()


def verify_output(folder: Folder, *, spread: Spread = HERE) -> tuple[int, list[str]]:
    """Compare an output with its manifest, reading every byte.

    Returns the number of files listed, and a line for each that is missing, differs or is not
    listed.

    Raises:
        DataError: If there is no manifest: the run has not ended.
    """
    listed = read_manifest(folder).files.select(_COLUMNS.names)
    there = pa.array(written_files(folder), pa.string())
    is_there = pc.is_in(listed["path"], there)
    missing = listed["path"].filter(pc.invert(is_there)).to_pylist()
    unknown = there.filter(pc.invert(pc.is_in(there, listed["path"]))).to_pylist()
    faults = [f"{path} is listed but missing" for path in missing]
    faults += [f"{path} is there but not listed" for path in unknown]
    for found in spread.each(partial(_compare_all, folder), pieces_of(listed.filter(is_there))):
        faults += found
    return listed.num_rows, faults


def _compare_all(folder: Folder, listed: pa.Table) -> list[str]:
    """A line for each of some files that differs."""
    compared = side_by_side(partial(_compare, folder), listed.to_pylist())
    return [fault for fault in compared if fault]


def _compare(folder: Folder, listed: Mapping[str, Any]) -> str:
    path = listed["path"]
    try:
        found = FileEntry.read(folder, path)
    except DataError as error:
        return str(error)
    wanted = FileEntry(
        path=path, rows=listed["rows"], size_bytes=listed["bytes"], digest=listed["digest"]
    )
    if found == wanted:
        return ""
    return (
        f"{path} has {found.rows} rows in {found.size_bytes} bytes, digest {found.digest}; listed "
        f"are {wanted.rows} in {wanted.size_bytes}, {wanted.digest}"
    )


def as_json(record: Mapping[str, Any]) -> bytes:
    """A record as the bytes of a JSON file; equal records give equal bytes."""
    return (json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_json(folder: Folder, name: str, *, has: Iterable[str] = (), mend: str) -> dict[str, Any]:
    """A record as `as_json` wrote it; `mend` says what to do about a file that is damaged.

    Raises:
        DataError: If it is none, or lacks a key.
    """
    try:
        record = json.loads(folder.read_bytes(name))
    except ValueError:
        record = None
    if not isinstance(record, dict) or not record.keys() >= {*has}:
        raise DataError(f"{folder.path(name)} is damaged, or no run wrote it; {mend}")
    return record


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
