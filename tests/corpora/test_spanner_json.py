import json

import pytest

from linkner_ray.corpora.labelled import LabelledSentence, LabelledSpan
from linkner_ray.corpora.spanner_json import parse_spanner_json
from linkner_ray.errors import DataError
from linkner_ray.labels import load_label_set

CONLL03 = load_label_set("conll03")


def parse(content):
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    return parse_spanner_json(content, "x.json", label_set=CONLL03)


def entry(context, **labels):
    spans = {key.strip("_").replace("_", ";"): label for key, label in labels.items()}
    return {"context": context, "span_posLabel": spans}


def test_ends_become_half_open_and_spans_are_ordered(data):
    corpus = parse((data / "spanner.json").read_bytes())
    assert corpus.sentences == (
        LabelledSentence(
            ("Mary", "Stone", "met", "Paris", "in", "Zürich", "."),
            (LabelledSpan(0, 2, "PER"), LabelledSpan(3, 4, "PER"), LabelledSpan(5, 6, "LOC")),
        ),
        LabelledSentence(("nobody",)),
    )
    assert (corpus.num_document_markers, corpus.num_empty_entries, corpus.scheme) == (1, 0, None)


def test_entries_that_are_no_sentences_are_counted():
    corpus = parse([entry("-DOCSTART-"), entry(" \n"), entry("a"), entry("-DOCSTART- -X- O")])
    assert [sentence.tokens for sentence in corpus.sentences] == [("a",)]
    assert (corpus.num_document_markers, corpus.num_empty_entries) == (2, 1)


def test_nested_spans_are_kept():
    corpus = parse([entry("Bank of Lima", _0_2="ORG", _2_2="LOC")])
    assert [span.width for span in corpus.sentences[0].spans] == [3, 1]


def test_other_keys_and_a_byte_order_mark_are_no_trouble():
    content = b"\xef\xbb\xbf" + json.dumps([{**entry("a"), "id": {"context": 7}}]).encode()
    assert len(parse(content).sentences) == 1


GOOD = entry("a b", _0_1="PER")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([GOOD, entry("a b", _0_2="PER")], "entry 1: span '0;2' does not lie in a sentence of 2"),
        ([entry("a b", _1_0="PER")], "entry 0: span '1;0' does not lie in"),
        ([entry("", _0_0="PER")], "entry 0: span '0;0' does not lie in a sentence of 0"),
        ([entry("a b", _0="PER")], "entry 0: span '0' must be the first and the last token"),
        ([entry("a b", **{"-1_0": "PER"})], "entry 0: span '-1;0' must be"),
        (
            [GOOD, GOOD, entry("a b", _0_0="X")],
            "entry 2: label 'X' of span '0;0' .*; known: PER, ORG",
        ),
        ([entry("a b", _0_0=7)], "entry 0: label 7 of span '0;0' is not in label set 'conll03'"),
        ([entry("a b", _0_0="O")], "entry 0: label 'O' of span"),
        ([entry("a b", _0_1="PER", _00_1="PER")], "entry 0: span '00;1' is given twice"),
        ([GOOD, ["a b", {}]], "entry 1: expected an object, found a list"),
        ([{"span_posLabel": {}}], "entry 0: 'context' must be a string, found None"),
        (
            [{"context": "a", "span_posLabel": []}],
            r"entry 0: 'span_posLabel' must be an object, found \[\]",
        ),
        ([entry("a \ud800")], "entry 0: 'context' has half of a surrogate pair"),
        ({"data": []}, "expected a list of entries .*, found a dict"),
        (json.dumps([GOOD, GOOD])[:-9], "entry 1: JSON is broken: .*line 1 column"),
        ("[" * 100_000, "entry 0: JSON is broken"),
        (
            '[{"context": "a", "context": "b"}]',
            "entry 0: JSON is broken: key 'context' is given twice",
        ),
        (
            '[{"context": "a b", "span_posLabel": {"0;1": "PER", "0;1": "ORG"}}]',
            "entry 0: JSON is broken: key '0;1' is given twice",
        ),
    ],
)
def test_a_bad_entry_is_named(content, message):
    with pytest.raises(DataError, match=rf"^x\.json: {message}"):
        parse(content)


def test_bytes_that_are_not_utf8_are_named_with_their_line():
    with pytest.raises(DataError, match=r"^x\.json:2: byte 0xfc"):
        parse(b'[\n{"context": "Z\xfcrich"}]')
