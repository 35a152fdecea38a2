"""Characters that stand in no token: blank, invisible, and those of blobs such as base64."""

import functools
import re
import unicodedata
from itertools import chain

FILLERS = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
)  # fmt: skip
"""Invisible characters that Unicode counts among letters and marks."""

JOINERS = "\u00ad\u200c\u200d"
"""Soft hyphen and the zero-width joiners, which stand inside words."""

_VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2")
"""Signs around Arabic and Syriac numbers, of the category of invisible characters."""

SPACED = "!-~\u00a1-\u0dff\uac00-\ud7a3"
"""Characters of the scripts that put a blank between words, as the inside of a class."""

_MIN_BLOB_CHARS = 1_000
_BLOB = re.compile(f"(?<![{SPACED}])[{SPACED}]{{{_MIN_BLOB_CHARS},}}")


@functools.cache
def invisible() -> frozenset[str]:
    """Invisible characters; a word may have some inside, but none begins or ends with one."""
    points = chain.from_iterable(range(low, high + 1) for low, high in FILLERS)
    found = {*map(chr, points), *JOINERS}
    for point in chain(range(0x20000), range(0xE0000, 0xE1000)):  # none elsewhere
        character = chr(point)
        if unicodedata.category(character) in {"Cc", "Cf"} and character not in _VISIBLE_FORMATS:
            found.add(character)
    return frozenset(found)


def find_blobs(text: str) -> list[tuple[int, int]]:
    """Half-open positions of runs that are no words: 1,000 characters or more without a blank."""
    return [found.span() for found in _BLOB.finditer(text)]


def count_unread(text: str, sentences: list[tuple[int, int]]) -> tuple[int, int]:
    """Characters outside the sentences of a text: blank or invisible ones, and those of blobs.

    Args:
        text: Any text.
        sentences: Half-open positions, in order.
    """
    blobs = find_blobs(text) if len(text) >= _MIN_BLOB_CHARS else []
    num_blank = num_blob = position = 0
    for start, end in (*sentences, (len(text), len(text))):
        for blob_start, blob_end in blobs:
            left, right = max(blob_start, position), min(blob_end, start)
            if left < right:
                num_blank += _count_blank(text[position:left])
                num_blob += right - left
                position = right
        num_blank += _count_blank(text[position:start])
        position = end
    return num_blank, num_blob


def _count_blank(text: str) -> int:
    if not text or text.isspace():
        return len(text)
    return sum(character.isspace() or character in invisible() for character in text)
