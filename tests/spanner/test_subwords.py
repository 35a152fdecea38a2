import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.subwords import SpecialIds, SubwordEncoder, special_ids
from tests.spanner import tiny

TOKENIZERS = {"wordpiece": tiny.wordpiece(), "byte_bpe": tiny.byte_bpe()}


def encoder(name, *, max_token_subwords=50):
    tokenizer = TOKENIZERS[name]
    return SubwordEncoder(tokenizer, special_ids(tokenizer), max_token_subwords=max_token_subwords)


def pieces(encoder, sentence, token):
    ids = sentence.ids[sentence.first[token] : sentence.last[token] + 1]
    return [encoder.tokenizer.id_to_token(int(i)) for i in ids]


def test_special_ids_come_from_the_template():
    assert special_ids(tiny.wordpiece()) == SpecialIds(prefix=(2,), suffix=(3,), pad=0, fill=1)
    assert special_ids(tiny.byte_bpe()) == SpecialIds(prefix=(0,), suffix=(2,), pad=1, fill=3)


def test_truncation_and_padding_of_the_tokenizer_are_switched_off():
    one, two = encoder("wordpiece")([["Paris"] * 30, ["Paris"]])
    assert len(one.first) == 30
    assert len(two.ids) == len(one.ids) // 30


def test_a_byte_level_token_is_read_as_the_beginning_of_a_word():
    subwords = encoder("byte_bpe")
    (sentence,) = subwords([["in", "Berlin"]])
    assert [pieces(subwords, sentence, token)[0][0] for token in (0, 1)] == ["\u0120", "\u0120"]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("odd", ["\x00\x01", "", "\u200b", "\ufeff"])
def test_a_token_that_gives_no_subword_is_filled(name, odd):
    subwords = encoder(name)
    (sentence, other) = subwords([[odd, "Paris", odd, odd], ["Berlin"]])
    assert (sentence.last >= sentence.first).all()
    assert pieces(subwords, sentence, 1) == pieces(subwords, subwords([["Paris"]])[0], 0)
    assert pieces(subwords, other, 0) == pieces(subwords, subwords([["Berlin"]])[0], 0)


def test_subwords_of_one_token_are_bounded():
    subwords = encoder("wordpiece", max_token_subwords=3)
    whole = encoder("wordpiece")([["boycottboycott"]])[0]
    (sentence,) = subwords([["Paris", "boycottboycott", "."]])
    assert len(whole.ids) > 3
    assert sentence.last[1] - sentence.first[1] == 2
    assert sentence.ids[sentence.first[1] : sentence.last[1] + 1].tolist() == whole.ids[:3].tolist()
    assert sentence.last[2] == len(sentence.ids) - 1


@pytest.mark.parametrize("name", TOKENIZERS)
@given(sentences=st.lists(st.lists(st.text(max_size=6), max_size=6), max_size=4))
def test_the_subwords_of_a_sentence_are_divided_among_its_tokens(name, sentences):
    for tokens, sentence in zip(sentences, encoder(name)(sentences), strict=True):
        assert len(sentence.first) == len(sentence.last) == len(tokens)
        expected_start = 0
        for first, last in zip(sentence.first, sentence.last, strict=True):
            assert first == expected_start <= last
            expected_start = last + 1
        assert expected_start == len(sentence.ids)
