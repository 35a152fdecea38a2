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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
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

    def read(self, name: str) -> pa.Table:
        """Read a file and check it.

        Raises:
            FileNotFoundError: If it is gone, as after a compaction.
            OtherVersionError: If it is of another version.
            DataError: If it is not what an answer cache wrote.
        """
        return pa.concat_tables(self.read_parts(name))

    def read_parts(self, name: str) -> Iterator[pa.Table]:
        """Read a file as `read` does, some rows at a time; at least one table."""
        return parse_entries(self.folder.read_bytes(name), f"{self.url}/{name}")

    def append(self, number: int, entries: pa.Table) -> str | None:
        """Write answers under a number; None if another writer took it."""
        name = f"answers-{number:010d}.parquet"
        return name if self.folder.create_whole(name, format_entries(entries)) else None

    def write_compacted(self, number: int, entries: pa.Table) -> str:
        """Write all answers of the files up to a number as one."""
        name = f"compacted-{number:010d}.parquet"
        self.folder.write_whole(name, format_entries(entries))
        return name

    def set_aside(self, name: str) -> bool:
        """Move a broken file out of the way; False if that is not possible."""
        try:
            self.folder.move(name, f"{SET_ASIDE}/{name}")
        except FileNotFoundError:  # another process was quicker
            return True
        except (OSError, StoreError):
            return False
        return True


def entries_table(entries: Iterable[Entry], classes: Sequence[str]) -> pa.Table:
    """Entries as a table of schema `ENTRIES`.

    Args:
        entries: None of them FAILED.
        classes: `LabelSet.classes`, the order of every `Answer.probs`.
    """
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


def first_answers(tables: Sequence[pa.Table]) -> pa.Table:
    """One row for each key, the first one, sorted by key.

    Args:
        tables: In the order in which they count; with a column `key`.
    """
    table = pa.concat_tables(tables)
    order, is_first = sort_words(*key_words(table["key"]))
    return table.take(pa.array(order[is_first]))


def repeated_answers(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows whose key occurs more than once, by key and then by precedence."""
    table = pa.concat_tables(tables)
    order, is_first = sort_words(*key_words(table["key"]))
    is_last = np.append(is_first[1:], True)
    return table.take(pa.array(order[~(is_first & is_last)]))


def key_words(keys: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The hash in each key as two numbers of 64 bits. Shapes (N,)."""
    digits = pc.utf8_slice_codeunits(keys, -32).to_pylist()
    words = np.frombuffer(bytes.fromhex("".join(digits)), dtype=">u8").astype(np.uint64)
    return words[0::2], words[1::2]


def sort_words(high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order keys by their words; rows of one key stay as they come.

    Args:
        high: First 64 bits of each key. Shape (N,).
        low: The other 64. Shape (N,).

    Returns:
        Rows in order, and whether each of these is the first of its key. Shapes (N,).
    """
    order = np.lexsort((low, high))  # stable
    high, low = high[order], low[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return order, is_first


def format_entries(entries: pa.Table) -> bytes:
    """A table of schema `ENTRIES` as the bytes of a file; any Parquet reader can read it."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, ENTRIES, compression="zstd", store_schema=False) as writer:
        writer.write_table(entries)
        writer.add_key_value_metadata(
            {_VERSION_KEY.decode(): VERSION, _CHECKSUM_KEY.decode(): _NO_CHECKSUM.decode()}
        )
    blank = sink.getvalue()
    place = _checksum_place(blank)
    return blank[:place] + _checksum(blank) + blank[place + len(_NO_CHECKSUM) :]


def parse_entries(content: bytes, path: str) -> Iterator[pa.Table]:
    """Read the bytes of a file, some rows at a time; a file that is not whole is not parsed.

    Args:
        content: All of the file.
        path: For the message.

    Raises:
        OtherVersionError: If the file is of another version.
        DataError: If it is no file of an answer cache, was cut short, or was changed.
    """
    if len(content) < 12 or not content.startswith(_MAGIC) or not content.endswith(_MAGIC):
        raise DataError(f"{path}: is not a whole Parquet file; it was cut short or replaced")
    place = _checksum_place(content)
    if place < 0:
        raise DataError(f"{path}: is not a file of an answer cache: it has no checksum")
    end = place + len(_NO_CHECKSUM)
    if _checksum(content[:place] + _NO_CHECKSUM + content[end:]) != content[place:end]:
        raise DataError(f"{path}: its checksum is not that of its content; it was changed")
    file = pq.ParquetFile(io.BytesIO(content), read_dictionary=_DICTIONARIES)
    version = file.metadata.metadata[_VERSION_KEY].decode()
    if version != VERSION:
        raise OtherVersionError(
            f"{path}: is of answer cache version {version}, this release reads {VERSION}"
        )
    if file.schema_arrow.equals(ENTRIES) and file.metadata.num_rows:
        batches = file.iter_batches(_ROWS_AT_A_TIME)
        tables: Iterator[pa.Table] = (pa.Table.from_batches([batch]) for batch in batches)
    else:
        tables = iter([file.read()])
    for entries in tables:
        problem = _problem(entries)
        if problem:
            raise DataError(f"{path}: {problem}")
        yield entries


def _problem(entries: pa.Table) -> str:
    """What is wrong with a table that should be one of `ENTRIES`; empty if nothing is."""
    if not entries.schema.equals(ENTRIES):
        return f"its columns are {entries.schema.names}, with types other than declared"
    if entries.num_rows and not pc.all(pc.match_substring_regex(entries["key"], _KEY)).as_py():
        return "a key is not the name of a request"
    known = pa.array([verdict.value for verdict in STORED_VERDICTS])
    if entries.num_rows and not pc.all(pc.is_in(entries["verdict"], known)).as_py():
        return "a verdict is none of those that are stored"
    return ""


def _checksum_place(content: bytes) -> int:
    """Where the checksum stands; -1 if there is none.

    In the footer of a Parquet file a value follows its name after two bytes, type and length.
    """
    place = content.rfind(_CHECKSUM_KEY)
    return place + len(_CHECKSUM_KEY) + 2 if place >= 0 else -1


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()


def _number(name: str) -> int:
    """Number in a name that `_NAME` matches."""
    return int(name.partition("-")[2].partition(".")[0])
