import re
import time
import unicodedata

import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from linkner_ray.llm.context import ELLIPSIS, ContextSize, Question, render_context, sanitise
from linkner_ray.llm.prompts import SPAN_CLOSE, SPAN_OPEN, render_question

TEXT = "One is here. Ada met Bo. Three is last."
SENTENCES = [(0, 12), (13, 24), (25, 39)]
ADA = (13, 16)
WIDE = ContextSize(sentences=0, chars=1000)

HOSTILE = (
    st.text(
        alphabet=st.sampled_from(
            "<|>[]/sINST_ \n\u200b\u202e\uff5ca"
            "\uff3b\u27e6\u301b\ufe64\u2502\u0430\u0431\u3164\ufe0f"
        )
    )
    | st.text()
)


def test_the_context_is_the_sentence_and_the_span_is_found_in_it():
    question = render_context(TEXT, SENTENCES, index=1, span=ADA, size=WIDE)
    assert question.context == "Ada met Bo."
    assert question.span == "Ada"


@pytest.mark.parametrize("neighbours", [1, 5])
def test_neighbouring_sentences_are_shown_as_far_as_there_are_any(neighbours):
    size = ContextSize(sentences=neighbours, chars=1000)
    question = render_context(TEXT, SENTENCES, index=1, span=ADA, size=size)
    assert question.context == TEXT
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
        ("<\uff5cUser\uff5c>", "< |User| >"),
        ("\uff1c\u2502user\u2502\uff1e", "< \u2502user\u2502 >"),
        ("\u27e6\u27e6x\u301b\uff3d", "[x]"),
        ("A\u3164d\ufe0fa\u034f", "Ada"),
        ("\U0001d400da met \uff22o", "Ada met Bo"),
        ("see [[Link]] and a[[[0]]]", "see [Link] and a[0]"),
        ("[[INST]]", "[ INST]"),
        ("a" * 65, "a" * 40 + ELLIPSIS + "a" * 16),
        ("a" * 64, "a" * 64),
        ("\u4e2d" * 200, "\u4e2d" * 200),
        ("one\n\n\ttwo\u00a0\u2028three", "one two three"),
        ("p\u200bay\u202epal", "paypal"),
        ("a < b | c > d [1]", "a < b | c > d [1]"),
    ],
)
def test_control_strings_layout_and_invisible_characters_are_sanitised(text, harmless):
    assert sanitise(text) == harmless


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("P\u0430ris", "Paris"),  # Cyrillic a
        ("\u041c\u043esc\u043ew", "Moscow"),  # Cyrillic M, o
        ("G\u03bfogle", "Google"),  # Greek o
        ("Z\u00fcri\u0441h", "Z\u00fcrich"),
        # wholly Cyrillic, also where every letter looks Latin
        ("\u0441\u043e\u0440", "\u0441\u043e\u0440"),
        ("\u041c\u043e\u0441\u043a\u0432\u0430", "\u041c\u043e\u0441\u043a\u0432\u0430"),
        # a Latin name with a Cyrillic ending that looks like nothing Latin
        ("Windows\u043e\u043c", "Windows\u043e\u043c"),
        ("\u0431Windows\u043e", "\u0431Windows\u043e"),
        ("\u03bcTorrent", "\u03bcTorrent"),
    ],
)
def test_letters_that_look_latin_become_so_in_words_that_are_otherwise_latin(word, shown):
    assert sanitise(f"in {word}, yes") == f"in {shown}, yes"


@pytest.mark.parametrize("filler", ["A", "\u0430a", "<|", "\u4e2d", "\u200b", " "])
def test_a_word_of_100_kb_is_cut_before_anything_is_done_to_it(filler):
    word = filler * (100_000 // len(filler))
    text = f"{word} Ada {word}"
    size = ContextSize(sentences=0, chars=200)
    span = (len(word) + 1, len(word) + 4)
    started = time.process_time()
    for _ in range(100):
        question = render_context(text, [(0, len(text))], index=0, span=span, size=size)
        whole = render_context(text, [(0, len(text))], index=0, span=(0, len(word)), size=size)
    seconds = time.process_time() - started
    assert question.span == "Ada"
    # each code point may get a space beside it; then two ellipses with theirs
    assert max(len(question.context), len(whole.context)) <= 2 * 200 + 4
    # 200 questions take some 30 ms of processor time; 200 times 200,000 characters take seconds
    assert seconds < 1.0


@given(HOSTILE, HOSTILE, HOSTILE)
def test_the_marks_around_the_span_are_the_only_ones_and_the_span_is_whole(before, span, after):
    text = f"{before}S{span}E{after}"
    bounds = (len(before), len(before) + len(span) + 2)
    question = render_context(text, [(0, len(text))], index=0, span=bounds, size=WIDE)
    message = render_question(question)
    shown = sanitise(text[bounds[0] : bounds[1]])
    is_unique = len(re.findall(f"(?={re.escape(shown)})", question.context)) == 1
    for mark in (SPAN_OPEN, SPAN_CLOSE):
        found = len(re.findall(f"(?={re.escape(mark)})", message))
        assert found == (1 if is_unique else 2)  # asked, and in the text where that is in doubt
    # as many lines as the layout has: the page cannot add one
    assert message.count("\n") == 3
    assert message[message.index(SPAN_OPEN) :].startswith(f"{SPAN_OPEN}{shown}{SPAN_CLOSE}")


def test_without_sanitising_that_property_does_not_hold():
    def marks(text):
        question = Question(f"{text}Ada", len(text), len(text) + 3)
        return render_question(question).count(SPAN_OPEN)

    assert find(HOSTILE, lambda text: marks(text) > 1) == "[["


@given(HOSTILE)
def test_sanitised_text_is_one_visible_line_and_stays_as_it_is(text):
    harmless = sanitise(text)
    assert not {"Cc", "Cf", "Cs", "Zl", "Zp"} & {unicodedata.category(c) for c in harmless}
    assert not re.search(r"<\||\|>|\[\[|\]\]|</|\[INST\]| {2}", harmless)
    assert sanitise(harmless) == harmless


@given(HOSTILE.filter(bool), st.data())
def test_any_span_of_any_text_is_rendered(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    size = ContextSize(sentences=0, chars=data.draw(st.integers(1, 50)))
    question = render_context(text, [(0, len(text))], index=0, span=(start, end), size=size)
    assert 0 <= question.start <= question.end <= len(question.context)
    assert "\n" not in question.context
    kept = sanitise(text[start : min(end, start + size.chars)]).strip()
    assert question.span.removesuffix(ELLIPSIS) == kept.removesuffix(ELLIPSIS)
