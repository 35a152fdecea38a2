"""The files of an answer cache: their schema, their checksums, their order.

An answer cache is a folder of Parquet files that are written once and never changed. Each holds a
checksum of all its bytes, which tells a file that was cut short or edited. Files have numbers, and
of two answers to one request the one in the earlier file counts. Only one writer can take a number,
and it has read all earlier files by then, so the order is the same for every process, without a
clock or a lock.
"""

import hashlib
import io
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from linkner_ray.errors import DataError, StoreError
from linkner_ray.llm.prompts import Answer, Verdict
from linkner_ray.storage import Folder

VERSION = "1"
"""Version of the schema below; files of other versions are not read."""

CLASS_PROB = pa.struct([("class", pa.dictionary(pa.int32(), pa.string())), ("prob", pa.float32())])
"""In memory each class name is held once; in the file it is a plain string column."""

_DICTIONARIES = ["probs.list.element.class"]

_ROWS_AT_A_TIME = 65_536

ENTRIES = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # `Request.key`
        pa.field("verdict", pa.string(), nullable=False),  # "label", "non_entity", "unreadable"
        pa.field("label", pa.string()),  # null unless the verdict is "label"
        pa.field("probs", pa.list_(pa.field("element", CLASS_PROB))),  # null: none were given
        pa.field("model", pa.string(), nullable=False),
        pa.field("revision", pa.string()),  # as far as it is known, see `model_identity`
        pa.field("prompt_tokens", pa.int32()),
        pa.field("latency_s", pa.float32()),  # from being handed over to the answer
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),  # of the answer
    ]
)
"""One row an answer; `probs` has every class, "O" for non-entity first.

FAILED and UNREADABLE are no answers and not stored, so the next run asks again; files of earlier
releases hold unreadable ones, which are asked again.
"""

STORED_VERDICTS = (Verdict.LABEL, Verdict.NON_ENTITY, Verdict.UNREADABLE)

SET_ASIDE = "_set_aside"
"""Sub-folder of broken files."""

_VERSION_KEY = b"linkner.cache.version"
_CHECKSUM_KEY = b"linkner.cache.checksum"
_MAGIC = b"PAR1"
_TAIL = struct.Struct("<I4s")
_BLOCK_BYTES = 2**20
_NO_CHECKSUM = b"0" * 32
"""In place of the checksum while it is computed."""

_NAME = re.compile(r"(answers|compacted)-\d{10}\.parquet")
_KEY = r"^k\d+:[0-9a-f]{32}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An answer as the answer cache keeps it."""

    answer: Answer
    model: str
    revision: str | None
    time: datetime


class Listing(NamedTuple):
    """What lies in an answer cache's folder."""

    names: list[str]
    """Files of the answer cache; the answers in an earlier one count."""

    foreign: list[str]
    """Whatever else lies there."""

    versions: dict[str, str]
    """What tells each of `names` from other files of that name."""

    @property
    def next_number(self) -> int:
        """Number of the file to be written next."""
        return 1 + max(map(_number, self.names), default=-1)


class OtherVersionError(DataError):
    """A whole file of an answer cache, of a version that this release does not read."""


