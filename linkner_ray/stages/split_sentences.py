"""Text into sentences and words: lines first, then a segmenter inside each line."""

import ctypes
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable
from itertools import accumulate, chain, pairwise
from typing import ClassVar, NamedTuple

import blingfire
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkner_ray.config import SentencesConfig
from linkner_ray.schemas import SENTENCE, STAGE_COLUMNS, TOKEN, make_lists, offsets_of

Positions = npt.NDArray[np.int32]

Segmenter = Callable[[str], list[tuple[int, int]]]
"""Half-open spans of the sentences of one line in code points; none if it cannot tell.

The line is not blank and ends in no blank.
"""


class SplitSentences:
    """`text` -> `sentences`: every character that is not blank stands in exactly one token.

    A line ends a sentence; the segmenter only says where in a line a new one begins, and a
    sentence reaches from its first token to its last. Whatever a segmenter answers, no text is
    lost and no sentences overlap. A token belongs to the sentence in which it begins.
    """

    reads: ClassVar[tuple[str, ...]] = ("text",)
    adds: ClassVar[tuple[str, ...]] = ("sentences",)

    def __init__(self, config: SentencesConfig) -> None:
        self._max_token_chars = config.max_token_chars
        self._segment: Segmenter
        match config.segmenter:
            case "blingfire":
                self._segment = BlingfireSegmenter()
            case "lines":
                self._segment = whole_line

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add `sentences`; a text without any word has none."""
        texts = [self._split(text) for text in batch["text"].to_pylist()]
        return batch.append_column("sentences", _column(texts))

    def _split(self, text: str) -> "_Sentences":
        token_starts, token_ends = find_words(text, max_token_chars=self._max_token_chars)
        cuts = np.array(self._cuts(text), dtype=np.int32)
        # Tokens that begin before each cut; two equal counts enclose a stretch without tokens.
        bounds = np.unique(np.searchsorted(token_starts, cuts, side="left"))
        return _Sentences(
            starts=token_starts[bounds[:-1]],
            ends=token_ends[bounds[1:] - 1],
            num_tokens=np.diff(bounds).astype(np.int32),
            token_starts=token_starts,
            token_ends=token_ends,
        )

    def _cuts(self, text: str) -> list[int]:
        """Positions at which a sentence may begin, and the end of the text."""
        cuts = [0]
        position = 0
        for line in text.splitlines(keepends=True):
            content = line.rstrip()
            if content:
                cuts += (position + start for start, _ in self._segment(content))
            position += len(line)
            cuts.append(position)
        return cuts


def whole_line(line: str) -> list[tuple[int, int]]:
    """The line as one sentence."""
    return [(0, len(line))]


class BlingfireSegmenter:
    """BlingFire's sentence model, called without its Python wrapper.

    The wrapper walks every byte in Python and fails on some lines, so this calls the same C
    function and turns its byte positions into code points. Long lines are shown to it in pieces
    that are joined again.
    """

    _PIECE_CHARS = 1 << 13
    _CAPACITY = 2 * 4 * _PIECE_CHARS + 2
    """BlingFire writes a line break for each sentence beside the text, 4 bytes a character."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(self._CAPACITY)
        self._starts = (ctypes.c_int32 * self._CAPACITY)()
        self._ends = (ctypes.c_int32 * self._CAPACITY)()

    def __reduce__(self) -> tuple[type["BlingfireSegmenter"], tuple[()]]:
        """C buffers are not pickled; a copy makes its own."""
        return (type(self), ())

    def __call__(self, line: str) -> list[tuple[int, int]]:
        """Sentences of a line with the blanks after them; none if BlingFire's answer is no use."""
        starts = [0]
        begin = 0
        while begin < len(line):
            end = begin + self._PIECE_CHARS
            found = self._inner_starts(line[begin:end])
            if found is None:
                return []
            starts += (begin + start for start in found)
            # The last sentence of a piece may go on, so the next piece begins with it.
            begin = starts[-1] if found and end < len(line) else end
        return list(pairwise([*starts, len(line)]))

    def _inner_starts(self, piece: str) -> list[int] | None:
        """Starts of all sentences of a piece but the first; None for an answer without sense."""
        encoded = piece.encode()
        num_bytes = len(encoded)
        capacity = 2 * num_bytes + 2  # the whole of a buffer takes longer, whatever is used of it
        written = blingfire.blingfire.TextToSentencesWithOffsets(
            encoded, num_bytes, self._text, self._starts, self._ends, capacity
        )
        if not 0 <= written <= capacity:
            return None
        num_sentences = ctypes.string_at(self._text, written).count(b"\n") + 1
        starts = self._starts[1:num_sentences]
        if any(a >= b for a, b in pairwise([0, *starts, num_bytes])):
            return None
        if num_bytes == len(piece):
            return starts
        if any(encoded[start] & 0xC0 == 0x80 for start in starts):
            return None  # inside a character
        lengths = (len(encoded[a:b].decode()) for a, b in pairwise([0, *starts]))
        return list(accumulate(lengths))


_SINGLE_RANGES = (
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B),  # radicals, marks
    (0x3040, 0x30FF), (0x3100, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF),  # kana, bopomofo
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip
"""Scripts written without spaces, whose characters are words or nearly so: a token each."""

_JOINERS = "\u00ad\u200c\u200d"
"""Soft hyphen and the zero-width joiners stand inside words."""

