"""Hostile documents through every step a worker does, and damaged files through a whole run."""

import json
import random
from dataclasses import dataclass
from itertools import pairwise

import pyarrow.dataset as ds
import pytest

from linkner_ray.cli import main
from linkner_ray.errors import ErrorLimitError
from linkner_ray.readers import list_sources
from linkner_ray.runs.counters import add_counts, check_counters
from linkner_ray.unread import count_unread
from tests.crawl import config_of, overrides
from tests.hostile import KINDS, PACKINGS, doc_id_of, hostile_texts, mutate
from tests.local_pipeline import run_here
from tests.spanner.tiny import LABELS

PLACES = ("parquet", "jsonl", "jsonl_gz", "wet_gz", "warc")
"""A way of each kind in which shards come."""

NUM_DOCUMENTS = 1_000
SEED = 20


@dataclass(frozen=True)
class Done:
    """What became of a shard."""

    given: dict[str, str]
    rows: list[dict]
    candidates: dict[str, dict]
    quarantine: list[dict]
    totals: dict[str, int]


def send(folder, name, given, checkpoint, *, more=b"", unit_documents=50):
    """Write documents as a shard and send it through all steps, without Ray."""
    packing = PACKINGS[name]
    folder.mkdir(parents=True)
    (folder / packing.file_name).write_bytes(packing.pack(given) + more)
    config = config_of(
        *overrides(folder / packing.file_name, folder / "out", checkpoint),
        f"input.unit_documents={unit_documents}",
    )
    sources = list_sources(config.input)
    totals: dict[str, int] = {}
    for unit_result in run_here(
        config,
        plan_digest="plan",
        label_set=LABELS,
        todo=[(source, {}) for source in sources],
        sources=sources,
    ):
        add_counts(totals, unit_result.counts)
    check_counters(totals)
    tables = {
        part: ds.dataset(folder / "out" / part).to_table().to_pylist()
        for part in ("entities", "candidates", "_quarantine")
        if (folder / "out" / part).is_dir()
    }
    return Done(
        given=given,
        rows=tables["entities"],
        candidates={row["doc_id"]: row for row in tables["candidates"]},
        quarantine=tables.get("_quarantine", []),
        totals=totals,
    )


@pytest.fixture(scope="module", params=PLACES)
def done(request, tmp_path_factory, checkpoint):
    """A fifth of the documents, of every kind, in one format."""
    share = NUM_DOCUMENTS // len(PLACES)
    texts = hostile_texts(share, seed=SEED + PLACES.index(request.param))
    given = {str(index): text for index, text in enumerate(texts)}
    return send(tmp_path_factory.mktemp("fuzz") / request.param, request.param, given, checkpoint)


def test_every_kind_of_text_comes_in_every_format():
    assert NUM_DOCUMENTS // len(PLACES) >= 2 * len(KINDS)


def test_every_hostile_document_is_accounted_for(done, request):
    assert [row["doc_id"] for row in done.rows] == [doc_id_of(name) for name in done.given]
    assert not done.quarantine
    texts = {row["doc_id"]: row["text"] for row in done.rows}
    if "warc" not in request.node.callspec.id:  # there a text is what HTML makes of it
        assert texts == {doc_id_of(name): text for name, text in done.given.items()}
    assert done.totals["documents_read"] == len(done.given)
    assert done.totals["characters_total"] == sum(map(len, texts.values()))
    assert done.totals["characters_quarantined"] == 0