class CacheFolder:
    """Lists, reads and writes the files of one answer cache."""

    def __init__(self, url: str) -> None:
        """Open a folder or prefix, local or with a scheme; it need not be there yet."""
        self.url = url
        self.folder = Folder.at(url)

    def list(self) -> Listing:
        """List the folder: compacted files first, then the others, by number."""
        found = self.folder.versions()
        names = [name for name in found if _NAME.fullmatch(name)]
        names.sort(key=lambda name: (name.startswith("answers"), _number(name)))
        foreign = [n for n in found if not _NAME.fullmatch(n) and not n.startswith("_")]
        return Listing(names, foreign, {name: found[name] for name in names})

    @property
    def address(self) -> str:
        """The folder's whole address, the same from wherever it is opened."""
        return str(self.folder.filesystem.unstrip_protocol(self.folder.root))

    def number(self, name: str) -> int:
        """Number of a listed file."""
        return _number(name)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self.folder.size(name)

    def read(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read columns of a file, by default all, some rows at a time; one not whole is not begun.

        Raises:
            FileNotFoundError: If it is gone, as after a compaction.
            OtherVersionError: If it is of another version.
            DataError: If it is not what an answer cache wrote.
        """
        with ExitStack() as stack:
            if self.folder.is_local:
                file: IO[bytes] = stack.enter_context(self.folder.open(name))
            else:  # read twice, for the checksum and for the rows
                file = stack.enter_context(NamedTemporaryFile())
                self.folder.download(name, Path(file.name))
            yield from read_entries(file, f"{self.url}/{name}", columns)

    def append(self, number: int, entries: pa.Table) -> str | None:
        """Write answers under a number; None if another writer took it."""
        name = f"answers-{number:010d}.parquet"
        return name if self.folder.create_whole(name, format_entries(entries)) else None

    def write_compacted(self, number: int, tables: Iterable[pa.Table]) -> str:
        """Write all answers of the files up to a number as one."""
        name = f"compacted-{number:010d}.parquet"
        with NamedTemporaryFile() as file:
            write_entries(file, tables)
            file.flush()
            self.folder.upload(Path(file.name), name)
        return name

    def set_aside(self, name: str, version: str) -> bool:
        """Move a broken file out of the way, unless its name has another version by now.

        False if it is still there.
        """
        try:
            if self.folder.versions().get(name) == version:
                self.folder.move(name, f"{SET_ASIDE}/{name}")
        except FileNotFoundError:  # another process was quicker
            return True
        except (OSError, StoreError):
            return False
        return True


def entries_table(entries: Iterable[Entry], classes: Sequence[str]) -> pa.Table:
    """Entries, none of them FAILED, as a table of schema `ENTRIES`."""
    rows = []
    for entry in entries:
        answer = entry.answer
        probs = None
        if answer.probs is not None:
            probs = [
                {"class": name, "prob": prob}
                for name, prob in zip(classes, answer.probs, strict=True)
            ]
        rows.append(
            {
                "key": answer.key,
                "verdict": answer.verdict.value,
                "label": answer.label,
                "probs": probs,
                "model": entry.model,
                "revision": entry.revision,
                "prompt_tokens": answer.prompt_tokens,
                "latency_s": answer.latency_s,
                "time": entry.time,
            }
        )
    return pa.Table.from_pylist(rows, schema=ENTRIES)


def format_entries(entries: pa.Table) -> bytes:
    """A table of schema `ENTRIES` as the bytes of a file."""
    file = io.BytesIO()
    write_entries(file, [entries])
    return file.getvalue()


def write_entries(file: IO[bytes], tables: Iterable[pa.Table]) -> None:
    """Write tables of schema `ENTRIES` to an empty file, each a row group.

    Any Parquet reader can read it.
    """
    with pq.ParquetWriter(file, ENTRIES, compression="zstd", store_schema=False) as writer:
        for table in tables:
            writer.write_table(table)
        writer.add_key_value_metadata(
            {_VERSION_KEY.decode(): VERSION, _CHECKSUM_KEY.decode(): _NO_CHECKSUM.decode()}
        )
    place = _checksum_place(file, "what was just written")
    checksum = _checksum(file, place)
    file.seek(place)
    file.write(checksum)


def read_entries(
    file: IO[bytes], path: str, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Read columns of a file, by default all, some rows at a time; one not whole is not begun.

    Raises:
        OtherVersionError: If the file is of another version.
        DataError: If it is no file of an answer cache, was cut short, or was changed.
    """
    place = _checksum_place(file, path)
    checksum = _checksum(file, place)
    file.seek(place)
    if file.read(len(checksum)) != checksum:
        raise DataError(f"{path}: its checksum is not that of its content; it was changed")
    parquet = pq.ParquetFile(file, read_dictionary=_DICTIONARIES)
    version = parquet.metadata.metadata[_VERSION_KEY].decode()
    if version != VERSION:
        raise OtherVersionError(
            f"{path}: is of answer cache version {version}, this release reads {VERSION}"
        )
    if not parquet.schema_arrow.equals(ENTRIES):
        raise DataError(
            f"{path}: its columns are {parquet.schema_arrow.names}, with types other than declared"
        )
    batches = (
        batch  # Arrow cannot make one of nested columns over the end of a row group
        for group in range(parquet.num_row_groups)
        for batch in parquet.iter_batches(_ROWS_AT_A_TIME, row_groups=[group], columns=columns)
    )
    for batch in batches:
        table = pa.Table.from_batches([batch])
        problem = _problem(table)
        if problem:
            raise DataError(f"{path}: {problem}")
        yield table


def _problem(entries: pa.Table) -> str:
    """What is wrong with rows of a file; empty if nothing is."""
    if not pc.all(pc.match_substring_regex(entries["key"], _KEY)).as_py():
        return "a key is not the name of a request"
    known = pa.array([verdict.value for verdict in STORED_VERDICTS])
    if (
        "verdict" in entries.column_names
        and not pc.all(pc.is_in(entries["verdict"], known)).as_py()
    ):
        return "a verdict is none of those that are stored"
    return ""


def _checksum_place(file: IO[bytes], path: str) -> int:
    """Where the checksum stands.

    A Parquet file ends with a footer, its length in 4 bytes, and "PAR1". In the footer a value
    follows its name after two bytes, type and length.

    Raises:
        DataError: If this is not a whole Parquet file, or has no checksum.
    """
    cut = DataError(f"{path}: is not a whole Parquet file; it was cut short or replaced")
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL.size))
    tail = file.read(_TAIL.size)
    file.seek(0)
    if size < len(_MAGIC) + _TAIL.size or file.read(len(_MAGIC)) != _MAGIC:
        raise cut
    footer_bytes, magic = _TAIL.unpack(tail)
    start = size - _TAIL.size - footer_bytes
    if magic != _MAGIC or start < len(_MAGIC):
        raise cut
    file.seek(start)
    place = file.read(footer_bytes).rfind(_CHECKSUM_KEY)
    if place < 0:
        raise DataError(f"{path}: is not a file of an answer cache: it has no checksum")
    return start + place + len(_CHECKSUM_KEY) + 2


def _checksum(file: IO[bytes], place: int) -> bytes:
    """Of all bytes of a file, with zeros where the checksum stands."""
    digest = hashlib.blake2b(digest_size=16)
    file.seek(0)
    left = place
    while left:
        block = file.read(min(left, _BLOCK_BYTES))
        digest.update(block)
        left -= len(block)
    digest.update(_NO_CHECKSUM)
    file.seek(place + len(_NO_CHECKSUM))
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest().encode()


def _number(name: str) -> int:
    """Number in a name that `_NAME` matches."""
    return int(name.partition("-")[2].partition(".")[0])
