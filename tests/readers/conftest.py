"""Shards written for a test, and a reader that checks its own counters."""

import dataclasses
import gzip

import pytest

from linkner_ray.config import InputConfig
from linkner_ray.readers import read_units
from linkner_ray.runs.units import Source


@dataclasses.dataclass(frozen=True)
class Shard:
    """Everything a shard gave, joined over its units."""

    units: list
    documents: list
    quarantine: list
    skipped: dict

    @property
    def texts(self):
        return [row["text"] for row in self.documents]

    @property
    def reasons(self):
        return [(row["record"], row["reason"]) for row in self.quarantine]


@pytest.fixture
def read():
    """Read a file whole; every record is accounted for and the units follow each other."""

    def read(path, shard_format, *, done=(), raw_chars=40, **config):
        size = path.stat().st_size if path.is_file() else 0
        source = Source(path=str(path), format=shard_format, size=size, version="1")
        settings = InputConfig(paths=(str(path),), **config)
        units = list(
            read_units(source, config=settings, errors_raw_chars=raw_chars, done=dict(done))
        )
        skipped = {}
        for unit in units:
            for reason, count in unit.skipped.items():
                skipped[reason] = skipped.get(reason, 0) + count
            parts = len(unit.documents) + len(unit.quarantine) + sum(unit.skipped.values())
            assert unit.num_records == parts
            assert 0 <= unit.begins <= unit.ends <= 1
        assert [unit.is_last for unit in units[:-1]] == [False] * len(units[:-1])
        return Shard(
            units=units,
            documents=[row for unit in units for row in unit.documents.to_pylist()],
            quarantine=[row for unit in units for row in unit.quarantine.to_pylist()],
            skipped=skipped,
        )

    return read


def warc_record(kind, block, *, identifier="urn:uuid:1", length=None, **headers):
    """Bytes of one WARC record; header names are given with `_` for `-`."""
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Record-ID: <{identifier}>",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(block) if length is None else length}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


def http_response(body, content_type="text/html", *extra, line_end=b"\r\n"):
    """Bytes of an HTTP response with status 200."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Type: " + content_type.encode(), *extra, b"", body]
    return line_end.join(lines)


def gzip_members(*pieces):
    """Each piece as a gzip member of its own."""
    return b"".join(gzip.compress(piece, mtime=0) for piece in pieces)
