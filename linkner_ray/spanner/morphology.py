"""Case and shape classes of tokens: what an uncased encoder no longer sees."""

import re
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class Morphology(IntEnum):
    """Class of a token by the case and kind of its characters."""

    SYMBOL = 0  # no letter and no digit: "," "--" ""
    LOWER = 1  # "match"
    TITLE = 2  # "Paris"
    UPPER = 3  # "NATO"
    CAPITAL = 4  # one capital letter, with or without a point: "A" "J."
    ACRONYM = 5  # capitals and points: "U.S."
    MIXED = 6  # "McDonald" "eBay"
    COMPOUND = 7  # letters joined by other marks, with a capital: "German-born" "O'Neil"
    DIGITS = 8  # "1996"
    NUMBER = 9  # digits and marks: "1996-08-22" "3.5"
    ALPHANUMERIC = 10  # "A320" "1990s"
    CASELESS = 11  # letters of a script without case


NUM_MORPHOLOGY_CLASSES = len(Morphology)

_ACRONYM = re.compile(r"(?:[^\W\d_]\.){2,}[^\W\d_]?")


@lru_cache(maxsize=2**16)
def morphology_class(token: str) -> Morphology:
    """Class of one token; every string has exactly one."""
    if token.isalpha():
        word = token
    elif any(map(str.isdigit, token)):
        return _class_with_digits(token, has_letters=any(map(str.isalpha, token)))
    else:
        word = "".join(filter(str.isalpha, token))
    if not word:
        return Morphology.SYMBOL
    if word == word.lower():
        return Morphology.CASELESS if word == word.upper() else Morphology.LOWER
    return _class_with_capitals(token, word)


def morphology_classes(tokens: Sequence[str]) -> NDArray[np.int64]:
    """Classes of many tokens. Shape (T,)."""
    return np.fromiter(map(morphology_class, tokens), dtype=np.int64, count=len(tokens))


def _class_with_digits(token: str, *, has_letters: bool) -> Morphology:
    if has_letters:
        return Morphology.ALPHANUMERIC
    return Morphology.DIGITS if token.isdigit() else Morphology.NUMBER


def _class_with_capitals(token: str, word: str) -> Morphology:
    if len(word) == 1:
        return Morphology.CAPITAL
    if word == word.upper():
        return Morphology.ACRONYM if _ACRONYM.fullmatch(token) else Morphology.UPPER
    if len(word) < len(token):
        return Morphology.COMPOUND
    return Morphology.TITLE if word[0].isupper() and word[1:].islower() else Morphology.MIXED
