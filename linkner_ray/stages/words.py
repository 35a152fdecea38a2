"""Words of a text: one pattern for all scripts, and a dictionary for those without spaces."""

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from operator import methodcaller
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from icu4py.breakers import CharacterBreaker, WordBreaker

from linkner_ray.unread import FILLERS, JOINERS, invisible

Positions = npt.NDArray[np.int32]
_Ranges = tuple[tuple[int, int], ...]

_DICTIONARY: _Ranges = (
    (0x0E00, 0x0E7F), (0x0E80, 0x0EFF), (0x1780, 0x17FF),  # Thai, Lao, Khmer
    (0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F),  # Myanmar
    (0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F),  # kana
)  # fmt: skip
"""Scripts without spaces whose words ICU tells apart by a dictionary."""

_SINGLE: _Ranges = (
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B),  # radicals, marks
    (0x3100, 0x312F), (0x31A0, 0x31BF),  # bopomofo
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),  # Han
    (0x1AFF0, 0x1B16F),  # old kana
    (0x1950, 0x19DF), (0x1A20, 0x1AAD), (0xAA80, 0xAADF), (0x11700, 0x1174F),  # Tai, Ahom
    (0x1B00, 0x1B7F), (0xA980, 0xA9DF),  # Balinese, Javanese
)  # fmt: skip
"""Scripts without spaces whose characters are words or nearly so: a token each.

Han is among them though ICU has a dictionary: Chinese corpora are labelled by character, and no
border of a name can be missed.
"""

_KATAKANA = re.compile("[\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f]+")
_SECOND_KANA = frozenset(
    "\u3041\u3043\u3045\u3047\u3049\u3063\u3083\u3085\u3087\u308e\u3095\u3096\u3093\u30fc"
)
"""Small hiragana, n and the mark of a long vowel: no word begins with them."""

_HIRAGANA = frozenset(map(chr, (*range(0x3041, 0x3097), 0x309D, 0x309E)))
_PARTICLES = frozenset("\u304b\u304c\u3060\u3067\u3068\u306b\u306e\u306f\u3078\u3082\u3084\u3092")
"""ka, ga, da, de, to, ni, no, ha, he, mo, ya, wo: what stands behind a name is no part of it."""

_MAX_JOINED_KANA = 4
"""Most single hiragana in one token; a surname or a first name seldom has more."""

_SECOND_HALVES = "\u0e33\u0eb3\uff9e\uff9f"
"""The vowel am of Thai and Lao, the voiced marks of half-width kana: they go with a letter."""

_STACKERS = "\u1a60\u1b44\ua9c0"
"""Tai Tham, Balinese and Javanese marks that make one letter of two."""

_SPAN = methodcaller("span", 1)

_EMOJI = "\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_EMOJI_PARTS = "\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_FLAG = "\U0001f1e6-\U0001f1ff"


def find_words(text: str, *, max_token_chars: int) -> tuple[Positions, Positions]:
    """Tokens of a text; every visible character stands in exactly one.

    Words keep inner hyphens and apostrophes, abbreviations and numbers their inner periods and
    commas; `n't`, `'s` and their like are tokens of their own, as are Han characters, emoji and
    punctuation marks. Thai, Lao, Khmer, Burmese and kana are divided by ICU. Zero-width and
    control characters begin and end no token.

    Args:
        text: Any text.
        max_token_chars: Longer tokens are cut into several, but not inside a letter, unless that
            letter with its marks is longer itself.

    Returns:
        Starts and ends of the tokens in code points, by position. Shapes (T,) and (T,).
    """
    patterns = _patterns()
    spans = chain.from_iterable(map(_SPAN, patterns.token.finditer(text)))
    flat = np.fromiter(spans, dtype=np.int32)
    starts, ends = flat[0::2], flat[1::2]
    if patterns.dictionary.search(text):
        starts, ends = _cut(starts, ends, _dictionary_borders(text))
    too_long = ends - starts > max_token_chars
    if too_long.any():
        long = zip(starts[too_long].tolist(), ends[too_long].tolist(), strict=True)
        pieces = (_pieces(text, start, end, max_token_chars) for start, end in long)
        flat = np.fromiter(chain.from_iterable(pieces), dtype=np.int32)
        starts = np.sort(np.concatenate([starts[~too_long], flat[0::2]]))
        ends = np.sort(np.concatenate([ends[~too_long], flat[1::2]]))
    return starts, ends


def _cut(starts: Positions, ends: Positions, borders: Iterable[int]) -> tuple[Positions, Positions]:
    """Divide the tokens at those borders that lie inside one."""
    cuts = np.fromiter(borders, dtype=np.int32)
    token = np.searchsorted(starts, cuts, side="left") - 1  # the last to begin before the cut
    inside = cuts[(token >= 0) & (cuts < ends[token])]
    return np.sort(np.concatenate([starts, inside])), np.sort(np.concatenate([ends, inside]))


def _pieces(text: str, start: int, end: int, limit: int) -> Iterator[int]:
    """Starts and ends of the pieces of a token, none longer than `limit` characters."""
    for run in _patterns().visible.finditer(text, start, end):
        begin = position = run.start()
        for letter in run[0] if run[0].isascii() else CharacterBreaker(run[0], "root"):
            if begin < position and position + len(letter) - begin > limit:
                yield from (begin, position)
                begin = position
            position += len(letter)
            while position - begin > limit:
                yield from (begin, begin + limit)
                begin += limit
        yield from (begin, position)


