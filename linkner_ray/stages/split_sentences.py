"""Text into sentences and words: lines and cells first, then a segmenter inside each line."""

import ctypes
import re
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import ClassVar, NamedTuple

import blingfire
import numpy as np
import pyarrow as pa

from linkner_ray.config import SentencesConfig
from linkner_ray.schemas import SENTENCE, STAGE_COLUMNS, TOKEN, make_lists, offsets_of
from linkner_ray.stages.words import Positions, find_words
from linkner_ray.unread import find_blobs

Segmenter = Callable[[str], list[tuple[int, int]]]
"""Half-open spans of the sentences of one line in code points; none if it cannot tell.

The line is not blank and ends in no blank.
"""

_CELL_BORDER = re.compile(r"\t|  |\s{3}")
"""A tab, two spaces or three blanks of any kind stand between the cells of a row."""


class SplitSentences:
    """`text` -> `sentences`: every visible character stands in one token, but for those of blobs.

    A line or a table cell ends a sentence; the segmenter only says where in a line a new one
    begins, and a sentence reaches from its first token to its last. Whatever a segmenter answers,
    no text is lost and no sentences overlap. A token belongs to the sentence in which it begins.
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
        cuts = self._cuts(text)
        if blobs := find_blobs(text):
            begins, ends = np.array(blobs, dtype=np.int32).T
            blob = np.searchsorted(begins, token_starts, side="right") - 1  # the last before it
            read = (blob < 0) | (token_ends > ends[blob])
            token_starts, token_ends = token_starts[read], token_ends[read]
            cuts += (*begins, *ends)
        # Tokens that begin before each cut; two equal counts enclose a stretch without tokens.
        bounds = np.unique(np.searchsorted(token_starts, np.unique(cuts), side="left"))
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
                cuts += (position + cell.end() for cell in _CELL_BORDER.finditer(content))
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
