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


class AskedSpan(NamedTuple):
    """A question, and the sentence its span stands in, made harmless alike."""

    question: Question
    sentence: str


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
    before = sanitise(text[shown_left:start]).lstrip()
    middle = sanitise(text[start:shown_end]).strip()
    after = sanitise(text[end:shown_right]).rstrip()
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


def ask_span(
    text: str,
    sentences: Sequence[tuple[int, int]],
    *,
    index: int,
    span: tuple[int, int],
    size: ContextSize,
) -> AskedSpan:
    """As `render_context`, with the span's own sentence besides, cut to the same size."""
    question = render_context(text, sentences, index=index, span=span, size=size)
    if size.sentences == 0:
        return AskedSpan(question, question.context)
    own = render_context(text, sentences, index=index, span=span, size=ContextSize(0, size.chars))
    return AskedSpan(question, own.context)


def _window(bounds: tuple[int, int], *, span: tuple[int, int], spare: int) -> tuple[int, int]:
    """Spread `spare` code points around a span; what one side does not need the other gets."""
    left_length, right_length = span[0] - bounds[0], max(bounds[1] - span[1], 0)
    left_share = min(left_length, max(spare // 2, spare - right_length))
    right_share = min(right_length, spare - left_share)
    return span[0] - left_share, span[1] + right_share


_BARS = "|\u00a6\u01c0\u2223\u2502\u2758"
_BREAKABLE = re.compile(
    rf"<(?=[{_BARS}/<A-Za-z_])"  # <|im_start|>, </s>, <<SYS>>, <start_of_turn>
    rf"|[{_BARS}](?=>)"
    r"|\[(?=\[|/?[A-Z_]+\])"  # [INST], [/INST], and our own mark
    r"|\](?=\])"
)

_MARK = re.compile(r"\[{2,}|\]{2,}")

_UNSPACED = "\u0e00-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
"""Scripts that need no blank between words, Thai to Chinese; a long stretch of them is prose."""

_LONG_WORD = re.compile(rf"[^ {_UNSPACED}]{{65,}}")
_KEPT_HEAD, _KEPT_TAIL = 40, 16
"""Code points kept of a longer word: a name has fewer, and an address says in them what it is."""

_LOOK_ALIKE_SIGNS = {
    **dict.fromkeys("\u2045\u2772\u27e6\u298b\u298d\u298f\u301a", "["),
    **dict.fromkeys("\u2046\u2773\u27e7\u298c\u298e\u2990\u301b", "]"),
    "\ufe64": "<",
    "\ufe65": ">",
}
"""Brackets that a reader, or a model, may take for those of a span mark or a control string."""

_INVISIBLE = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0,
              *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)  # fmt: skip
"""Characters without a glyph that Unicode does not class as format characters: joiners, fillers,
variation selectors."""

_LOOK_ALIKE_LETTERS = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0406\u0408\u0405"
    "\u03bf\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "aeopcyxijshdqwABEKMHOPCTYXIJSoABEZHIKMNOPTYX",
)
"""Letters of Cyrillic and Greek that look like one of Latin."""

_LATIN = "A-Za-z\u00c0-\u024f"
_LOOKS_LATIN = "".join(map(chr, _LOOK_ALIKE_LETTERS))
_MIXED_WORD = re.compile(
    rf"(?<![^\W\d_])(?:[{_LATIN}]+[{_LOOKS_LATIN}]|[{_LOOKS_LATIN}]+[{_LATIN}])[^\W\d_]*"
)
_OTHER_LETTERS = re.compile(rf"[^{_LATIN}{_LOOKS_LATIN}]")


class _Harmless(dict[int, str]):
    """Replacement of each code point, worked out when first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Cc", "Zs", "Zl", "Zp") or character == "\u2800":  # a blank Braille cell
            replacement = " "
        elif category == "Cf" or character in _INVISIBLE:  # zero-width, bidirectional controls
            replacement = ""
        elif category == "Cs":
            replacement = "\ufffd"
        elif unicodedata.decomposition(character).startswith(("<wide>", "<font>")):
            # Letters and signs in full width or a mathematical alphabet read as the plain ones.
            replacement = unicodedata.normalize("NFKC", character)
        else:
            replacement = _LOOK_ALIKE_SIGNS.get(character, character)
        self[code] = replacement
        return replacement


_HARMLESS = _Harmless()


def sanitise(text: str) -> str:
    """Rewrite text from the web so that it can imitate neither chat control nor our own layout.

    Invisible characters go, all white space becomes single spaces (a page writes on one line and
    cannot lay out a prompt of its own), double brackets become single ones, and what opens a
    control string or a tag is set apart by a space, look-alikes of its signs included. Full-width
    and mathematical letters become plain ones, and in a word of Latin letters those of Cyrillic and
    Greek that look like Latin ones; a word wholly in another script stays as it is. Of a word that
    no name is as long as, its beginning and its end are shown.

    This is for the eyes of the LLM alone: offsets and output are of the page's own text. Backends
    that work on token ids have a stronger guarantee besides, see `chat.PromptEncoder`.
    """
    visible = re.sub(" +", " ", text.translate(_HARMLESS))
    if not visible.isascii():
        visible = _MIXED_WORD.sub(_in_one_script, visible)
    visible = _MARK.sub(lambda match: match[0][0], visible)
    visible = _LONG_WORD.sub(_shortened, visible)
    return _BREAKABLE.sub(lambda match: match[0] + " ", visible)


def _shortened(match: re.Match[str]) -> str:
    return f"{match[0][:_KEPT_HEAD]}{ELLIPSIS}{match[0][-_KEPT_TAIL:]}"


def _in_one_script(match: re.Match[str]) -> str:
    """Write a word of mixed scripts in Latin, if every letter that is not Latin looks like it."""
    word = match[0]
    return word if _OTHER_LETTERS.search(word) else word.translate(_LOOK_ALIKE_LETTERS)
