import gzip
import io
import struct

import pytest
import zstandard

from linkner_ray.readers.compression import ShardStream

CONTENT = bytes(range(256)) * 5000
PACKED = zstandard.compress(CONTENT)


def skippable(content, number=0):
    """A frame that zstd passes over."""
    return struct.pack("<II", 0x184D2A50 + number, len(content)) + content


def drain(packed, path="a"):
    stream = ShardStream(io.BytesIO(packed), path)
    return io.BufferedReader(stream).read(), stream.failure


@pytest.mark.parametrize(
    "packed",
    [
        CONTENT,
        gzip.compress(CONTENT, mtime=0),
        PACKED,
        skippable(b"abcd") + PACKED + skippable(b"", 15),
        skippable(b"x" * 600_000, 3) + skippable(b"y") + PACKED,
        skippable(b"no dictionary", 13) + PACKED,
    ],
    ids=["plain", "gzip", "zstd", "pzstd", "two first", "no dictionary"],
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


@pytest.mark.parametrize("suffix", ["cut", "changed"])
def test_what_comes_before_a_fault_of_gzip_is_read(suffix):
    lines = b"".join(b"line %d\n" % number for number in range(2_000))
    packed = bytearray(gzip.compress(lines, mtime=0))
    middle = len(packed) // 2
    packed[middle : middle + 40] = b"\xff" * 40
    content, failure = drain(bytes(packed[:middle] if suffix == "cut" else packed))
    assert failure
    assert lines.startswith(content[:4_000])
    assert len(content) > 4_000


@pytest.mark.parametrize("pack", [bytes, zstandard.compress])
def test_frames_are_read_with_the_dictionary_of_the_first(pack):
    records = [f"WARC/1.1 page {i} of Ada, London {i * 7}\n".encode() * 3 for i in range(1_000)]
    dictionary = zstandard.train_dictionary(2_000, records)
    compressor = zstandard.ZstdCompressor(dict_data=dictionary)
    packed = skippable(pack(dictionary.as_bytes()), 13) + b"".join(
        map(compressor.compress, records)
    )
    assert drain(packed) == (b"".join(records), None)


def test_a_cut_skippable_frame_is_a_failure():
    assert drain(skippable(b"abcd")[:10])[1] == "zstd stream ends in the middle of a frame"
