"""The manifest of a finished run, every file with rows, size and digest, and the check of it."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from linkner_ray.errors import DataError
from linkner_ray.storage import Folder

MANIFEST = "_manifest.json"

FOLDERS = ("entities", "candidates", "_quarantine")

THREADS = 32


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
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        return cls(path=path, rows=rows, size_bytes=len(content), digest=digest)

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
        except pa.ArrowInvalid as error:
            raise DataError(f"{path} is damaged ({error}); remove it and run again") from error
        return cls.of(path, content, rows=rows)


def written_files(folder: Folder) -> list[str]:
    """Paths of all part files in an output, sorted."""
    return [f"{below}/{n}" for below in FOLDERS for n in folder.names(below, "part-*.parquet")]


def read_all(folder: Folder, paths: Iterable[str]) -> list[FileEntry]:
    """Entries of many files, read side by side."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda path: FileEntry.read(folder, path), paths))


def list_files(
    files: Sequence[FileEntry], sources: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Entries of files as the manifest has them: `files` of entities, and `side_files`.

    Args:
        files: All part files of the output.
        sources: Path of the shard, by path of the entities file.
    """
    listed: dict[str, list[dict[str, Any]]] = {"files": [], "side_files": []}
    for file in sorted(files, key=lambda file: file.path):
        entry = {
            "path": file.path,
            "rows": file.rows,
            "bytes": file.size_bytes,
            "digest": file.digest,
        }
        if file.path in sources:
            listed["files"].append({**entry, "source": sources[file.path]})
        else:
            listed["side_files"].append(entry)
    return listed


def verify_output(folder: Folder) -> tuple[int, list[str]]:
    """Compare an output with its manifest, reading every byte.

    Returns:
        The number of files listed, and a line for each that is missing, differs or is not listed.

    Raises:
        DataError: If there is no manifest: the run has not ended.
    """
    if not (folder.exists(MANIFEST) and folder.exists("_SUCCESS")):
        raise DataError(f"{folder.root} has no {MANIFEST} or no _SUCCESS: its run has not ended")
    manifest = json.loads(folder.read_bytes(MANIFEST))
    listed = {file["path"]: file for file in manifest["files"] + manifest["side_files"]}
    there = written_files(folder)
    faults = [f"{path} is listed but missing" for path in sorted(listed.keys() - set(there))]
    faults += [f"{path} is there but not listed" for path in there if path not in listed]
    with ThreadPoolExecutor(THREADS) as pool:
        compared = pool.map(
            lambda path: _compare(folder, listed[path]), (p for p in there if p in listed)
        )
        faults += [fault for fault in compared if fault]
    return len(listed), faults


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
