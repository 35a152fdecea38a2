"""The preview page, read back by a parser; hostile documents stay text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkner_ray.errors import DataError
from linkner_ray.reporting.preview_page import SHOWN_CHARS, render_preview
from tests.pages import Page, text_of_card

LABELS = ("PER", "ORG")


def entity(text, start, end, label="PER", source="local", llm_label=None):
    return {
        "start": start,
        "end": end,
        "text": text[start:end],
        "label": label,
        "score": 0.75,
        "uncertainty": 0.125,
        "source": source,
        "local_label": "PER" if source == "local" else None,
        "llm_label": llm_label,
    }


def document(text, *entities, doc_id="d1", url=None, **more):
    row = {"doc_id": doc_id, "url": url, "num_routed": 1, "text": text, "entities": list(entities)}
    return row | more


def preview(*documents, labels=LABELS, **more):
    return Page(render_preview(documents, labels, **more))


def test_entities_are_marked_and_the_text_is_whole():
    text = "Ada Lovelace\n  met Élan 🎻."
    page = preview(document(text, entity(text, 0, 12), entity(text, 19, 25, "ORG", "llm", "ORG")))
    [card] = page.cards
    assert text_of_card(card) == text
    assert [mark[:4] for mark in page.marks] == [
        ["Ada Lovelace", "PER", "local", 0.125],
        ["Élan 🎻", "ORG", "llm", 0.125],
    ]
    assert card["facts"] == "2 entities, 1 candidate sent to the LLM"


def test_the_hover_says_what_both_models_said():
    text = "Ada"
    one = entity(text, 0, 3)
    [mark] = preview(document(text, one)).marks
    assert mark[4] == (
        "PER by local, score 0.750, uncertainty 0.125\nlocal label: PER\nLLM label: none"
    )
    candidate = {"start": 0, "end": 3, "label_probs": [0.5, 0.125, 0.375]}
    kept = {"candidates": [candidate], "answers": [{"probs": [0.25, 0, 0.75]}]}
    [mark] = preview(document(text, entity(text, 0, 3, "ORG", "llm", "ORG"), **kept)).marks
    assert mark[4].splitlines()[1:] == [
        "local label: none, it was a near miss; O 0.500, ORG 0.375, PER 0.125",
        "LLM label: ORG; ORG 0.750, O 0.250, PER 0.000",
    ]


def test_markup_in_a_document_stays_text():
    text = "<script>alert(1)</script></script><!--<img src=x onerror=alert(2)> &lt;"
    rows = document(text, entity(text, 0, 8), doc_id='"><script>', url="http://a/?<script>")
    page = preview(rows, title="<script>x", notes=("<script>y", "![a](http://a/b.png)"))
    assert page.tags.count("script") == 2  # the cards, and the page's own
    assert not {"img", "a"} & set(page.tags)
    [card] = page.cards
    assert text_of_card(card) == text
    assert card["title"] == '"><script>'
    assert "<script>x" in page.text
    assert "<script>y" in page.text
    assert "![a](http://a/b.png)" in page.text


def test_control_and_direction_characters_are_made_visible():
    html = render_preview([document("a\x00b\x1b\u202etxt.exe\u2066\x7f\x85")], LABELS)
    assert not {"\x00", "\x1b", "\u202e", "\u2066", "\x7f", "\x85"} & set(html)
    assert text_of_card(Page(html).cards[0]) == "a\u2400b\u241b[U+202E]txt.exe[U+2066]\u2421\ufffd"


@pytest.mark.parametrize(
    ("url", "is_link"),
    [
        ("https://example.org/a?b=1&c=2", True),
        ("HTTP://example.org", True),
        ("javascript:alert(1)", False),
        (" javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("http://[", False),
        (None, False),
    ],
)
def test_only_web_addresses_become_links(url, is_link):
    [card] = preview(document("x", url=url)).cards
    assert (card["url"], card["link"]) == (url, is_link)


@settings(max_examples=40)
@given(
    st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs")), min_size=3, max_size=30),
    st.data(),
)
def test_any_text_comes_back_whole(text, data):
    cut = data.draw(st.integers(1, len(text) - 1))
    page = preview(document(text, entity(text, 0, cut), entity(text, cut, len(text))))
    assert text_of_card(page.cards[0]) == text
    assert [mark[0] for mark in page.marks] == [text[:cut], text[cut:]]


def test_a_long_document_is_shown_as_far_as_a_browser_likes_and_that_is_said():
    text = "a" * (SHOWN_CHARS + 5)
    ends = [SHOWN_CHARS - 3, SHOWN_CHARS + 1]  # the second mark would be cut in two
    page = preview(document(text, *(entity(text, end - 4, end) for end in ends)))
    assert len(page.marks) == 1
    assert text_of_card(page.cards[0]) == text[:SHOWN_CHARS]
    assert "2 entities" in page.cards[0]["facts"]
    assert "the first 20,000 of 20,005 characters" in page.cards[0]["facts"]


def test_more_labels_than_colours_are_all_in_the_legend():
    labels = tuple(f"L{number}" for number in range(20))
    shown = preview(labels=labels).data["labels"]
    assert [label for label, _ in shown] == list(labels)
    assert shown[0][1] == shown[8][1] != shown[1][1]


def test_a_row_without_text_says_which_option_to_set():
    row = document("x")
    del row["text"]
    with pytest.raises(DataError, match=r"'d1' has no text.*output\.keep_text=true"):
        preview(row)


def test_overlapping_entities_are_refused():
    text = "Ada Lovelace"
    with pytest.raises(DataError, match=r"2\.\.5 overlaps"):
        preview(document(text, entity(text, 0, 3), entity(text, 2, 5)))