def _dictionary_borders(text: str) -> Iterator[int]:
    """Where words begin in scripts without spaces; Han around kana helps to find them."""
    for stretch in _patterns().without_spaces.finditer(text):
        yield from (stretch.start() + border for border in _word_starts(stretch[0]))


def _word_starts(stretch: str) -> Iterator[int]:
    """Where ICU's words begin, unless that is inside a letter.

    ICU leaves single kana of a name that it does not know. Katakana go to the word before or
    behind them, hiragana to other single ones, unless they may be a particle.
    """
    letter_ends = set(accumulate(map(len, CharacterBreaker(stretch, "root")), initial=0))
    begin = end = 0  # of the word that may go on
    was_katakana = was_single = False
    for word in WordBreaker(stretch, "root"):
        is_katakana = _KATAKANA.fullmatch(word) is not None
        is_second = word in _SECOND_KANA
        is_single = word in _HIRAGANA and word not in _PARTICLES
        is_rest = (
            is_second
            or (is_katakana and was_katakana and 1 in (len(word), end - begin))
            or (is_single and was_single and end - begin < _MAX_JOINED_KANA)
        )
        if end in letter_ends and not is_rest:
            yield end
            begin = end
        end += len(word)
        was_katakana = is_katakana
        was_single = was_single if is_second else is_single


class _Patterns(NamedTuple):
    token: re.Pattern[str]
    """A blank, if there is one, and in a group the token behind it."""
    dictionary: re.Pattern[str]
    """One character of `_DICTIONARY`."""
    without_spaces: re.Pattern[str]
    """What is shown to the dictionary at once."""
    visible: re.Pattern[str]


@functools.cache
def _patterns() -> _Patterns:
    """Alternatives for tokens stand in order of precedence; compiled once."""
    classes = _classes()
    word, mark, single, dictionary = classes.word, classes.mark, classes.single, classes.dictionary
    apostrophe = "['\u2019]"
    clitic = f"{apostrophe}(?:[sdmSDM]|re|ve|ll|RE|VE|LL)(?!\\w)"
    negation = f"n{apostrophe}t(?!\\w)|N{apostrophe}T(?!\\w)"
    # The letters before "n't" give back their n: do|n't, ca|n't.
    letters = (
        f"(?![{classes.inner}])[{word}]+(?<![{classes.inner}])(?<![nN](?={apostrophe}[tT](?!\\w)))"
    )
    inner = (
        "[-\u2010\u2011_]"
        "|(?<=[0-9])[.,:](?=[0-9])"
        "|(?<=[a-z0-9])\\.(?=[a-z])"
        "|(?<=[A-Z])&(?=[A-Z])"
        f"|(?!{clitic}){apostrophe}"
    )
    token = [
        "[A-Za-z0-9]++(?=[ \n])",  # most tokens: found early, they cost half
        "[A-Za-z](?:\\.[A-Za-z])+(?!\\w)\\.?",  # U.S., e.g.
        "[A-Z]\\.(?=[ \u00a0]+[A-Z])",  # an initial
        negation,
        f"(?:[cdjlmnst]|qu){apostrophe}(?=\\w)",  # elision: l'Europe
        f"{letters}(?:(?:{inner}){letters})*",
        clitic,
        f"[{single}][{mark}]*(?:(?<=[{_STACKERS}])[{single}][{mark}]*)*",
        f"[{dictionary}][{dictionary}{mark}]*",
        f"[{_FLAG}]{{2}}",
        f"[{_EMOJI}][{_EMOJI_PARTS}]*(?:\u200d[{_EMOJI}][{_EMOJI_PARTS}]*)*",
        "\\.{2,}",
        "-{2,}",
        f"[^\\s{classes.invisible}][{mark}]*",
    ]
    return _Patterns(
        token=re.compile(f"\\s?+({'|'.join(token)})"),
        dictionary=re.compile(f"[{dictionary}]"),
        without_spaces=re.compile(f"[{dictionary}{single}][{dictionary}{single}{mark}]*"),
        visible=re.compile(f"[^{classes.invisible}]+"),
    )


class _Classes(NamedTuple):
    """Insides of character classes."""

    word: str
    """Letters, digits and marks of scripts with spaces, and `inner`."""
    mark: str
    single: str
    dictionary: str
    """Letters and digits of the scripts of `_DICTIONARY`."""
    inner: str
    """Invisible, but part of a word that stands around them."""
    invisible: str


def _classes() -> _Classes:
    singles, by_dictionary, fillers = map(_points, (_SINGLE, _DICTIONARY, FILLERS))
    inner = fillers | set(map(ord, JOINERS))
    marks = set(map(ord, _SECOND_HALVES))
    letters: set[int] = set()
    for point in chain(range(0x20000), range(0xE0000, 0xE1000)):  # no letter or mark elsewhere
        character = chr(point)
        category = unicodedata.category(character)
        if category.startswith("M"):
            marks.add(point)
        elif character.isalnum() and point not in marks:
            letters.add(point)
    return _Classes(
        word=_ranges(inner | marks | (letters - singles - by_dictionary)),
        mark=_ranges(marks),
        single=_ranges(singles - marks),
        dictionary=_ranges(by_dictionary & letters),
        inner=_ranges(inner),
        invisible=_ranges(map(ord, invisible())),
    )


def _points(ranges: _Ranges) -> set[int]:
    return {point for low, high in ranges for point in range(low, high + 1)}


def _ranges(points: Iterable[int]) -> str:
    """Code points as the inside of a character class."""
    ranges: list[list[int]] = []
    for point in sorted(points):
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)
