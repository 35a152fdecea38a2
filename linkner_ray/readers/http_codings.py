"""Transfer and content codings of an archived HTTP body, undone as far as they are there.

Crawlers often undo a coding and keep its header, cut a body short, or write the end of a record
into it. So each coding that the header names is undone if the bytes have it, and passed over if
they do not.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterable

import brotli

from linkner_ray.readers.compression import ShardStream, is_compressed

_MAX_STEPS = 8
_BEGIN_BYTES = 512
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Bytes that no text begins with, and hardly a compressed body is without; 1B is an escape."""

_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")


def undo_codings(stored: bytes, codings: Iterable[str], *, max_bytes: int) -> bytes:
    """A stored body without its codings, undone in this order.

    Decoding ends behind `max_bytes`, so a longer body comes out longer than that.
    """
    body = stored
    # A body that begins as gzip or zstd does is no text, whatever the header says.
    for coding in [*[*codings][:_MAX_STEPS], "gzip"]:
        undo = _UNDO.get(coding.strip().lower().removeprefix("x-"))
        undone = None if undo is None else undo(body, max_bytes)
        body = body if undone is None else undone
        if len(body) > max_bytes:
            break
    return body


def _undo_chunks(body: bytes, _max_bytes: int) -> bytes | None:
    """Data of all chunks up to the end, a cut or a fault."""
    data = bytearray()
    position = 0
    while head := _CHUNK_HEAD.match(body, position):
        begin, size = head.end(), int(head[1], 16)
        end = begin + size
        line_end = body[end : end + 2]
        if size and line_end not in {b"\r\n", b"\r", b""} and line_end[:1] != b"\n":
            break  # what looks like a size is none
        data += body[begin:end]
        position = end + (2 if line_end == b"\r\n" else 1)
        if not size:
            break
    return bytes(data) if position else None


def _undo_magic(body: bytes, max_bytes: int) -> bytes | None:
    """A body that begins as gzip or zstd does, up to a fault or what stands behind it."""
    if not is_compressed(body):
        return None
    return io.BufferedReader(ShardStream(io.BytesIO(body), "")).read(max_bytes + 1) or None


def _undo_deflate(body: bytes, max_bytes: int) -> bytes | None:
    """Deflate with the header of zlib, as it should be, or without, as servers send it."""
    if _is_text(body):
        return None
    for wbits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(wbits).decompress(body, max_bytes + 1) or None
        except zlib.error:
            continue
    return None


def _undo_brotli(body: bytes, max_bytes: int) -> bytes | None:
    """Brotli, which has no magic; a line end behind it is passed over."""
    if _is_text(body):
        return None
    for coded in (body, body.rstrip(b"\r\n")):
        decoder = brotli.Decompressor()
        try:
            return decoder.process(coded, output_buffer_limit=max_bytes + 1) or None
        except brotli.error:
            continue
    return None


def _is_text(body: bytes) -> bool:
    return _CONTROLS.search(body[:_BEGIN_BYTES]) is None


_UNDO: dict[str, Callable[[bytes, int], bytes | None]] = {
    "chunked": _undo_chunks,
    "gzip": _undo_magic,
    "zstd": _undo_magic,
    "deflate": _undo_deflate,
    "br": _undo_brotli,
}
