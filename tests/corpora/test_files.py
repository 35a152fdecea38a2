import bz2
import gzip
import lzma

import pytest
import zstandard

from linkner_ray.corpora.files import read_bytes
from linkner_ray.errors import ConfigError, DataError
from tests.readers.test_compression import skippable

ZSTD = zstandard.compress(b"a\tO\n" * 999)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("gz", gzip.compress(b"a\tO\n" * 999) + gzip.compress(b"b")),
        ("bz2", bz2.compress(b"a\tO\n" * 999) + bz2.compress(b"b")),
        ("xz", lzma.compress(b"a\tO\n" * 999) + lzma.compress(b"b")),
        ("zst", skippable(b"x") + ZSTD + skippable(b"y") + zstandard.compress(b"b")),
    ],
)
def test_a_compressed_file_is_opened_by_its_name(tmp_path, suffix, content):
    path = tmp_path / f"train.conll.{suffix}"
    path.write_bytes(content)
    assert read_bytes(str(path)) == b"a\tO\n" * 999 + b"b"
    for damaged in (content[:-1], content[:27], b"\xff" * 40):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"train\.conll\.{suffix}: cannot be read: "):
            read_bytes(str(path))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("{}/absent.conll", "absent.conll: there is no such corpus file"),
        ("nosuchscheme://bucket/train.conll", "nosuchscheme.*: cannot be opened: "),
    ],
)
def test_a_wrong_address_is_a_wrong_config(tmp_path, address, message):
    with pytest.raises(ConfigError, match=message):
        read_bytes(address.format(tmp_path))


def test_a_folder_is_not_a_corpus(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(str(tmp_path))
