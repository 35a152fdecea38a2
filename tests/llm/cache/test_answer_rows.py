"""Answers packed into arrays: all of them, in the order of the classes that ask."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.llm.cache.answer_rows import (
    AnswerRows,
    checksums,
    key_array,
    key_column,
    sort_keys,
)
from linkner_ray.llm.cache.files import entries_table
from linkner_ray.llm.prompts import Verdict
from tests.llm.caches import CLASSES, entry, key, unsure

TABLE = entries_table([entry(1, score=0.25), unsure(2), entry(3)], CLASSES)


def unpacked(rows, table, model="some-llm"):
    packed = rows.pack(table, model)
    names = {key_array([key(number)])[0]: key(number) for number in range(10)}
    return list(rows.unpack([names[name] for name in packed.keys], packed.rows).values())


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
    part, whole = rows.pack(TABLE.slice(1, 2), "some-llm"), rows.pack(TABLE, "some-llm")
    assert part.keys.tolist() == whole.keys[1:].tolist()
    assert part.rows.tobytes() == whole.rows[1:].tobytes()


def test_answers_whose_classes_come_in_several_orders_are_packed_together():
    turned = entries_table([entry(4, score=0.25), entry(5, score=0.5)], ("ORG", "O", "PER"))
    table = pa.concat_tables([TABLE, turned, TABLE.slice(0, 1)])
    found = {a.key: a.probs for a in unpacked(AnswerRows(CLASSES), table)}
    # `entry` gives its classes (0, score, 1 - score): here to ORG, O and PER.
    assert found[key(4)] == (0.25, 0.75, 0.0)
    assert found[key(1)] == (0.0, 0.25, 0.75)


@pytest.mark.parametrize(
    "classes", [("O", "PER", "LOC"), ("O", "PER"), ("O", "PER", "ORG", "LOC"), ("O", "PER", "PER")]
)
def test_an_answer_about_other_labels_is_left_out(classes):
    assert [answer.key for answer in unpacked(AnswerRows(classes), TABLE)] == [key(2)]


def test_an_answer_of_another_model_is_left_out():
    table = entries_table([entry(1), entry(2, model="other")], CLASSES)
    assert [answer.key for answer in unpacked(AnswerRows(CLASSES), table, "other")] == [key(2)]


@pytest.mark.parametrize("position", range(24))
def test_a_changed_byte_changes_the_checksum_or_is_in_it(position):
    packed = AnswerRows(CLASSES).pack(TABLE, "some-llm")
    broken = packed.rows.copy()
    broken.view(np.uint8).reshape(3, 24)[:, position] ^= 1
    assert (checksums(packed.keys, packed.rows) == packed.rows["checksum"]).all()
    assert (checksums(packed.keys, broken) != broken["checksum"]).all()


def test_answers_that_were_swapped_or_zeroed_are_found_out():
    packed = AnswerRows(CLASSES).pack(TABLE, "some-llm")
    assert (checksums(packed.keys[::-1].copy(), packed.rows) != packed.rows["checksum"])[::2].all()
    empty = np.zeros_like(packed.rows)
    assert (checksums(np.zeros_like(packed.keys), empty) != empty["checksum"]).all()


KEYS = st.integers(0, 6).map(lambda n: f"k1:{n << 64 | (n % 2) << 8:032x}")
"""Among them keys that end in zero bytes."""


@given(st.lists(KEYS, max_size=20))
def test_keys_are_sorted_as_their_names_and_the_first_of_each_is_told(names):
    order, is_first = sort_keys(key_array(names))
    expected = sorted(range(len(names)), key=lambda row: (names[row], row))
    assert order.tolist() == expected
    assert [names[row] for row in order[is_first]] == sorted(set(names))


@given(st.lists(KEYS, max_size=20), st.integers(0, 20))
def test_a_column_of_keys_is_read_as_their_names_are(names, place):
    parts = [pa.array(names[:place], pa.string()), pa.array(names[place:], pa.string())]
    column = pa.chunked_array([pa.array(["k22:x", *names], pa.string()).slice(1)])
    assert key_column(column).tolist() == key_array(names).tolist()
    assert key_column(pa.chunked_array(parts)).tolist() == key_array(names).tolist()
