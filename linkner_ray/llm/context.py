"""The text around a span, cut to size and made harmless.

Text from the web is data. What is rendered here can imitate neither the control strings of a chat
template nor the layout of our own prompt.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

ELLIPSIS = "\u2026"
"""Stands where a long context was cut."""


class Question(NamedTuple):
    """A span in its context, made harmless by `render_context`.

    Attributes:
        context: Text around and including the span; a cut end is marked by an ellipsis.
        start: First code point of the span in `context`.
        end: Code point after its last.
    """

    context: str
    start: int
    end: int

    @property
    def span(self) -> str:
        """Text of the span."""
        return self.context[self.start : self.end]


class ContextSize(NamedTuple):
    """How much of a document stands around a span.

    Attributes:
        sentences: Neighbouring sentences on each side of the span's own.
        chars: Code points of the document at most.
    """

    sentences: int
    chars: int


def render_context(
    text: str,
    sentences: Sequence[tuple[int, int]],
    *,
    index: int,
    span: tuple[int, int],
    size: ContextSize,
) -> Question:
    """Take a span with the sentences around it out of a document.

    Args:
        text: The document.
        sentences: Start and end of every sentence, code points of `text`.
        index: The span's sentence.
        span: Its start and end, code points of `text`, inside its sentence.
        size: How much to show. What is over is cut evenly from both sides, and from the end of a
            span that is itself too long.

    Returns:
        The question, its text made harmless.
    """
    first = max(index - size.sentences, 0)
    last = min(index + size.sentences, len(sentences) - 1)
    left, right = sentences[first][0], sentences[last][1]
    start, end = span
    if not left <= start < end <= right:
        raise ValueError(f"span {span} lies outside its context, {left} to {right}")
    shown_end = min(end, start + size.chars)
    shown_left, shown_right = _window(
        (left, right), span=(start, shown_end), spare=size.chars - (shown_end - start)
    )
    before = neutralise(text[shown_left:start]).lstrip()
    middle = neutralise(text[start:shown_end]).strip()
    after = neutralise(text[end:shown_right]).rstrip()
    if _BREAKABLE.match(before[-1:] + middle):
        before += " "
    if _BREAKABLE.match(middle[-1:] + after):
        after = " " + after
    if shown_left > left:
        before = f"{ELLIPSIS} {before}"
    if shown_end < end:
        middle = f"{middle}{ELLIPSIS}"
    if shown_right < right:
        after = f"{after} {ELLIPSIS}"
    return Question(before + middle + after, len(before), len(before) + len(middle))


def _window(bounds: tuple[int, int], *, span: tuple[int, int], spare: int) -> tuple[int, int]:
    """Spread `spare` code points around a span; what one side does not need the other gets."""
    left_length, right_length = span[0] - bounds[0], max(bounds[1] - span[1], 0)
    left_share = min(left_length, max(spare // 2, spare - right_length))
    right_share = min(right_length, spare - left_share)
    return span[0] - left_share, span[1] + right_share


_BREAKABLE = re.compile(
    r"<(?=[|/<\uff5cA-Za-z_])"  # <|im_start|>, </s>, <<SYS>>, <start_of_turn>
    r"|[|\uff5c](?=>)"
    r"|\[(?=\[|/?[A-Z_]+\])"  # [INST], [/INST], and our own mark
    r"|\](?=\])"
)


class _Harmless(dict[int, str]):
    """Replacement of each code point, worked out when first met."""

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        if category in ("Cc", "Zs", "Zl", "Zp"):
            replacement = " "
        elif category == "Cf":  # zero-width and bidirectional controls
            replacement = ""
        elif category == "Cs":
            replacement = "\ufffd"
        else:
            replacement = chr(code)
        self[code] = replacement
        return replacement


_HARMLESS = _Harmless()


def neutralise(text: str) -> str:
    """Rewrite text from the web so that it can imitate neither chat control nor our own layout.

    Invisible characters go, all white space becomes single spaces (a page writes on one line and
    cannot lay out a prompt of its own), and what opens a control string, a tag or a span mark is
    set apart by a space. Backends that work on token ids have a stronger guarantee besides, see
    `chat.PromptEncoder`.
    """
    visible = re.sub(" +", " ", text.translate(_HARMLESS))
    return _BREAKABLE.sub(lambda match: match[0] + " ", visible)
