"""The benchmark of `routing.per_name`, on a local model that knows nothing."""

import json

import pyarrow as pa
import pytest

from benchmarks import same_name
from linkner_ray.schemas import STAGE_COLUMNS
from tests.crawl import write_checkpoint

SENTENCES = ["ada saw paris in the", "ada saw paris in the", "the ada of paris saw"]
"""Two in the first document, one in the second."""


@pytest.fixture
def corpus(tmp_path):
    entries = [{"context": context, "span_posLabel": {}} for context in SENTENCES]
    entries[0]["span_posLabel"] = {"0;0": "PER", "2;2": "LOC"}
    entries[2]["span_posLabel"] = {"1;1": "PER"}
    marker = {"context": "-DOCSTART- -X-", "span_posLabel": {}}
    path = tmp_path / "set.json"
    path.write_text(json.dumps([marker, *entries[:2], marker, entries[2]]))
    return path


def test_sentences_become_the_documents_between_the_markers(corpus):
    assert same_name.document_starts(corpus) == [0, 2]
    spans = [(0, 3), (8, 13), (4, 7)]
    candidates = [[{"sentence": 0, "start": start, "end": end}] for start, end in spans]
    answers = [[{"key": text}] for text in SENTENCES]
    table = pa.table(
        {
            "text": SENTENCES,
            "candidates": pa.array(candidates, STAGE_COLUMNS["candidates"]),
            "answers": pa.array(answers, STAGE_COLUMNS["answers"]),
        }
    )
    gold = [[(*span, "PER")] for span in spans]
    found, joined = same_name.as_documents(table, gold, [0, 2])
    texts = found["text"].to_pylist()
    assert texts == ["\n".join(SENTENCES[:2]), SENTENCES[2]]
    places = [[(c["start"], c["end"]) for c in row] for row in found["candidates"].to_pylist()]
    quoted = [[text[slice(*p)] for p in row] for text, row in zip(texts, places, strict=True)]
    assert quoted == [["ada", "paris"], ["ada"]]
    assert joined == [[(*place, "PER") for place in row] for row in places]
    kept = [[answer["key"] for answer in row] for row in found["answers"].to_pylist()]
    assert kept == [SENTENCES[:2], SENTENCES[2:]]


def test_fewer_questions_a_name_are_fewer_questions(corpus, tmp_path, capsys):
    recording = tmp_path / "llm.jsonl"
    lines = [
        {"index": number, "tokens": text.split(), "entities": [[0, 1, "PER"]]}
        for number, text in enumerate(SENTENCES)
    ]
    recording.write_text("\n".join(map(json.dumps, lines)) + "\n")
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    numbers = same_name.main(["--pair", f"made={checkpoint}:{corpus}:{recording}"])
    each, four, two, one = (numbers[f"questions_made_from 0_{n}"] for n in (None, 4, 2, 1))
    assert each == four == two > one > 0
    assert "| asked" in capsys.readouterr().out
