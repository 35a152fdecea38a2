"""Answers packed into bytes: all of them, in the order of the classes that ask."""

import numpy as np
import pytest

from linkner_ray.llm.cache.answer_rows import (
    AnswerRows,
    BrokenRowError,
    PackedAnswers,
    key_bytes,
)
from linkner_ray.llm.cache.files import entries_table
from linkner_ray.llm.prompts import Verdict
from tests.llm.caches import CLASSES, entry, key, unsure

TABLE = entries_table([entry(1, score=0.25), unsure(2), entry(3)], CLASSES)


def unpacked(rows, table):
    numbers = {key_bytes(key(number)): key(number) for number in range(10)}
    return [rows.unpack(numbers[name], value) for name, value in rows.pack(table).rows()]


def test_answers_come_back_as_they_were_given():
    first, second, third = unpacked(AnswerRows(CLASSES), TABLE)
    assert (first.key, first.verdict, first.label) == (key(1), Verdict.LABEL, "PER")
    assert first.probs == (0.0, 0.25, 0.75)
    assert (first.prompt_tokens, third.prompt_tokens) == (1, 3)
    assert (second.key, second.verdict) == (key(2), Verdict.UNREADABLE)
    assert second.probs is second.label is second.prompt_tokens is None
    assert {answer.source for answer in (first, second, third)} == {"cache"}


def test_a_slice_is_packed_as_its_rows_are():
    rows = AnswerRows(CLASSES)
    assert list(rows.pack(TABLE.slice(1, 2)).rows()) == list(rows.pack(TABLE).rows())[1:]


def test_rows_are_sorted_and_the_first_answer_to_a_key_stays():
    rows = AnswerRows(CLASSES)
    tables = [[entry(9, score=0.25), entry(1 << 64)], [entry(9, score=0.75), entry(2)]]
    packed = PackedAnswers.of([rows.pack(entries_table(t, CLASSES)) for t in tables])
    found = {name: rows.unpack(key(9), value).probs for name, value in packed.rows()
             if name == key_bytes(key(9))}  # fmt: skip
    assert [name for name, _ in packed.rows()] == [key_bytes(key(n)) for n in (2, 9, 1 << 64)]
    assert found == {key_bytes(key(9)): (0.0, 0.25, 0.75)}


def test_probabilities_come_in_the_order_of_the_classes_that_ask():
    assert unpacked(AnswerRows(("O", "ORG", "PER")), TABLE)[0].probs == (0.0, 0.75, 0.25)


@pytest.mark.parametrize("classes", [("O", "PER", "LOC"), ("O", "PER"), ("O", "PER", "ORG", "LOC")])
def test_an_answer_about_other_labels_is_left_out(classes):
    assert [answer.key for answer in unpacked(AnswerRows(classes), TABLE)] == [key(2)]


def test_a_value_takes_twelve_bytes_and_four_for_each_class():
    assert {len(value) for _, value in AnswerRows(CLASSES).pack(TABLE).rows()} == {
        12 + 4 * len(CLASSES)
    }


@pytest.mark.parametrize("position", range(24))
def test_a_changed_byte_is_found_out(position):
    rows = AnswerRows(CLASSES)
    [(_, value), *_] = rows.pack(TABLE).rows()
    broken = np.frombuffer(value, np.uint8).copy()
    broken[position] ^= 1
    with pytest.raises(BrokenRowError):
        rows.unpack(key(1), broken.tobytes())
    with pytest.raises(BrokenRowError):
        rows.unpack(key(2), value)
    with pytest.raises(BrokenRowError):
        rows.unpack(key(1), value[:-1])