_EMOJI = "\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_EMOJI_PARTS = "\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_FLAG = "\U0001f1e6-\U0001f1ff"


def find_words(text: str, *, max_token_chars: int) -> tuple[Positions, Positions]:
    """Tokens of a text; every character that is not blank stands in exactly one.

    Words keep inner hyphens and apostrophes, abbreviations and numbers their inner periods and
    commas; `n't`, `'s` and their like are tokens of their own, as are Han and kana characters,
    emoji and punctuation marks.

    Args:
        text: Any text.
        max_token_chars: Longer tokens are cut into several.

    Returns:
        Starts and ends of the tokens in code points, by position. Shapes (T,) and (T,).
    """
    spans = chain.from_iterable(map(re.Match.span, _pattern().finditer(text)))
    flat = np.fromiter(spans, dtype=np.int32)
    starts, ends = flat[0::2], flat[1::2]
    if len(flat) and int((ends - starts).max()) > max_token_chars:
        return _cut_long(starts, ends, max_token_chars)
    return starts, ends


def _cut_long(starts: Positions, ends: Positions, limit: int) -> tuple[Positions, Positions]:
    """Divide each token into pieces of `limit` characters and a rest."""
    num_pieces = -(-(ends - starts) // limit)
    first = np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)
    index = np.arange(num_pieces.sum()) - first  # of each piece in its token
    piece_starts = np.repeat(starts, num_pieces) + index * limit
    piece_ends = np.minimum(piece_starts + limit, np.repeat(ends, num_pieces))
    return piece_starts.astype(np.int32), piece_ends.astype(np.int32)


@functools.cache
def _pattern() -> re.Pattern[str]:
    """The tokens, alternatives in order of precedence; compiled once."""
    word, mark, single = _classes()
    apostrophe = "['\u2019]"
    clitic = f"{apostrophe}(?:[sdmSDM]|re|ve|ll|RE|VE|LL)(?!\\w)"
    negation = f"n{apostrophe}t(?!\\w)|N{apostrophe}T(?!\\w)"
    # The letters before "n't" give back their n: do|n't, ca|n't.
    letters = f"[{word}]+(?<![nN](?={apostrophe}[tT](?!\\w)))"
    inner = (
        "[-\u2010\u2011_]"
        "|(?<=[0-9])[.,:](?=[0-9])"
        "|(?<=[a-z0-9])\\.(?=[a-z])"
        "|(?<=[A-Z])&(?=[A-Z])"
        f"|(?!{clitic}){apostrophe}"
    )
    return re.compile(
        "|".join(
            [
                "[A-Za-z](?:\\.[A-Za-z])+(?!\\w)\\.?",  # U.S., e.g.
                "[A-Z]\\.(?=[ \u00a0]+[A-Z])",  # an initial
                negation,
                f"(?:[cdjlmnst]|qu){apostrophe}(?=\\w)",  # elision: l'Europe
                f"{letters}(?:(?:{inner}){letters})*",
                clitic,
                f"[{single}][{mark}]*",
                f"[{_FLAG}]{{2}}",
                f"[{_EMOJI}][{_EMOJI_PARTS}]*(?:\u200d[{_EMOJI}][{_EMOJI_PARTS}]*)*",
                "\\.{2,}",
                "-{2,}",
                f"\\S[{mark}]*",
            ]
        )
    )


def _classes() -> tuple[str, str, str]:
    """Insides of character classes: of words, of combining marks, of one-character words."""
    singles = {point for low, high in _SINGLE_RANGES for point in range(low, high + 1)}
    words, marks = [], []
    for point in chain(range(0x20000), range(0xE0000, 0xE1000)):  # no letter or mark elsewhere
        character = chr(point)
        is_mark = unicodedata.category(character).startswith("M")
        if is_mark:
            marks.append(point)
        if is_mark or character in _JOINERS or (character.isalnum() and point not in singles):
            words.append(point)
    return _ranges(words), _ranges(marks), _ranges(sorted(singles - set(words)))


def _ranges(points: Iterable[int]) -> str:
    """Sorted code points as the inside of a character class."""
    ranges: list[list[int]] = []
    for point in points:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)


class _Sentences(NamedTuple):
    """Sentences of one text: half-open positions in code points, tokens flat."""

    starts: Positions
    ends: Positions
    num_tokens: Positions
    token_starts: Positions
    token_ends: Positions


_NONE: Positions = np.empty(0, dtype=np.int32)


def _column(texts: list[_Sentences]) -> pa.ListArray:
    tokens = pa.StructArray.from_arrays(
        [
            _flat([text.token_starts for text in texts]),
            _flat([text.token_ends for text in texts]),
        ],
        fields=list(TOKEN),
    )
    num_tokens = np.concatenate([text.num_tokens for text in texts] or [_NONE])
    sentences = pa.StructArray.from_arrays(
        [
            _flat([text.starts for text in texts]),
            _flat([text.ends for text in texts]),
            make_lists(tokens, offsets_of(num_tokens)),
        ],
        fields=list(SENTENCE),
    )
    num_sentences = [len(text.starts) for text in texts]
    return make_lists(sentences, offsets_of(num_sentences), STAGE_COLUMNS["sentences"])


def _flat(positions: list[Positions]) -> pa.Int32Array:
    return pa.array(np.concatenate(positions or [_NONE]), pa.int32())
