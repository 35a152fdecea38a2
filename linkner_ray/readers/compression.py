"""Compressed shards, read from front to back up to the first fault."""

import io
import re
import zlib
from collections.abc import Iterator
from typing import IO, Any

import zstandard

from linkner_ray.errors import DataError
from linkner_ray.readers.other_format import HEAD_BYTES, name_format

_READ_BYTES = 1 << 18
_PIECE_BYTES = 1 << 20
_ZSTD_FEED_BYTES = 512
"""zstd cannot be rewound to just before a fault: what one feed held is lost with it."""

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)
"""How a frame begins that zstd passes over; pzstd writes one before each frame of text."""

_DICTIONARY_FRAME = b"\x5d\x2a\x4d\x18"
"""The skippable frame with which a .warc.zst begins if its records need a dictionary."""

_DICTIONARY_MAGIC = b"\x37\xa4\x30\xec"
_MAX_DICTIONARY_BYTES = 1 << 27
_MAX_WINDOW_BYTES = 1 << 31
"""What `zstd --long=31` asks for."""


class ShardStream(io.RawIOBase):
    """Uncompressed bytes of a shard up to the first fault.

    A fault ends the stream as its end would, so that everything before it can be read.

    Attributes:
        failure: What was wrong with the compressed stream; None if nothing was, so far.
    """

    def __init__(self, file: IO[bytes], path: str) -> None:
        self.failure: str | None = None
        self._file = file
        self._pieces = _pieces(file, path)
        self._piece = memoryview(b"")
        self._num_given = 0

    @property
    def position(self) -> int:
        """Bytes of the shard that were needed so far, never more than there are.

        Only grows, and is the same whenever the same was read. Of a compressed shard it is where
        the file stands, which moves in steps.
        """
        return min(self._num_given, self._file.tell())

    def readable(self) -> bool:
        """Whether the stream can be read: always."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        """Fill the buffer as far as one piece goes; 0 at the end or at a fault."""
        if not self._piece:
            try:
                self._piece = memoryview(next(self._pieces, b""))
            except (DataError, OSError) as error:  # of a store it would be a StoreError
                self.failure = str(error)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        self._num_given += count
        return count

    def close(self) -> None:
        """Close the file below as well."""
        self._file.close()
        super().close()


def read_head(file: IO[bytes], path: str = "") -> bytes:
    """First bytes of a shard, uncompressed; none where the compression is broken."""
    return ShardStream(file, path).read(HEAD_BYTES) or b""


def is_compressed(head: bytes) -> bool:
    """Whether bytes begin as gzip or zstd does."""
    return head.startswith((_GZIP_MAGIC, _ZSTD_MAGIC)) or _SKIPPABLE.match(head) is not None


def _pieces(file: IO[bytes], path: str) -> Iterator[bytes]:
    """Uncompressed pieces, never empty; the compression goes by content.

    Raises:
        DataError: When the compressed stream is corrupt or ends too early.
    """
    head = file.read(_READ_BYTES)
    if head.startswith(_GZIP_MAGIC):
        yield from _gzip_pieces(head, file)
    elif is_compressed(head):
        yield from _zstd_pieces(head, file)
    elif head and path.lower().endswith((".gz", ".zst")):
        _, found = name_format(head) or (None, "if it is plain, rename it")
        raise DataError(f"is neither gzip nor zstd, though named so; {found}")
    else:
        while head:
            yield head
            head = file.read(_READ_BYTES)


def _gzip_pieces(data: bytes, file: IO[bytes]) -> Iterator[bytes]:
    """Any number of gzip members; zero bytes between them are padding."""
    while data:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            data = data or file.read(_READ_BYTES)
            if not data:
                raise DataError("gzip stream ends in the middle of a member")
            before = member.copy()
            try:
                piece = member.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                yield from _readable_before_fault(before, data)
                raise DataError(f"gzip stream is corrupt: {error}") from error
            if piece:
                yield piece
            data = member.unconsumed_tail
        data = member.unused_data.lstrip(b"\0")
        while not data:
            more = file.read(_READ_BYTES)
            if not more:
                return
            data = more.lstrip(b"\0")


def _readable_before_fault(member: Any, data: bytes) -> Iterator[bytes]:  # noqa: ANN401 - zlib's
    """What a member gives byte by byte until it fails."""
    readable = bytearray()
    for index in range(len(data)):
        try:
            readable += member.decompress(data[index : index + 1])
        except zlib.error:
            break
    if readable:
        yield bytes(readable)


def _zstd_pieces(data: bytes, file: IO[bytes]) -> Iterator[bytes]:
    """Any number of zstd frames, skippable ones among them."""
    dictionary = None
    if data.startswith(_DICTIONARY_FRAME):
        dictionary, data = _read_dictionary(data, file)
    decompressor = zstandard.ZstdDecompressor(dictionary, max_window_size=_MAX_WINDOW_BYTES)
    while data:
        frame = decompressor.decompressobj()
        while not frame.eof:
            data = data or file.read(_READ_BYTES)
            if not data:
                raise DataError("zstd stream ends in the middle of a frame")
            feed, data = data[:_ZSTD_FEED_BYTES], data[_ZSTD_FEED_BYTES:]
            try:
                piece = frame.decompress(feed)
            except zstandard.ZstdError as error:
                raise DataError(f"zstd stream is corrupt: {error}") from error
            if piece:
                yield piece
        data = frame.unused_data + data or file.read(_READ_BYTES)


def _read_dictionary(
    data: bytes, file: IO[bytes]
) -> tuple[zstandard.ZstdCompressionDict | None, bytes]:
    """Dictionary of a .warc.zst, None if its first frame holds none, and the bytes behind it."""
    size = int.from_bytes(data[4:8], "little")
    if size > _MAX_DICTIONARY_BYTES:
        raise DataError(f"its first zstd frame is a dictionary of {size} bytes")
    while len(data) < 8 + size and (more := file.read(_READ_BYTES)):
        data += more
    content, rest = data[8 : 8 + size], data[8 + size :]
    try:
        if content.startswith(_ZSTD_MAGIC):
            content = zstandard.decompress(content, max_output_size=_MAX_DICTIONARY_BYTES)
        if not content.startswith(_DICTIONARY_MAGIC):
            return None, data
        return zstandard.ZstdCompressionDict(content), rest
    except zstandard.ZstdError as error:
        raise DataError(f"its dictionary is corrupt: {error}") from error
