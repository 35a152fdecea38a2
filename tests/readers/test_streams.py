import gzip
import io

import pytest
import zstandard

from linkner_ray.readers.streams import ShardStream

CONTENT = bytes(range(256)) * 5000


def drain(packed, path="a"):
    stream = ShardStream(io.BytesIO(packed), path)
    return io.BufferedReader(stream).read(), stream.failure


@pytest.mark.parametrize(
    "packed", [CONTENT, gzip.compress(CONTENT, mtime=0), zstandard.compress(CONTENT)]
)
def test_a_sound_stream_is_read_whole(packed):
    assert drain(packed) == (CONTENT, None)


def test_members_may_be_padded_with_zero_bytes():
    packed = gzip.compress(b"a") + b"\0" * 600_000 + gzip.compress(b"b") + b"\0\0"
    assert drain(packed) == (b"ab", None)


def test_garbage_behind_a_member_is_a_failure_and_the_member_is_kept():
    content, failure = drain(gzip.compress(b"a") + b"garbage")
    assert content == b"a"
    assert failure is not None


def test_a_wrong_checksum_is_a_failure():
    packed = bytearray(gzip.compress(CONTENT))
    packed[-8] ^= 1
    content, failure = drain(bytes(packed))
    assert content == CONTENT
    assert "incorrect data check" in failure
