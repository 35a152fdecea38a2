"""What several benchmarks are tried on: a small model, a labelled set and recorded answers."""

import json

import pytest

from tests.spanner import tiny

CORPUS = (
    "Peter B-PER\nBlackburn I-PER\nmet O\nMicrosoft B-ORG\n. O\n\n"
    "Paris B-LOC\n, O\nLondon B-LOC\nand O\nNew B-LOC\nYork I-LOC\n. O\n\n"
)
RECORDED = (
    {
        "index": 0,
        "tokens": ["Peter", "Blackburn", "met", "Microsoft", "."],
        "entities": [[0, 2, "PER"], [3, 4, "LOC"]],
    },
    {
        "index": 1,
        "tokens": ["Paris", ",", "London", "and", "New", "York", "."],
        "entities": None,
    },
)


@pytest.fixture
def arguments(tmp_path):
    """Flags and values, in turn."""
    tiny.model().save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "set.conll").write_text(CORPUS)
    (tmp_path / "replay.jsonl").write_text("\n".join(map(json.dumps, RECORDED)))
    return [
        *("--checkpoint", str(tmp_path / "checkpoint"), "--set", str(tmp_path / "set.conll")),
        *("--replay", str(tmp_path / "replay.jsonl"), "--json", str(tmp_path / "numbers.json")),
    ]
