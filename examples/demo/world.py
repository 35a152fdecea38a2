"""The demo's corpus, crawl and gold, written as files that any run could be given."""

import gzip
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from examples.demo.names import Split, load_gazetteer
from examples.demo.pages import Page, PageMaker
from examples.demo.sentences import Passage, SentenceMaker, load_templates
from examples.demo.tokens import tokenize
from linkner_ray.errors import ContractError

NUM_TRAIN_SENTENCES = 2200
NUM_DEV_SENTENCES = 400
NUM_PARQUET_PAGES = 200
NUM_PARQUET_SHARDS = 5
NUM_WET_PAGES = 40
LABELLED_SHARE = 0.6
HOSTILE_EVERY = 45
"""One page in so many carries lines that try to take over a language model."""


@dataclass(frozen=True)
class DemoWorld:
    """Where `make_demo` put things, and how much of them there is.

    Attributes:
        train: CoNLL file of the training split.
        dev: CoNLL file of the dev split.
        crawl: Folder of the shards.
        gold: JSON lines of the labelled pages.
        num_pages: Documents in all shards, the empty one and the null one included.
        num_labelled: Pages in `gold`.
        num_chars: Code points of all pages.
    """

    train: Path
    dev: Path
    crawl: Path
    gold: Path
    num_pages: int
    num_labelled: int
    num_chars: int


def make_demo(folder: str | Path, *, seed: int = 0) -> DemoWorld:
    """Write the demo's corpus, crawl shards and gold.

    Equal seeds write equal bytes. No line or sentence of a page occurs in `train.conll` or
    `dev.conll`; pages show names that `train.conll` does not.

    Args:
        folder: Made if it is not there.
        seed: Decides the names held out, the sentences and the pages.
    """
    root = Path(folder)
    crawl = root / "crawl"
    crawl.mkdir(parents=True, exist_ok=True)
    train, dev = make_corpus(seed)
    pages = make_pages(seed)
    write_conll(root / "train.conll", train)
    write_conll(root / "dev.conll", dev)
    parquet_pages, wet_pages = pages[:NUM_PARQUET_PAGES], pages[NUM_PARQUET_PAGES:]
    ids = _write_shards(crawl, parquet_pages) + write_wet(crawl / "pages.warc.wet.gz", wet_pages)
    labelled = _write_gold(root / "gold.jsonl", list(zip(ids, pages, strict=True)), seed)
    return DemoWorld(
        train=root / "train.conll",
        dev=root / "dev.conll",
        crawl=crawl,
        gold=root / "gold.jsonl",
        num_pages=len(pages) + 2,
        num_labelled=labelled,
        num_chars=sum(len(page.passage.text) for page in pages),
    )


def make_corpus(seed: int) -> tuple[list[Passage], list[Passage]]:
    """Write the sentences of the training split and of the dev split, no two of them equal."""
    gazetteer, templates = load_gazetteer(seed), load_templates()
    seen: set[str] = set()
    splits = []
    for use, split, count in (
        ("train", Split.TRAIN, NUM_TRAIN_SENTENCES),
        ("dev", Split.DEV, NUM_DEV_SENTENCES),
    ):
        rng = np.random.default_rng([seed, split])
        maker = SentenceMaker(gazetteer.upto(split), rng)
        splits.append(_distinct(maker.stream(templates.of(use)), count, seen))
    return splits[0], splits[1]


def _distinct(stream: Iterator[Passage], count: int, seen: set[str]) -> list[Passage]:
    sentences: list[Passage] = []
    while len(sentences) < count:
        sentence = next(stream)
        if sentence.text not in seen:
            seen.add(sentence.text)
            sentences.append(sentence)
    return sentences


def make_pages(seed: int) -> list[Page]:
    """Write the pages of the crawl, those of the Parquet shards first."""
    maker = PageMaker(load_gazetteer(seed), np.random.default_rng([seed, Split.PAGES]))
    count = NUM_PARQUET_PAGES + NUM_WET_PAGES
    return [maker.write(n, hostile=n % HOSTILE_EVERY == 7) for n in range(count)]


