import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.llm.cache import answer_index
from linkner_ray.llm.cache.answer_index import AnswerIndex
from linkner_ray.llm.cache.files import entries_table
from linkner_ray.llm.prompts import Verdict
from tests.llm.caches import CLASSES, entry, key, unsure


@pytest.mark.parametrize("most_recent", [0, 3, 1000])
def test_answers_come_back_as_they_were_given(monkeypatch, most_recent):
    monkeypatch.setattr(answer_index, "_MOST_RECENT", most_recent)
    index = AnswerIndex(CLASSES)
    index.add([entries_table([entry(1, score=0.25), unsure(2)], CLASSES)])
    index.add([entries_table([entry(3)], CLASSES), entries_table([entry(1, score=1)], CLASSES)])
    found = index.find([key(1), key(2), key(3), key(4)])
    assert set(found) == {key(1), key(2), key(3)}
    assert found[key(1)].probs == (0.0, 0.25, 0.75)
    assert (found[key(1)].verdict, found[key(1)].label) == (Verdict.LABEL, "PER")
    assert found[key(1)].prompt_tokens == 1
    assert found[key(2)].verdict is Verdict.UNREADABLE
    assert found[key(2)].probs is found[key(2)].label is None
    assert {answer.source for answer in found.values()} == {"cache"}
    assert len(index) == 3


def test_probabilities_come_in_the_order_of_the_classes_that_ask():
    index = AnswerIndex(("O", "ORG", "PER"))
    index.add([entries_table([entry(1, score=0.25)], CLASSES)])
    assert index.find([key(1)])[key(1)].probs == (0.0, 0.75, 0.25)


@pytest.mark.parametrize("most_recent", [0, 1000])
def test_an_answer_about_other_labels_is_none(monkeypatch, most_recent):
    monkeypatch.setattr(answer_index, "_MOST_RECENT", most_recent)
    index = AnswerIndex(("O", "PER", "LOC"))
    index.add([entries_table([entry(1)], CLASSES)])
    assert index.find([key(1)]) == {}


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), max_size=8),
    st.sampled_from([0, 4, 100]),
)
def test_an_index_is_a_dictionary_filled_once(files, most_recent):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_index, "_MOST_RECENT", most_recent)
        index, expected = AnswerIndex(CLASSES), {}
        scores = iter(np.linspace(0, 1, 41).tolist())
        for numbers in files:
            # Keys that share their first half, their last half, or nothing.
            ids = [(n % 3) << 64 | n for n in numbers]
            entries = [entry(number, score=next(scores)) for number in ids]
            index.add([entries_table(entries, CLASSES)])
            for made in entries:
                expected.setdefault(made.answer.key, float(np.float32(made.answer.probs[1])))
        keys = [key(high << 64 | low) for high in range(3) for low in range(10)]
        found = {name: answer.probs[1] for name, answer in index.find(keys).items()}
        assert found == expected
        assert len(index) >= len(expected)


def test_an_entry_takes_little_memory(monkeypatch):
    monkeypatch.setattr(answer_index, "_MOST_RECENT", 0)
    index = AnswerIndex(CLASSES)
    index.add([entries_table([entry(number) for number in range(1000)], CLASSES)])
    # 16 key; verdict 4+5, label 4+3, probs 4 + 3*(4+4+3), tokens 4, and validity bits
    assert 70 < index.num_bytes / len(index) < 80
