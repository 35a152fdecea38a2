"""A small crawl for tests that run whole jobs: shards of three formats, some of it bad."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from linkner_ray.config import ExtractConfig
from linkner_ray.config.loading import load_config
from linkner_ray.spanner.calibration.thresholds import EstimateThresholds, Thresholds
from tests.spanner.tiny import model

LINE = (
    "EU rejects German call . Peter Blackburn met Angela Merkel in Berlin . "
    "Microsoft opened in Paris , London and New York ."
)
WORDS = LINE.split()

NUM_PARQUET, NUM_JSONL, NUM_WET = 20, 9, 4


def text_of(number: int) -> str:
    """A page of three lines that differs from page to page."""
    lines = [WORDS[(number + shift) % len(WORDS) :][:12] for shift in (0, 5, 9)]
    return "\n".join(" ".join(line) for line in lines) + f"\nPage {number} \U0001f600 caf\u00e9 ."


def write_checkpoint(folder: Path) -> str:
    """A random SpanNER whose predictions are many and uncertain."""
    model(max_width=3).save_pretrained(folder)
    return str(folder)


def write_thresholds(folder: Path, asked: Mapping[int, float]) -> None:
    """What dev might have chosen for a checkpoint, for the estimate `confidence`."""
    own = EstimateThresholds(asked=asked, risk={2: None})
    Thresholds(num_candidates=200, num_predicted=100, estimates={"confidence": own}).write(folder)


def write_parquet(path: Path, texts, *, first: int = 0, group: int = 5) -> None:
    """Rows with ids p0, p1, ..."""
    ids = [f"p{first + index}" for index in range(len(texts))]
    table = pa.table({"doc_id": ids, "text": pa.array(texts, pa.string())})
    pq.write_table(table, path, row_group_size=group)


def write_crawl(folder: Path) -> Path:
    """Two Parquet shards, a JSONL and a WET; 1 null text, 1 empty text and 1 broken line in it."""
    folder.mkdir(parents=True, exist_ok=True)
    texts: list[str | None] = [text_of(number) for number in range(NUM_PARQUET)]
    texts[3], texts[7] = None, ""
    write_parquet(folder / "a.parquet", texts[:12])
    write_parquet(folder / "b.parquet", texts[12:], first=12)
    lines = [json.dumps({"doc_id": f"j{n}", "text": text_of(40 + n)}) for n in range(NUM_JSONL)]
    lines[4] = '{"doc_id": "j4", "text": '
    (folder / "c.jsonl").write_text("\n".join(lines) + "\n")
    records = [wet_record(f"w{n}", text_of(60 + n)) for n in range(NUM_WET)]
    (folder / "d.warc.wet.gz").write_bytes(b"".join(gzip.compress(record) for record in records))
    return folder


def wet_record(name: str, text: str) -> bytes:
    """One WARC conversion record."""
    content = text.encode()
    head = (
        "WARC/1.0\r\nWARC-Type: conversion\r\n"
        f"WARC-Target-URI: https://example.org/{name}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:test:{name}>\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n\r\n"


def overrides(crawl: str, output: str, checkpoint: str, *more: str) -> list[str]:
    """Command line of an extraction without an LLM, in units of 5 documents."""
    return [
        f"input.paths=[{crawl}]",
        "input.unit_documents=5",
        f"output.path={output}",
        "output.keep_text=true",
        "output.keep_candidates=true",
        f"recognize.checkpoint={checkpoint}",
        "recognize.num_threads=1",
        "llm.backend=none",
        "errors.max_share=0.2",
        *more,
    ]


def config_of(*arguments: str) -> ExtractConfig:
    """The config of such a command line."""
    return load_config(ExtractConfig, None, arguments)


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of everything a run promises to write the same again, but for its report.

    With the report comes `README.md`, which a run without one does not have.
    """
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.name.startswith(("report", "README"))
        and path.suffix != ".png"
    }
