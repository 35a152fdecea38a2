"""Tokens of documents as the local model reads them.

Letters: D documents, S sentences, T tokens, U words, all documents together.
"""

import re
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.schemas import list_offsets, offsets_of
from linkner_ray.spanner.tokens import IntArray, SubwordTable, TokenTable, runs

_LONE_BAR = re.compile(r"(?<!\S)\|(?!\S)")
_LAST_ASCII = 0x7F


class DocumentTokens:
    """Where the tokens of a table of documents stand.

    Args:
        batch: With `text` and `sentences`, and with `subwords` where words are encoded already.

    Attributes:
        starts: Code point in its document at which each token begins. Shape (T,).
        ends: Code point after its last. Shape (T,).
        first_token: Of each sentence, then T. Shape (S + 1,).
        first_sentence: Of each document, then S. Shape (D + 1,).
    """

    def __init__(self, batch: pa.Table) -> None:
        self._texts = batch["text"].combine_chunks()
        self._subwords = (
            batch["subwords"].combine_chunks() if "subwords" in batch.column_names else None
        )
        documents = batch["sentences"].combine_chunks()
        self.first_sentence = list_offsets(documents)
        lists = pc.struct_field(documents.flatten(), "tokens")
        self.first_token = list_offsets(lists)
        tokens = lists.flatten()
        self.starts, self.ends = (
            pc.struct_field(tokens, name).to_numpy(zero_copy_only=False).astype(np.int64)
            for name in ("start", "end")
        )

    @property
    def bounds(self) -> IntArray:
        """First token of each document, then T. Shape (D + 1,)."""
        return self.first_token[self.first_sentence]

    def table(self) -> TokenTable:
        """The sentences; a lone bar stands between two fields."""
        letters, begins = self._bytes()
        starts, ends = self._in_bytes(letters, begins)
        lengths = ends - starts
        offsets = offsets_of(lengths)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(letters[runs(starts, lengths)])]
        words = pa.Array.from_buffers(pa.large_string(), len(lengths), buffers).dictionary_encode()
        word = words.indices.to_numpy()
        return TokenTable(
            words=words.dictionary.to_pylist(),
            word=word,
            first=self.first_token,
            fields=self._fields(letters, begins),
            subwords=None if self._subwords is None else _by_word(self._subwords, word),
        )

    def _bytes(self) -> tuple[NDArray[np.uint8], IntArray]:
        """All texts in UTF-8, and where each begins, then their length. Shape (D + 1,)."""
        texts = self._texts
        _, offsets, content = texts.buffers()
        begins = np.frombuffer(offsets, np.int32)[texts.offset :][: len(texts) + 1]
        begins = begins.astype(np.int64)
        return np.frombuffer(content, np.uint8)[begins[0] : begins[-1]], begins - begins[0]

    def _in_bytes(self, letters: NDArray[np.uint8], begins: IntArray) -> tuple[IntArray, IntArray]:
        """First byte of each token and the one after its last, of all texts. Shape (T,) each."""
        num_tokens = np.diff(self.bounds)
        if letters.max(initial=0) <= _LAST_ASCII:
            before = np.repeat(begins[:-1], num_tokens)
            return before + self.starts, before + self.ends
        byte = np.append(np.flatnonzero(letters & 0xC0 != 0x80), len(letters))  # of each code point
        before = np.repeat(np.searchsorted(byte, begins[:-1]), num_tokens)
        return byte[before + self.starts], byte[before + self.ends]

    def _fields(self, letters: NDArray[np.uint8], begins: IntArray) -> NDArray[np.int32]:
        """Number of the field in which each token stands in its document. Shape (T,)."""
        fields = np.zeros(len(self.starts), np.int32)
        bars = np.flatnonzero(letters == ord("|"))
        for index in np.unique(np.searchsorted(begins, bars, side="right") - 1).tolist():
            tokens = slice(*self.bounds[index : index + 2])
            fields[tokens] = fields_of(self._texts[index].as_py(), self.starts[tokens])
        return fields


def fields_of(text: str, starts: IntArray) -> IntArray:
    """Number of the field in which each token stands; lone bars, as in menus, stand between fields.

    Args:
        text: Any text.
        starts: First code points of its tokens, by position. Shape (T,).

    Returns:
        Shape (T,); two tokens are in one field if their numbers are equal. A bar is one of its own.
    """
    borders = chain.from_iterable(map(re.Match.span, _LONE_BAR.finditer(text)))
    return np.searchsorted(np.fromiter(borders, np.int64), starts, side="right")


def _by_word(documents: pa.ListArray, word: NDArray[np.int32]) -> SubwordTable:
    """Subwords of each word, from those of each token.

    Args:
        documents: Subwords of the tokens of each document.
        word: Number of the word of each token, in order of first appearance. Shape (T,).

    Returns:
        U words.
    """
    tokens = documents.flatten()
    ids = tokens.flatten().to_numpy().astype(np.int64)
    place = np.zeros(word.max(initial=-1) + 1, np.int64)
    place[word[::-1]] = np.arange(len(word))[::-1]  # the first of a word is written last
    return SubwordTable(ids=ids, first=list_offsets(tokens)).take(place)
