"""Corpus files as bytes and text: local or at any address fsspec knows."""

import zlib
from lzma import LZMAError
from typing import IO

import pyarrow as pa
from fsspec.compression import compr
from fsspec.utils import infer_compression

from linkner_ray.errors import ConfigError, DataError
from linkner_ray.storage import open_file

BYTE_ORDER_MARK = "\ufeff"


def read_bytes(path: str) -> bytes:
    """Read a whole file, decompressed if its name ends in .gz, .bz2, .xz or .zst.

    Raises:
        ConfigError: If there is no such file, or no such kind of address.
        DataError: If the file is there but cannot be read.
        StoreError: If its store fails.
    """
    try:
        with open_file(path) as file:
            content = _decompressed(file, infer_compression(path)).read()
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such corpus file; correct the path") from error
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{path}: cannot be opened: {error}; correct the path") from error
    except (OSError, EOFError, zlib.error, LZMAError) as error:
        raise DataError(f"{path}: cannot be read: {error}; is the file whole?") from error
    return content


def _decompressed(file: IO[bytes], compression: str | None) -> IO[bytes]:
    match compression:
        case None:
            return file
        case "zstd":  # a stream of zstandard takes a torn file for a whole one
            return pa.CompressedInputStream(file, "zstd")
        case _:
            return compr[compression](file, mode="rb")


def decode_text(content: bytes, path: str) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        DataError: Naming the line of the first byte that is not UTF-8.
    """
    try:
        return content.decode("utf-8").removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte 0x{content[error.start]:02x} is not UTF-8; convert the file to "
            "UTF-8"
        ) from error
