"""The preview page, read back by a parser; hostile documents stay text."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkner_ray.errors import DataError
from linkner_ray.evaluation.report import describe_evaluation
from linkner_ray.extract.report import Context
from linkner_ray.reporting.preview_page import render_preview
from linkner_ray.reporting.run_report import RunReport

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


def document(text, *entities, doc_id="d1", url=None):
    return {
        "doc_id": doc_id,
        "url": url,
        "num_routed": 1,
        "text": text,
        "entities": list(entities),
    }


class Page(HTMLParser):
    """Collects tags, attributes, the shown text of documents, and the text of marks."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.marks = [], [], "", []
        self.open = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        self.attributes += attrs
        if tag in ("meta", "input"):
            return
        self.open.append((tag, attributes.get("class", "")))
        if tag == "mark":
            self.marks.append("")

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        inside = ("div", "text") in self.open
        beside = any(tag == "sub" or kind == "details" for tag, kind in self.open)
        if inside and not beside:
            self.text += data
            if any(tag == "mark" for tag, _ in self.open):
                self.marks[-1] += data


def test_entities_are_marked_and_the_text_is_whole():
    text = "Ada Lovelace\n  met Élan 🎻."
    rows = [document(text, entity(text, 0, 12), entity(text, 19, 25, "ORG", "llm", "ORG"))]
    page = Page(render_preview(rows, LABELS))
    assert page.text == text
    assert page.marks[-2:] == ["Ada Lovelace", "Élan 🎻"]
    assert ("class", "label-1 llm") in page.attributes


def test_facts_of_an_entity_are_shown():
    text = "Ada"
    html = render_preview([document(text, entity(text, 0, 3))], LABELS)
    assert "PER, score 0.750, uncertainty 0.125, decided by local; local label: PER;" in html
    html = render_preview([document(text, entity(text, 0, 3, "ORG", "llm", "ORG"))], LABELS)
    assert "decided by llm; local label: none, it was a near miss; LLM label: ORG" in html


def test_markup_in_a_document_stays_text():
    text = "<script>alert(1)</script><img src=x onerror=alert(2)> &lt;"
    rows = [document(text, entity(text, 0, 8), doc_id='"><script>', url="http://a/?<script>")]
    page = Page(render_preview(rows, LABELS, title="<script>", notes=["<script>"]))
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.text == text


def test_control_and_direction_characters_are_made_visible():
    html = render_preview([document("a\x00b\x1b\u202etxt.exe\u2066\x7f\x85")], LABELS)
    assert not {"\x00", "\x1b", "\u202e", "\u2066", "\x7f", "\x85"} & set(html)
    assert Page(html).text == "a\u2400b\u241b[U+202E]txt.exe[U+2066]\u2421\ufffd"


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
    page = Page(render_preview([document("x", url=url)], LABELS))
    assert ("a" in page.tags) == is_link
    assert not is_link or ("href", url) in page.attributes


def test_the_page_allows_no_script_and_loads_nothing():
    html = render_preview([document("x")], LABELS)
    assert "default-src 'none'; style-src 'unsafe-inline'" in html
    names = {name for name, _ in Page(html).attributes}
    assert "src" not in names
    assert not [name for name in names if name.startswith("on")]


@settings(max_examples=40)
@given(
    st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs")), min_size=3, max_size=30),
    st.data(),
)
def test_any_text_comes_back_whole(text, data):
    cut = data.draw(st.integers(1, len(text) - 1))
    rows = [document(text, entity(text, 0, cut), entity(text, cut, len(text)))]
    page = Page(render_preview(rows, LABELS))
    assert page.text == text
    assert page.marks[-2:] == [text[:cut], text[cut:]]


def test_more_labels_than_colours_are_all_in_the_legend():
    labels = [f"L{number}" for number in range(20)]
    html = render_preview([], labels)
    assert all(f">{label}</mark>" in html for label in labels)


def test_a_row_without_text_says_which_option_to_set():
    row = document("x")
    del row["text"]
    with pytest.raises(DataError, match=r"'d1' has no text.*output\.keep_text=true"):
        render_preview([row], LABELS)


def test_overlapping_entities_are_refused():
    text = "Ada Lovelace"
    with pytest.raises(DataError, match=r"2\.\.5 overlaps"):
        render_preview([document(text, entity(text, 0, 3), entity(text, 2, 5))], LABELS)


@pytest.mark.parametrize("shows_notes", [render_preview, RunReport, Context, describe_evaluation])
def test_notes_are_no_bare_string(shows_notes):
    """For the type checker a string is a sequence of strings; each letter was a paragraph."""
    assert shows_notes.__annotations__["notes"] == tuple[str, ...]
