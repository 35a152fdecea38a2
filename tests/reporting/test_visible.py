"""Signs in place of what a screen would obey."""

from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.reporting.visible import make_visible


def test_controls_become_signs_and_white_space_stays():
    text = "a\x00b\x1b[31m\u202etxt\u2066\x7f\x85\tc\r\nd"
    assert make_visible(text) == ("a\u2400b\u241b[31m[U+202E]txt[U+2066]\u2421\ufffd\tc\r\nd")


def test_on_one_line_white_space_becomes_signs_too():
    assert make_visible("a\tb\r\nc", one_line=True) == "a\u2409b\u240d\u240ac"


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs"))))
def test_other_text_is_left_alone(text):
    assert make_visible(text, one_line=True) == text
