from examples.demo.tokens import tokenize


def test_tokens_are_plain_numbers_in_code_points():
    assert tokenize("Björk's song.") == [(0, 5), (5, 7), (8, 12), (12, 13)]
    assert all(type(place) is int for token in tokenize("It rained.") for place in token)


def test_an_empty_sentence_has_no_tokens():
    assert tokenize("") == []
