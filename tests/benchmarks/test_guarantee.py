"""The count of broken promises, on sets whose errors are known."""

import json

import numpy as np
import pytest

from benchmarks import guarantee
from benchmarks.guarantee import Predicted, hold
from tests.spanner import tiny

CORPUS = (
    "Peter B-PER\nBlackburn I-PER\nmet O\nMicrosoft B-ORG\n. O\n\n"
    "Paris B-LOC\n, O\nLondon B-LOC\nand O\nNew B-LOC\nYork I-LOC\n. O\n\n"
)


def drawn(num_sentences, *, chance, per_sentence=4, seed=0):
    """Entities whose chance of being wrong rises with uncertainty, whole sentences at a time."""
    rng = np.random.default_rng(seed)
    size = num_sentences * per_sentence
    uncertainty = rng.random(size).astype(np.float32)
    hard = np.repeat(rng.random(num_sentences) < 0.25, per_sentence)
    return Predicted(
        uncertainty=uncertainty,
        correct=~(hard & (rng.random(size) < np.minimum(1.0, 4 * chance * uncertainty))),
        sentence=np.repeat(np.arange(num_sentences), per_sentence),
        num_sentences=num_sentences,
    )


def test_sentences_are_taken_with_their_entities():
    own = Predicted(
        uncertainty=np.array([0.1, 0.2, 0.3], dtype=np.float32),
        correct=np.array([True, False, True]),
        sentence=np.array([0, 2, 2]),
        num_sentences=4,
    )
    found = own.of(np.array([1, 2, 2]))
    np.testing.assert_allclose(found.uncertainty, [0.2, 0.3, 0.2, 0.3])
    assert found.sentence.tolist() == [1, 1, 2, 2]  # drawn twice, they are two sentences
    assert found.correct.tolist() == [False, True, False, True]
    # From 0.3 up it is asked about.
    assert own.local(0.3) == (0.5, pytest.approx(2 / 3))
    assert own.local(0.1) == (0.0, 0.0)


def test_the_test_keeps_what_plain_choice_breaks():
    own, other = drawn(600, chance=0.16), drawn(300, chance=0.4, seed=1)
    broken = {}
    for way in guarantee.WAYS:
        rows = hold(own, {"other": other}, way=way, splits=40, alpha=0.05, delta=0.1)
        assert [row["set"] for row in rows] == ["rest", "whole", "other"]
        broken[way] = {row["set"]: row["broken"] for row in rows}
        assert all(row["local_share"] > 0.2 for row in rows)
    # 40 times at 0.1 and three standard deviations of luck.
    assert broken["tested"]["whole"] <= 0.1 + 3 * (0.1 * 0.9 / 40) ** 0.5
    assert broken["plain"]["whole"] > 0.3
    assert broken["tested"]["whole"] <= broken["tested alone"]["whole"] <= broken["plain"]["whole"]
    # Nothing is promised for text on which the model errs more often.
    assert broken["tested"]["other"] > 0.5


def test_what_cannot_be_promised_is_refused_and_not_broken():
    own = drawn(40, chance=0.1)
    rows = hold(own, {}, way="tested", splits=3, alpha=0.05, delta=0.1)
    assert [(row["refused"], row["broken"], row["error"]) for row in rows] == [(1.0, 0.0, None)] * 2


def test_the_command_writes_its_numbers(tmp_path, capsys):
    tiny.model().save_pretrained(tmp_path / "checkpoint")
    corpus = tmp_path / "set.conll"
    corpus.write_text(CORPUS * 30)
    arguments = [
        *("--checkpoint", str(tmp_path / "checkpoint"), "--calibrate", str(corpus)),
        *("--also", f"same={corpus}", "--splits", "2", "--alpha", "0.9", "--threads", "1"),
        *("--json", str(tmp_path / "numbers.json")),
    ]
    numbers = guarantee.main(arguments)
    assert json.loads((tmp_path / "numbers.json").read_text()) == numbers
    assert [(row["way"], row["set"]) for row in numbers["rows"]] == [
        (way, name) for way in guarantee.WAYS for name in ("rest", "whole", "same")
    ]
    assert 0 < numbers["error"] <= 1
    assert "| tested | whole |" in capsys.readouterr().out
