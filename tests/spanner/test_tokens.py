from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.tokens import TokenTable, runs

lists_of_tokens = st.lists(st.lists(st.sampled_from("abc"), max_size=4), max_size=9)


def listed(tokens):
    bounds = tokens.first.tolist()
    words = [tokens.words[number] for number in tokens.word]
    return [words[a:b] for a, b in pairwise(bounds)]


def test_runs_of_integers():
    assert runs(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]


@given(lists_of_tokens, st.data())
def test_a_table_holds_its_sentences(sentences, data):
    tokens = TokenTable.of(sentences)
    assert (len(tokens), listed(tokens)) == (len(sentences), sentences)
    assert len(set(tokens.words)) == len(tokens.words)
    first, end = sorted(data.draw(st.tuples(*[st.integers(0, len(sentences))] * 2)))
    run = tokens.between(first, end)
    assert listed(run) == sentences[first:end]
    assert sorted(run.words) == sorted(set(chain.from_iterable(sentences[first:end])))


@given(lists_of_tokens)
def test_distinct_sentences_stand_for_all(sentences):
    distinct, number = TokenTable.of(sentences).distinct()
    expected = list(dict.fromkeys(map(tuple, sentences)))
    assert listed(distinct) == list(map(list, expected))
    assert number.tolist() == [expected.index(tuple(sentence)) for sentence in sentences]


def test_sentences_of_the_same_words_in_other_fields_are_not_the_same():
    fields = np.array([7, 7, 8, 0, 1, 1, 4, 4, 5], dtype=np.int32)
    words = TokenTable.of([["a", "|", "b"]] * 3)
    tokens = TokenTable(words=words.words, word=words.word, first=words.first, fields=fields)
    distinct, number = tokens.distinct()
    assert number.tolist() == [0, 1, 0]
    assert distinct.fields.tolist() == [7, 7, 8, 0, 1, 1]


@pytest.mark.parametrize("places", [[], [(1, 0, 2), (0, 1, 2), (1, 0, 1)]])
def test_texts_of_spans(places):
    tokens = TokenTable.of([["EU", "rejects"], ["New", "York", "City"]])
    sentence, start, end = np.array(places, dtype=np.int64).reshape(-1, 3).T
    expected = [["New", "York"], ["rejects"], ["New"]][: len(places)]
    assert tokens.texts(sentence, start, end) == expected