def write_conll(path: Path, sentences: Iterable[Passage]) -> None:
    """Write sentences in two columns, token and IOB2 tag, a blank line after each.

    Raises:
        ContractError: If an entity does not begin and end with a token.
    """
    lines: list[str] = []
    for sentence in sentences:
        tokens = tokenize(sentence.text)
        tags = _iob2_tags(sentence, tokens)
        lines += [f"{sentence.text[s:e]} {tag}" for (s, e), tag in zip(tokens, tags, strict=True)]
        lines.append("")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _iob2_tags(sentence: Passage, tokens: list[tuple[int, int]]) -> list[str]:
    tags = ["O"] * len(tokens)
    starts = {start: place for place, (start, _) in enumerate(tokens)}
    ends = {end: place for place, (_, end) in enumerate(tokens)}
    for start, end, label in sentence.entities:
        if start not in starts or end not in ends:
            raise ContractError(f"'{sentence.text[start:end]}' cuts a token of '{sentence.text}'")
        first, last = starts[start], ends[end]
        tags[first : last + 1] = [f"B-{label}"] + [f"I-{label}"] * (last - first)
    return tags


def _write_shards(crawl: Path, pages: list[Page]) -> list[str]:
    """Write the Parquet shards; the last also holds an empty page and one without text."""
    ids = [f"demo-{number:05d}" for number in range(len(pages))]
    rows: list[tuple[str, str, str, str | None]] = [
        (doc_id, page.address, "en", page.passage.text)
        for doc_id, page in zip(ids, pages, strict=True)
    ]
    rows.append(("demo-empty", "https://demo.example/empty.html", "en", ""))
    rows.append(("demo-null", "https://demo.example/null.html", "en", None))
    per_shard = -(-len(rows) // NUM_PARQUET_SHARDS)
    schema = pa.schema([(name, pa.string()) for name in ("doc_id", "url", "lang", "text")])
    for shard in range(NUM_PARQUET_SHARDS):
        chosen = rows[shard * per_shard : (shard + 1) * per_shard]
        columns = [pa.array(column, pa.string()) for column in zip(*chosen, strict=True)]
        table = pa.Table.from_arrays(columns, schema=schema)
        pq.write_table(table, crawl / f"part-{shard:05d}.parquet", row_group_size=32)
    return ids


def write_wet(path: Path, pages: list[Page]) -> list[str]:
    """Write pages as WARC `conversion` records, a gzip member each, after a `warcinfo` record.

    Returns:
        The record ids, without angle brackets.
    """
    ids = [f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, page.address)}" for page in pages]
    about = b"software: the demo of linkner-ray\r\nformat: WARC File Format 1.0\r\n"
    members = [
        _record("warcinfo", f"urn:uuid:{uuid.UUID(int=0)}", about, kind="application/warc-fields")
    ]
    for record_id, page in zip(ids, pages, strict=True):
        content = page.passage.text.encode()
        members.append(
            _record("conversion", record_id, content, kind="text/plain", address=page.address)
        )
    path.write_bytes(b"".join(gzip.compress(member, mtime=0) for member in members))
    return ids


def _record(
    record_type: str, record_id: str, content: bytes, *, kind: str, address: str | None = None
) -> bytes:
    fields = [
        "WARC/1.0",
        f"WARC-Type: {record_type}",
        *([f"WARC-Target-URI: {address}"] if address else []),
        "WARC-Date: 2024-01-01T00:00:00Z",
        f"WARC-Record-ID: <{record_id}>",
        *(["WARC-Identified-Content-Language: eng"] if address else []),
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join(fields).encode() + b"\r\n\r\n" + content + b"\r\n\r\n"


def _write_gold(path: Path, pages: list[tuple[str, Page]], seed: int) -> int:
    rng = np.random.default_rng([seed, 99])
    chosen = sorted(rng.permutation(len(pages))[: round(len(pages) * LABELLED_SHARE)])
    rows = [
        {"doc_id": pages[i][0], "entities": [list(e) for e in pages[i][1].passage.entities]}
        for i in chosen
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return len(lines)
