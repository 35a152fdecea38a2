import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from examples.demo.names import load_gazetteer
from examples.demo.sentences import LABELS, Passage
from examples.demo.tokens import tokenize
from examples.demo.world import (
    NUM_PARQUET_PAGES,
    NUM_WET_PAGES,
    make_corpus,
    make_demo,
    write_conll,
)
from linkner_ray.errors import ContractError


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("demo"), seed=0)


@pytest.fixture(scope="module")
def texts(demo):
    """Every page as a reader of its shard sees it, by document id."""
    found = {}
    for shard in sorted(demo.crawl.glob("*.parquet")):
        for row in pq.read_table(shard).to_pylist():
            found[row["doc_id"]] = row["text"]
    with (demo.crawl / "pages.warc.wet.gz").open("rb") as stream:
        for record in ArchiveIterator(stream, record_types=WarcRecordType.conversion):
            found[record.record_id.strip("<>")] = record.reader.read().decode()
    return found


def read_conll(path: Path) -> list[list[tuple[str, str]]]:
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    return [[tuple(line.split(" ")) for line in block.split("\n")] for block in blocks]


def entities_of(sentence: list[tuple[str, str]]) -> list[tuple[str, ...]]:
    entities: list[list[str]] = []
    for token, tag in sentence:
        if tag.startswith("B-"):
            entities.append([token])
        elif tag.startswith("I-"):
            entities[-1].append(token)
    return [tuple(entity) for entity in entities]


def test_the_demo_is_always_the_same(demo, texts):
    """Its LLM has learnt these names, and its scores are of these pages."""
    found = {path.name: path.read_bytes() for path in (demo.train, demo.dev, demo.gold)}
    found["texts"] = "\0".join(text for _, text in sorted(texts.items()) if text).encode()
    assert {name: hashlib.sha256(raw).hexdigest()[:16] for name, raw in found.items()} == {
        "train.conll": "c5158206d678f89c",
        "dev.conll": "72b165dae05c5129",
        "gold.jsonl": "c5ade7645b2cce4c",
        "texts": "f755ab32eb97d08c",
    }


def test_another_seed_writes_other_sentences_and_holds_out_other_names(demo):
    train, _ = make_corpus(1)
    assert train[0].text not in demo.train.read_text().replace("\n", " ")
    assert load_gazetteer(0).held_out() != load_gazetteer(1).held_out()


def test_every_page_is_in_a_shard_with_one_empty_and_one_null(demo, texts):
    assert len(texts) == demo.num_pages == NUM_PARQUET_PAGES + NUM_WET_PAGES + 2
    assert [doc_id for doc_id, text in texts.items() if text == ""] == ["demo-empty"]
    assert [doc_id for doc_id, text in texts.items() if text is None] == ["demo-null"]
    assert sum(len(text) for text in texts.values() if text) == demo.num_chars


def test_gold_offsets_fit_the_text_a_reader_sees(demo, texts):
    rows = [json.loads(line) for line in demo.gold.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == demo.num_labelled == 144  # 60 % of 240
    assert any(row["doc_id"].startswith("urn:uuid:") for row in rows)
    names = set(load_gazetteer(0).splits)
    for row in rows:
        text = texts[row["doc_id"]]
        assert row["entities"]
        for start, end, label in row["entities"]:
            span = text[start:end]
            assert span == span.strip()
            assert span.replace("\u2019", "'") in names
            assert label in LABELS
        assert all(first[1] <= second[0] for first, second in pairwise(row["entities"]))


def test_train_and_dev_share_no_sentence_with_each_other_or_with_the_pages(demo, texts):
    train = {" ".join(token for token, _ in s) for s in read_conll(demo.train)}
    dev = {" ".join(token for token, _ in s) for s in read_conll(demo.dev)}
    assert not train & dev
    pages = "\n".join(text for text in texts.values() if text).replace("\u2019", "'")
    lines = {" ".join(line[s:e] for s, e in tokenize(line)) for line in pages.split("\n")}
    assert not (train | dev) & lines


def test_held_out_names_are_never_entities_of_the_training_split(demo):
    held_out = {
        tuple(name[start:end] for start, end in tokenize(name))
        for name in load_gazetteer(0).held_out()
    }
    shown = {
        entity[first:last]
        for sentence in read_conll(demo.train)
        for entity in entities_of(sentence)
        for first in range(len(entity))
        for last in range(first + 1, len(entity) + 1)
    }
    assert not shown & held_out


def test_pages_show_names_the_training_split_does_not(demo, texts):
    shown = {entity for s in read_conll(demo.train) for entity in entities_of(s)}
    mentions = [
        texts[row["doc_id"]][start:end]
        for row in map(json.loads, demo.gold.read_text(encoding="utf-8").splitlines())
        for start, end, _ in row["entities"]
    ]
    unseen = [m for m in mentions if tuple(m[s:e] for s, e in tokenize(m)) not in shown]
    assert 0.25 < len(unseen) / len(mentions) < 0.55


def test_conll_tags_are_iob2(tmp_path):
    sentence = Passage("Ada Lovelace met Bob.", ((0, 12, "PER"), (17, 20, "PER")))
    write_conll(tmp_path / "x.conll", [sentence])
    assert (tmp_path / "x.conll").read_text() == (
        "Ada B-PER\nLovelace I-PER\nmet O\nBob B-PER\n. O\n\n"
    )


def test_an_entity_that_cuts_a_token_is_refused(tmp_path):
    with pytest.raises(ContractError, match="cuts a token"):
        write_conll(tmp_path / "x.conll", [Passage("Adam", ((0, 3, "PER"),))])
