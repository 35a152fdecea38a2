"""Entities as other tools take them: pandas, displaCy, and a spaCy Doc of the same text."""

import re
from types import SimpleNamespace

import pytest

from linkner_ray.reporting.found import Entity, Predictions, TextEntities

TEXT = "Ada met Siemens-Bosch in Élan."


def entity(start, end, label, score=0.75, text=TEXT):
    return Entity(
        start=start, end=end, text=text[start:end], label=label, score=score, uncertainty=0.25,
        source="local", local_label=label, llm_label=None,
    )  # fmt: skip


def found(*entities, text=TEXT):
    return TextEntities(text, entities)


class Doc:
    """A `spacy.tokens.Doc` as its documentation has it, with tokens between blanks."""

    def __init__(self, text):
        self.text, self.ents = text, ()
        self._tokens = [match.span() for match in re.finditer(r"\S+", text)]

    def char_span(self, start_idx, end_idx, label, *, alignment_mode):
        assert alignment_mode == "expand"
        inside = [
            number
            for number, (start, end) in enumerate(self._tokens)
            if start < end_idx and start_idx < end
        ]
        return SimpleNamespace(start=inside[0], end=inside[-1] + 1, label_=label)


def test_entities_of_a_text_are_a_list_that_knows_its_text():
    entities = found(entity(0, 3, "PER"))
    assert entities == [entity(0, 3, "PER")]
    assert entities.text == TEXT


def test_a_table_has_a_row_for_each_entity():
    table = Predictions([found(entity(0, 3, "PER")), found(), found(entity(25, 29, "LOC"))])
    rows = table.to_pandas()
    assert rows["text_index"].tolist() == [0, 2]
    assert rows[["start", "end", "text", "label", "source"]].to_numpy().tolist() == [
        [0, 3, "Ada", "PER", "local"],
        [25, 29, "Élan", "LOC", "local"],
    ]
    empty = Predictions([found()]).to_pandas()
    assert len(empty) == 0
    assert list(empty.columns) == list(rows.columns)


def test_the_form_of_displacy():
    ents = [{"start": 0, "end": 3, "label": "PER"}]
    shown = {"text": TEXT, "ents": ents, "title": None}
    assert found(entity(0, 3, "PER")).to_displacy() == shown
    assert Predictions([found(entity(0, 3, "PER"))]).to_displacy() == [shown]


def test_a_doc_has_the_entities_in_whole_tokens():
    doc = Doc(TEXT)
    # "Élan" is a part of the token "Élan."
    assert found(entity(0, 3, "PER"), entity(25, 29, "LOC")).to_spacy(doc) is doc
    assert [(span.start, span.end, span.label_) for span in doc.ents] == [
        (0, 1, "PER"),
        (4, 5, "LOC"),
    ]


def test_of_two_entities_in_a_token_the_more_probable_stays_and_that_is_said(caplog):
    doc = Doc(TEXT)
    found(entity(8, 15, "ORG", 0.6), entity(16, 21, "ORG", 0.9), entity(0, 3, "PER")).to_spacy(doc)
    assert [(span.start, span.end) for span in doc.ents] == [(0, 1), (2, 3)]
    assert caplog.messages == [
        "1 of 3 entities share a token with a more probable one and are not in doc.ents"
    ]


def test_a_doc_of_another_text_is_refused():
    with pytest.raises(ValueError, match=r"the Doc's text is 'Ada', that of the entities 'Ada met"):
        found().to_spacy(Doc("Ada"))
