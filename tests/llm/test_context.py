import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.llm.context import ELLIPSIS, ContextSize, neutralise, render_context

TEXT = "One is here. Ada met Bo. Three is last."
SENTENCES = [(0, 12), (13, 24), (25, 39)]
ADA = (13, 16)
WIDE = ContextSize(sentences=0, chars=1000)

HOSTILE = st.text(alphabet=st.sampled_from("<|>[]/sINST_ \n\u200b\u202e\uff5ca")) | st.text()


def test_the_context_is_the_sentence_and_the_span_is_found_in_it():
    question = render_context(TEXT, SENTENCES, index=1, span=ADA, size=WIDE)
    assert question.context == "Ada met Bo."
    assert question.span == "Ada"


@pytest.mark.parametrize(
    ("neighbours", "context"),
    [(1, TEXT), (5, TEXT)],
)
def test_neighbouring_sentences_are_shown_as_far_as_there_are_any(neighbours, context):
    size = ContextSize(sentences=neighbours, chars=1000)
    question = render_context(TEXT, SENTENCES, index=1, span=ADA, size=size)
    assert question.context == context
    assert (question.start, question.end) == ADA


def test_a_long_context_is_cut_on_both_sides_of_the_span_and_marked():
    text = "a" * 100 + "SPAN" + "b" * 100
    size = ContextSize(sentences=0, chars=10)
    question = render_context(text, [(0, 204)], index=0, span=(100, 104), size=size)
    # 10 code points: the span's 4, and 3 on each side
    assert question.context == f"{ELLIPSIS} aaaSPANbbb {ELLIPSIS}"
    assert question.span == "SPAN"


def test_what_one_side_does_not_need_the_other_gets():
    text = "aSPAN" + "b" * 100
    size = ContextSize(sentences=0, chars=10)
    question = render_context(text, [(0, 105)], index=0, span=(1, 5), size=size)
    # 10 - 4 = 6 to spare, 1 on the left, so 5 on the right
    assert question.context == f"aSPANbbbbb {ELLIPSIS}"


def test_a_span_that_is_itself_too_long_loses_its_end():
    text = "x" * 50
    question = render_context(
        text, [(0, 50)], index=0, span=(0, 50), size=ContextSize(sentences=0, chars=20)
    )
    assert question.span == "x" * 20 + ELLIPSIS


def test_a_span_outside_its_sentence_is_refused():
    with pytest.raises(ValueError, match=r"\(0, 3\) lies outside its context, 13 to 24"):
        render_context(TEXT, SENTENCES, index=1, span=(0, 3), size=WIDE)


def test_a_span_mark_in_the_text_is_broken_also_across_the_border_of_the_span():
    text = "see [[Ada]] now"
    question = render_context(text, [(0, 15)], index=0, span=(5, 10), size=WIDE)
    assert question.span == "[Ada]"
    assert question.context == "see [ [Ada] ] now"


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("a<|im_end|>b", "a< |im_end| >b"),
        ("</s><s>", "< /s>< s>"),
        ("[INST] hi [/INST]", "[ INST] hi [ /INST]"),
        ("<<SYS>>", "< < SYS>>"),
        ("<\uff5cUser\uff5c>", "< \uff5cUser\uff5c >"),
        ("one\n\n\ttwo\u00a0\u2028three", "one two three"),
        ("p\u200bay\u202epal", "paypal"),
        ("a < b | c > d [1]", "a < b | c > d [1]"),
    ],
)
def test_control_strings_layout_and_invisible_characters_are_neutralised(text, harmless):
    assert neutralise(text) == harmless


@given(HOSTILE)
def test_neutralised_text_is_one_visible_line_and_stays_as_it_is(text):
    harmless = neutralise(text)
    assert not {"Cc", "Cf", "Cs", "Zl", "Zp"} & {unicodedata.category(c) for c in harmless}
    assert not re.search(r"<\||\|>|\[\[|\]\]|</|\[INST\]| {2}", harmless)
    assert neutralise(harmless) == harmless


@given(HOSTILE.filter(bool), st.data())
def test_any_span_of_any_text_is_rendered(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    size = ContextSize(sentences=0, chars=data.draw(st.integers(1, 50)))
    question = render_context(text, [(0, len(text))], index=0, span=(start, end), size=size)
    assert 0 <= question.start <= question.end <= len(question.context)
    assert "\n" not in question.context
    kept = neutralise(text[start : min(end, start + size.chars)]).strip()
    assert question.span.removesuffix(ELLIPSIS) == kept.removesuffix(ELLIPSIS)
