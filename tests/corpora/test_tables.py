import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.labelled import LabelledSentence, LabelledSpan
from linkner_ray.corpora.tables import (
    LABELLED_SENTENCES,
    corpus_documents,
    corpus_table,
    table_sentences,
)
from linkner_ray.labels import load_label_set
from tests.corpora.strategies import labelled_sentences

SENTENCES = st.lists(labelled_sentences(st.text(min_size=1)), max_size=4)

MARY = LabelledSentence(
    ("Mary", "saw", "\U0001f600", "Zürich"), (LabelledSpan(0, 1, "PER"), LabelledSpan(2, 4, "LOC"))
)


def test_a_sentence_becomes_a_document_of_one_sentence():
    table, gold = corpus_documents([MARY, LabelledSentence(("b",))], "dev")
    # code points: Mary 0-4, saw 5-8, the emoji 9-10, Zuerich 11-17
    assert table.to_pylist()[0] == {
        "doc_id": "dev-000000",
        "url": None,
        "lang": None,
        "text": "Mary saw \U0001f600 Zürich",
        "sentences": [
            {
                "start": 0,
                "end": 17,
                "tokens": [
                    {"start": 0, "end": 4},
                    {"start": 5, "end": 8},
                    {"start": 9, "end": 10},
                    {"start": 11, "end": 17},
                ],
            }
        ],
    }
    assert gold == [[(0, 4, "PER"), (9, 17, "LOC")], []]


@settings(max_examples=40)
@given(SENTENCES)
def test_offsets_cut_the_tokens_and_entities_out_of_the_text(sentences):
    table, gold = corpus_documents(sentences, "x")
    rows = table.to_pylist()
    assert len(set(table["doc_id"].to_pylist())) == len(rows) == len(gold) == len(sentences)
    for sentence, row, entities in zip(sentences, rows, gold, strict=True):
        tokens = row["sentences"][0]["tokens"]
        assert [row["text"][t["start"] : t["end"]] for t in tokens] == list(sentence.tokens)
        for span, (start, end, label) in zip(sentence.spans, entities, strict=True):
            expected = " ".join(sentence.tokens[span.start_token : span.end_token])
            assert (row["text"][start:end], label) == (expected, span.label)


@settings(max_examples=40)
@given(SENTENCES)
def test_a_table_holds_what_it_was_made_of(sentences):
    table = corpus_table(sentences)
    assert table.schema == LABELLED_SENTENCES
    assert table_sentences(table) == sentences


def test_a_slice_of_a_table_holds_its_own_sentences():
    sentences = [LabelledSentence((word,)) for word in "abcd"]
    chunks = pa.concat_tables([corpus_table(sentences[:1]), corpus_table(sentences[1:])])
    assert table_sentences(chunks.slice(0, 3)) == sentences[:3]


@pytest.mark.external
def test_every_gold_entity_of_conll03_is_in_the_text_of_its_document(linkner_data):
    path = linkner_data / "conll03" / "spanner.dev"
    sentences = read_corpus(path, label_set=load_label_set("conll03")).sentences
    table, gold = corpus_documents(sentences, "dev")
    texts = table["text"].to_pylist()
    words = [
        text[start:end] for text, row in zip(texts, gold, strict=True) for start, end, _ in row
    ]
    assert len(words) == 5_942
    assert all(word and word == word.strip() for word in words)