def test_every_visible_character_stands_in_one_token_of_one_sentence(done):
    for row in done.rows:
        text, sentences = row["text"], done.candidates[row["doc_id"]]["sentences"]
        for before, after in pairwise(sentences):
            assert before["end"] <= after["start"]
        tokens = [(token["start"], token["end"]) for s in sentences for token in s["tokens"]]
        assert all(0 <= start < end <= len(text) for start, end in tokens)
        edges = [0, *(edge for token in tokens for edge in token), len(text)]
        between = [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
        assert count_unread("".join(between), []) == (sum(map(len, between)), 0)
        for sentence in sentences:
            assert sentence["start"] == sentence["tokens"][0]["start"]
            assert sentence["end"] == sentence["tokens"][-1]["end"]


def test_every_candidate_is_whole_tokens_of_its_sentence(done):
    assert done.totals["candidates"] > len(done.given)
    for row in done.candidates.values():
        for candidate in row["candidates"]:
            tokens = row["sentences"][candidate["sentence"]]["tokens"]
            assert candidate["start"] in {token["start"] for token in tokens}
            assert candidate["end"] in {token["end"] for token in tokens}
            assert candidate["start"] < candidate["end"]
            assert all(0 <= share <= 1 for share in candidate["label_probs"])


def test_every_entity_is_the_text_at_its_offsets(done):
    assert done.totals["entities"] > len(done.given)
    for row in done.rows:
        for entity in row["entities"]:
            assert row["text"][entity["start"] : entity["end"]] == entity["text"]
            assert entity["text"].strip() == entity["text"] != ""


@pytest.mark.parametrize("place", ["text", "doc_id", "url", "another"])
def test_a_lone_surrogate_of_a_json_escape_costs_its_document_alone(tmp_path, checkpoint, place):
    lines = [
        json.dumps({"doc_id": "bad", "text": "Ada", place: "HERE"}).replace("HERE", r"a\ud83d b"),
        json.dumps({"doc_id": "good", "text": "Ada \U0001f600"}),  # a pair of escapes
    ]
    done = send(tmp_path / "a", "jsonl", {"0": "Paris"}, checkpoint, more="\n".join(lines).encode())
    names = [row["doc_id"] for row in done.rows]
    if place == "another":  # not read
        assert names == ["urn:test:0", "bad", "good"]
        return
    assert names == ["urn:test:0", "good"]
    assert done.rows[1]["text"] == "Ada \U0001f600"
    [row] = done.quarantine
    assert (row["record"], row["reason"], row["raw"]) == (1, "invalid_unicode", r"a\ud83d b")
    assert row["byte_offset"] == len(PACKINGS["jsonl"].pack({"0": "Paris"}))
    assert done.totals["documents_quarantined"] == 1


def test_a_word_of_a_hundred_thousand_letters_is_read(tmp_path, checkpoint):
    letter = "\U0001d54f"  # of no script that has blanks, so the text may be language
    text = f"Ada {letter * 100_000} Berlin"
    done = send(tmp_path / "a", "jsonl", {"0": text}, checkpoint)
    [row] = done.rows
    assert row["text"] == text
    tokens = [t for s in done.candidates["urn:test:0"]["sentences"] for t in s["tokens"]]
    assert (tokens[-1]["start"], tokens[-1]["end"]) == (100_005, 100_011)
    assert sum(token["end"] - token["start"] for token in tokens) == 100_009
    assert {entity["text"] for entity in row["entities"]} & {"Ada", "Berlin"}


FILES_OF_A_RUN = 2 * len(PACKINGS)


@pytest.mark.usefixtures("without_ray")
def test_a_run_over_damaged_files_ends_with_its_counters_in_order(tmp_path, checkpoint):
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    texts = {str(i): text for i, text in enumerate(hostile_texts(len(KINDS), seed=SEED))}
    for index, packing in enumerate([*PACKINGS.values()] * 2):
        content = packing.pack(texts)
        if index >= len(PACKINGS):  # the first of each kind is sound
            content = mutate(content, random.Random(index))
        (crawl / f"{index}{packing.file_name}").write_bytes(content)
    output = tmp_path / "out"
    arguments = [
        *overrides(crawl, output, checkpoint, "errors.max_share=0.01"),
        "input.unit_documents=16",
    ]
    assert main(["extract", *arguments]) == ErrorLimitError.exit_code
    manifest = json.loads((output / "_manifest.json").read_text())
    totals = manifest["totals"]
    check_counters(totals)
    assert manifest["sources"]["count"] == FILES_OF_A_RUN
    assert totals["documents_quarantined"] > 0
    assert totals["files_quarantined"] > 0
    rows = ds.dataset(output / "entities").to_table().to_pylist()
    assert len(rows) == totals["documents_entities"] + totals["documents_empty"]
    assert len(rows) >= len(PACKINGS) * len(texts)
    for row in rows:
        for entity in row["entities"]:
            assert row["text"][entity["start"] : entity["end"]] == entity["text"]
    quarantine = ds.dataset(output / "_quarantine").to_table()
    lost = totals["documents_quarantined"] + totals["files_quarantined"]
    assert quarantine.num_rows == lost
    assert (output / "_SUCCESS").exists()
    page = (output / "report.md").read_text()
    for reason in set(quarantine["reason"].to_pylist()):
        assert f"| {reason} |" in page
