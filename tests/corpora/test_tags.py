import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.corpora.labelled import LabelledSpan
from linkner_ray.corpora.tags import (
    PREFIXES,
    decode_tags,
    find_scheme,
    parse_tag,
)
from tests.corpora.strategies import encode_tags, flat_spans


def tags(text):
    return [parse_tag(word) for word in text.split()]


def decoded(text, scheme):
    result = decode_tags(tags(text), scheme=scheme)
    spans = [(span.start_token, span.end_token, span.label) for span in result.spans]
    return spans, result.opened_by_inside, result.left_open


def test_a_label_may_hold_hyphens():
    assert parse_tag("B-creative-work") == ("B", "creative-work")
    assert str(parse_tag("B-creative-work")) == "B-creative-work"


@pytest.mark.parametrize(
    "text", ["", "B", "B-", "PER", "b-PER", "M-PER", "B_PER", "-PER", "o", "O-"]
)
def test_a_malformed_tag_is_refused(text):
    with pytest.raises(ValueError, match="neither O nor one of"):
        parse_tag(text)


@pytest.mark.parametrize(
    ("text", "scheme", "expected"),
    [
        ("B-PER I-PER O B-LOC", "iob2", ([(0, 2, "PER"), (3, 4, "LOC")], 0, 0)),
        ("B-PER B-PER", "iob2", ([(0, 1, "PER"), (1, 2, "PER")], 0, 0)),
        ("I-PER I-PER O", "iob2", ([(0, 2, "PER")], 1, 0)),  # opened once, then continued
        ("B-PER I-LOC I-LOC", "iob2", ([(0, 1, "PER"), (1, 3, "LOC")], 1, 0)),
        ("I-PER I-PER B-PER I-LOC", "iob1", ([(0, 2, "PER"), (2, 3, "PER"), (3, 4, "LOC")], 0, 0)),
        ("B-PER I-PER E-PER S-LOC", "iobes", ([(0, 3, "PER"), (3, 4, "LOC")], 0, 0)),
        ("B-PER L-PER U-LOC", "bilou", ([(0, 2, "PER"), (2, 3, "LOC")], 0, 0)),
        ("E-PER O", "iobes", ([(0, 1, "PER")], 1, 0)),
        ("B-PER E-LOC", "iobes", ([(0, 1, "PER"), (1, 2, "LOC")], 1, 1)),
        ("S-PER I-PER E-PER", "iobes", ([(0, 1, "PER"), (1, 3, "PER")], 1, 0)),
        ("B-PER I-PER", "iobes", ([(0, 2, "PER")], 0, 1)),
        ("B-PER U-PER", "bilou", ([(0, 1, "PER"), (1, 2, "PER")], 0, 1)),
        ("O O", "iob2", ([], 0, 0)),
        ("", "iob2", ([], 0, 0)),
    ],
)
def test_tags_are_read_as_entities(text, scheme, expected):
    assert decoded(text, scheme) == expected


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["B-PER I-PER O"], "iob2"),
        (["I-PER I-PER O"], "iob1"),
        (["I-PER B-PER I-PER"], "iob1"),  # B- only between two of one label
        (["I-PER", "B-PER"], "iob2"),  # B- that opens by itself
        (["I-PER B-LOC"], "iob2"),
        (["B-PER B-PER"], "iob2"),
        (["O O"], "iob2"),
        ([], "iob2"),
        (["B-PER I-PER", "O S-LOC"], "iobes"),
        (["B-PER E-PER"], "iobes"),
        (["U-PER"], "bilou"),
        (["B-PER L-PER"], "bilou"),
    ],
)
def test_the_scheme_is_found_from_the_tags(sentences, scheme):
    assert find_scheme(map(tags, sentences)) == scheme


@pytest.mark.parametrize("scheme", sorted(PREFIXES))
@given(st.data())
def test_what_is_encoded_decodes_to_the_same_without_irregularities(scheme, data):
    num_tokens = data.draw(st.integers(1, 12))
    spans = data.draw(flat_spans(num_tokens))
    encoded = encode_tags(num_tokens, spans, scheme=scheme)
    result = decode_tags(encoded, scheme=scheme)
    assert len(encoded) == num_tokens
    assert result.spans == spans
    assert (result.opened_by_inside, result.left_open) == (0, 0)
    if spans:
        assert find_scheme([encoded]) == scheme


@given(st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=12))
def test_iob1_and_iob2_read_the_same_entities_from_any_tags(texts):
    read = [decode_tags([parse_tag(t) for t in texts], scheme=s).spans for s in ("iob1", "iob2")]
    assert read[0] == read[1]


ANY_TAG = st.sampled_from(["O", *(f"{prefix}-{label}" for prefix in "BIESLU" for label in "XY")])


@given(st.lists(ANY_TAG, max_size=12))
def test_every_tagged_token_is_in_exactly_one_entity_of_its_label(texts):
    result = decode_tags([parse_tag(text) for text in texts], scheme="iobes")
    labels = ["O"] * len(texts)
    for span in result.spans:
        assert isinstance(span, LabelledSpan)
        for position in range(span.start_token, span.end_token):
            assert labels[position] == "O"
            labels[position] = span.label
    assert labels == [text.rpartition("-")[2] for text in texts]
