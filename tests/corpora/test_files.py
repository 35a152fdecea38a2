import gzip

import fsspec
import pytest

from linkner_ray.corpora.files import decode_text, read_bytes
from linkner_ray.errors import ConfigError, DataError


def test_any_address_of_fsspec_will_do():
    fsspec.filesystem("memory").pipe("/corpora/train.conll", b"a\tO\n")
    assert read_bytes("memory://corpora/train.conll") == b"a\tO\n"
    fsspec.filesystem("memory").rm("/corpora", recursive=True)


def test_a_compressed_file_is_opened_by_its_name(tmp_path):
    path = tmp_path / "train.conll.gz"
    path.write_bytes(gzip.compress(b"a\tO\n", mtime=0))
    assert read_bytes(str(path)) == b"a\tO\n"


@pytest.mark.parametrize("address", ["{}/absent.conll", "nosuchscheme://bucket/train.conll"])
def test_a_wrong_address_is_a_wrong_config(tmp_path, address):
    path = address.format(tmp_path)
    with pytest.raises(ConfigError, match=r"(absent|nosuchscheme).*: "):
        read_bytes(path)


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"a\tO\n" * 999, mtime=0)[:-12]])
def test_a_file_that_cannot_be_read_is_bad_data(tmp_path, content):
    path = tmp_path / "train.conll.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.conll\.gz: cannot be read: "):
        read_bytes(str(path))


def test_a_folder_is_not_a_corpus(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(str(tmp_path))


def test_a_byte_order_mark_is_left_out():
    assert decode_text(b"\xef\xbb\xbfa", "x") == "a"


def test_bytes_that_are_not_utf8_are_named_with_their_line():
    with pytest.raises(DataError, match=r"^x:3: byte 0xfc is not UTF-8"):
        decode_text(b"a O\n\nZ\xfcrich O\n", "x")
