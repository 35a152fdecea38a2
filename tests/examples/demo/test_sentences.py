import re

import numpy as np
import pytest

from examples.demo.names import Split, load_gazetteer
from examples.demo.sentences import (
    LABELS,
    Entity,
    Passage,
    SentenceMaker,
    join,
    load_templates,
)
from examples.demo.tokens import tokenize

USES = ("train", "dev", "llm", "pages")


def maker(seed=0):
    return SentenceMaker(load_gazetteer(0).upto(Split.PAGES), np.random.default_rng(seed))


def test_there_are_hundreds_of_templates_and_none_has_two_uses():
    lines = [line for use in USES for line in load_templates().of(use)]
    assert len(lines) >= 250
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("use", USES)
def test_every_template_can_be_filled_and_its_entities_are_whole_tokens(use):
    for template in load_templates().of(use):
        sentence = maker().fill(template)
        tokens = tokenize(sentence.text)
        assert {entity.start for entity in sentence.entities} <= {start for start, _ in tokens}
        assert {entity.end for entity in sentence.entities} <= {end for _, end in tokens}
        slots = re.findall(r"\{(PER|ORG|LOC|MISC)\b", template)
        assert [entity.label for entity in sentence.entities] == slots
        assert "{" not in sentence.text
        assert "  " not in sentence.text
        assert not re.search(r" [,.;:?!)]", sentence.text), sentence.text


def test_quotation_marks_hug_what_they_quote():
    sentence = maker().fill('" We will not give up , " said the {role} ( again ) .')
    assert re.fullmatch(r'"We will not give up," said the \w+ \(again\)\.', sentence.text)


def test_an_article_fits_the_word_after_it():
    texts = [
        maker(seed).fill("Long ago , a {MISC:nationality} monk wept .").text for seed in range(30)
    ]
    assert any(", an " in text for text in texts)
    assert not [text for text in texts if re.search(r"\ba [AEIOU]|\ban [^AEIOU]", text)]


def test_the_article_of_a_name_is_no_part_of_it():
    texts = []
    for seed in range(30):
        sentence = maker(seed).fill("{LOC:water} is deep .")
        start, end, label = sentence.entities[0]
        assert label == "LOC"
        texts.append((sentence.text[:start], sentence.text[start:end]))
    assert {before for before, _ in texts} == {"", "The "}


def test_no_name_stands_twice_in_a_sentence():
    sentence = maker().fill(" - ".join(["{LOC:mountain}"] * 12))
    names = [sentence.text[start:end] for start, end, _ in sentence.entities]
    assert len(set(names)) == 12


def test_join_moves_entities_with_their_text():
    joined = join(
        [Passage("Ada", (Entity(0, 3, "PER"),)), Passage("in Ulm", (Entity(3, 6, "LOC"),))], " "
    )
    assert joined.text == "Ada in Ulm"
    assert joined.entities == (Entity(0, 3, "PER"), Entity(7, 10, "LOC"))


def test_all_labels_occur_in_every_use():
    for use in USES:
        assert all(f"{{{label}" in " ".join(load_templates().of(use)) for label in LABELS)
