import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.readers.http_codings import undo_codings

PAGE = b"<html><body><p>Marie Curie lived in Paris and worked with Pierre Curie.</p></body></html>"
RAW_DEFLATE = zlib.compress(PAGE)[2:-4]
GZIP = gzip.compress(PAGE, mtime=0)
LIMIT = 10_000


def chunks(body, size=20, line_end=b"\r\n"):
    pieces = [body[i : i + size] for i in range(0, len(body), size)] + [b""]
    return b"".join(b"%x%b%b%b" % (len(p), line_end, p, line_end) for p in pieces)


@pytest.mark.parametrize(
    ("stored", "codings"),
    [
        (RAW_DEFLATE, ["deflate"]),
        (zlib.compress(PAGE), ["Deflate "]),
        (GZIP, ["x-gzip"]),
        (GZIP, ["gzip", "chunked"]),
        (GZIP, ["chunked", "gzip"]),  # the crawler undid the chunks
        (chunks(PAGE), ["chunked", "gzip"]),  # or the gzip inside
        (chunks(GZIP), ["chunked", "gzip"]),
        (chunks(PAGE, line_end=b"\n"), ["chunked"]),
        (b"59;name=value\r\n" + PAGE + b"\r\n0\r\nTrailer: x\r\n\r\n", ["chunked"]),  # 0x59 = 89
        (GZIP + b"\r\n", ["gzip"]),
        (GZIP, []),  # no header at all
        (gzip.compress(PAGE[:30]) + gzip.compress(PAGE[30:]), ["gzip"]),
        (gzip.compress(GZIP), ["gzip", "gzip"]),
        (gzip.compress(RAW_DEFLATE), ["gzip", "deflate"]),
        (brotli.compress(PAGE), ["br"]),
        (brotli.compress(PAGE) + b"\r\n", ["br"]),
        (zstandard.compress(PAGE), ["zstd"]),
        (PAGE, ["chunked", "gzip", "deflate", "br", "zstd", "identity", "", "compress", "\0"]),
    ],
)
def test_each_coding_is_undone_if_it_is_there(stored, codings):
    assert undo_codings(stored, codings, max_bytes=LIMIT) == PAGE


@pytest.mark.parametrize(
    ("stored", "coding"),
    [
        (chunks(PAGE)[:60], "chunked"),
        (GZIP[:60], "gzip"),
        (RAW_DEFLATE[:60], "deflate"),
        (brotli.compress(PAGE)[:60], "br"),
    ],
)
def test_of_a_cut_body_its_readable_part_is_given(stored, coding):
    found = undo_codings(stored, [coding], max_bytes=LIMIT)
    assert found
    assert PAGE.startswith(found)


def test_no_more_is_decoded_than_the_limit():
    bomb = gzip.compress(gzip.compress(b"x" * 10**8))
    for codings in (["gzip"] * 2, ["gzip"] * 10_000):
        assert len(undo_codings(bomb, codings, max_bytes=LIMIT)) == LIMIT + 1
    for coding, packed in {"br": brotli.compress, "deflate": zlib.compress}.items():
        assert len(undo_codings(packed(b"x" * 10**7), [coding], max_bytes=LIMIT)) > LIMIT


@given(
    stored=st.binary(max_size=80),
    codings=st.lists(st.sampled_from(["chunked", "gzip", "deflate", "br", "zstd"]), max_size=3),
)
def test_nothing_raises(stored, codings):
    for begin in (b"", b"5\r\n", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x78\x9c"):
        undo_codings(begin + stored, codings, max_bytes=50)
