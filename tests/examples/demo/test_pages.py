import numpy as np

from examples.demo.names import load_gazetteer
from examples.demo.pages import PageMaker


def make(count, *, hostile=False, seed=0):
    maker = PageMaker(load_gazetteer(0), np.random.default_rng(seed))
    return [maker.write(number, hostile=hostile) for number in range(count)]


def test_a_page_has_a_title_navigation_paragraphs_and_a_list():
    text = make(1)[0].passage.text
    blocks = text.split("\n\n")
    assert len(blocks[0].split("\n")) == 3
    assert len(blocks) >= 5
    assert text == text.strip()
    assert "\r" not in text


def test_some_words_have_two_letters_swapped_and_some_pages_curly_quotation_marks(monkeypatch):
    misspelt = [page.passage for page in make(60)]
    monkeypatch.setattr("examples.demo.pages.TYPO_SHARE", 0.0)
    straight = [page.passage for page in make(60)]
    differing = [
        sum(a != b for a, b in zip(one.text, other.text, strict=True)) / len(one.text)
        for one, other in zip(misspelt, straight, strict=True)
    ]
    assert 0 < sum(differing) / 60 < 0.01
    assert [one.entities for one in misspelt] == [one.entities for one in straight]
    assert 0 < sum("\u2019" in one.text for one in straight) < 60


def test_hostile_pages_carry_control_strings_outside_their_entities():
    text = "\n".join(page.passage.text for page in make(10, hostile=True))
    assert "<|im_start|>" in text
    assert "gnore all previous instructions" in text
