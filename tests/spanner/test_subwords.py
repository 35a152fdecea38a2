import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner import subwords
from linkner_ray.spanner.subwords import SpecialIds, SubwordEncoder, special_ids
from tests.spanner import tiny

TOKENIZERS = {"wordpiece": tiny.wordpiece(), "byte_bpe": tiny.byte_bpe()}


def encoder(name, *, max_token_subwords=50):
    tokenizer = TOKENIZERS[name]
    return SubwordEncoder(tokenizer, special_ids(tokenizer), max_token_subwords=max_token_subwords)


def pieces(encoder, words, word):
    """Names of the subwords of one of some words."""
    return [encoder.tokenizer.id_to_token(i) for i in encoder(words).of(np.array([word])).tolist()]


def test_special_ids_come_from_the_template():
    assert special_ids(tiny.wordpiece()) == SpecialIds(prefix=(2,), suffix=(3,), pad=0, fill=1)
    assert special_ids(tiny.byte_bpe()) == SpecialIds(prefix=(0,), suffix=(2,), pad=1, fill=3)


def test_truncation_and_padding_of_the_tokenizer_are_switched_off():
    one, many = (len(encoder("wordpiece")(["Paris"] * count).ids) for count in (1, 300))
    assert many == 300 * one


def test_a_byte_level_word_is_read_as_the_beginning_of_one():
    words = ["in", "Berlin"]
    assert [pieces(encoder("byte_bpe"), words, word)[0][0] for word in (0, 1)] == ["\u0120"] * 2


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("odd", ["\x00\x01", "", "\u200b", "\ufeff"])
def test_a_word_that_gives_no_subword_is_filled(name, odd):
    encode = encoder(name)
    words = [odd, "Paris", odd, odd, "Berlin"]
    assert (np.diff(encode(words).first) > 0).all()
    assert pieces(encode, words, 1) == pieces(encode, ["Paris"], 0)
    assert pieces(encode, words, 4) == pieces(encode, ["Berlin"], 0)


@pytest.mark.parametrize(
    ("name", "words"),
    [("wordpiece", ["[PAD]", "[CLS]", "[SEP]"]), ("byte_bpe", ["<s>", "<pad>", "</s>"])],
)
def test_a_word_that_is_spelt_as_a_special_token_is_text(name, words):
    encode = encoder(name)
    special = {encode.tokenizer.token_to_id(word) for word in words}
    assert None not in special
    assert not special & set(encode(words).ids.tolist())


def test_subwords_of_one_word_are_bounded():
    encode = encoder("wordpiece", max_token_subwords=3)
    whole = pieces(encoder("wordpiece"), ["boycottboycott"], 0)
    assert len(whole) > 3
    words = ["Paris", "boycottboycott", "."]
    assert pieces(encode, words, 1) == whole[:3]
    assert pieces(encode, words, 2) == ["."]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(words=st.lists(st.text(max_size=6), max_size=12))
def test_words_have_together_the_subwords_that_the_tokenizer_gives_their_sentence(name, words):
    encode = encoder(name)
    whole = encode.tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
    table = encode(words)
    assert len(table.first) == len(words) + 1
    read = np.unique(np.array(whole.word_ids, dtype=np.int64))
    assert table.of(read).tolist() == whole.ids


def test_what_is_remembered_changes_no_answer_and_is_bounded(monkeypatch):
    monkeypatch.setattr(subwords, "MAX_KNOWN_WORDS", 3)
    one = encoder("wordpiece")
    for words in (["Paris", "Berlin"], ["Berlin", "London", "Obama"], ["Paris"], ["a", "b"] * 2):
        found, fresh = one(words), encoder("wordpiece")(words)
        assert found.ids.tolist() == fresh.ids.tolist()
        assert found.first.tolist() == fresh.first.tolist()
    assert len(one._known) <= 3
