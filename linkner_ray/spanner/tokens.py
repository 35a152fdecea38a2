"""Sentences in columns: each token is the number of its word.

Letters: T tokens of all sentences, S sentences, U words, L subwords of these, N runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Self, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubwordTable:
    """The subwords of words.

    Attributes:
        ids: Vocabulary ids, all words one after another. Shape (L,).
        first: First subword of each word, then L. Shape (U + 1,).
    """

    ids: IntArray
    first: IntArray

    def counts_of(self, word: NDArray[np.integer]) -> IntArray:
        """How many subwords words have, by their numbers."""
        return self.first[word + 1] - self.first[word]

    def of(self, word: NDArray[np.integer]) -> IntArray:
        """Subwords of words by their numbers, one after another."""
        return self.ids[runs(self.first[word], self.counts_of(word))]

    def take(self, word: NDArray[np.integer]) -> "SubwordTable":
        """The given words, in that order."""
        first = np.concatenate([[0], np.cumsum(self.counts_of(word))])
        return SubwordTable(ids=self.of(word), first=first)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """The tokens of sentences.

    Attributes:
        words: Each word once.
        word: Index into `words` of each token, all sentences one after another. Shape (T,).
        first: First token of each sentence, then T. Shape (S + 1,).
        fields: Number of the field of each token; spans over several fields are no candidates.
            None if every sentence is one field. Shape (T,).
        subwords: Of each word; None until the words are encoded.
    """

    words: Sequence[str]
    word: NDArray[np.int32]
    first: IntArray
    fields: NDArray[np.int32] | None = None
    subwords: SubwordTable | None = None

    @classmethod
    def of(cls, sentences: "Sentences") -> "TokenTable":
        """Sentences given as lists of tokens; a table stays as it is."""
        if isinstance(sentences, TokenTable):
            return sentences
        numbers: dict[str, int] = {}
        tokens = chain.from_iterable(sentences)
        word = np.fromiter((numbers.setdefault(t, len(numbers)) for t in tokens), np.int32)
        first = np.cumsum([0, *map(len, sentences)], dtype=np.int64)
        return cls(words=list(numbers), word=word, first=first)

    def __len__(self) -> int:
        """S."""
        return len(self.first) - 1

    def between(self, first: int, end: int) -> Self:
        """A run of sentences, with the words of these alone."""
        places = slice(self.first[first], self.first[end])
        used, word = np.unique(self.word[places], return_inverse=True)
        return type(self)(
            words=[self.words[number] for number in used.tolist()],
            word=word.astype(np.int32),
            first=self.first[first : end + 1] - self.first[first],
            fields=None if self.fields is None else self.fields[places],
            subwords=None if self.subwords is None else self.subwords.take(used),
        )

    def distinct(self) -> tuple[Self, IntArray]:
        """Each sentence once, in order of first appearance, and the number of each. Shape (S,).

        Sentences are the same if their tokens and the borders of their fields are.
        """
        keys = self.word[:, None]
        if self.fields is not None:
            # Numbers of fields go on through a document; what counts is where they change.
            lengths = np.diff(self.first)
            begin = self.fields[self.first[:-1][lengths > 0]]
            fields = self.fields - np.repeat(begin, lengths[lengths > 0])
            keys = np.stack([self.word, fields], axis=1)
        content = np.ascontiguousarray(keys, dtype=np.int32)
        buffers = [None, pa.py_buffer(self.first * content[:1].nbytes), pa.py_buffer(content)]
        numbered = pa.Array.from_buffers(pa.large_binary(), len(self), buffers).dictionary_encode()
        number = numbered.indices.to_numpy().astype(np.int64)
        if len(numbered.dictionary) == len(self):
            return self, number
        _, chosen = np.unique(number, return_index=True)
        lengths = np.diff(self.first)[chosen]
        places = runs(self.first[chosen], lengths)
        distinct = type(self)(
            words=self.words,
            word=self.word[places],
            first=np.concatenate([[0], np.cumsum(lengths)]),
            fields=None if self.fields is None else self.fields[places],
            subwords=self.subwords,
        )
        return distinct, number

    def texts(self, sentence: IntArray, start: IntArray, end: IntArray) -> list[list[str]]:
        """The words of spans of tokens, which are counted from the beginning of each sentence."""
        begin = self.first[sentence]
        words = [self.words[index] for index in self.word[runs(begin + start, end - start)]]
        bounds = np.cumsum([0, *(end - start)]).tolist()
        return [words[a:b] for a, b in pairwise(bounds)]


Sentences = TokenTable | Sequence[Sequence[str]]


def runs(starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> IntArray:
    """Integers that count up from each start, one run after another.

    Args:
        starts: First of each run. Shape (N,).
        lengths: How many there are of each. Shape (N,).
    """
    before = np.cumsum(lengths) - lengths
    return cast(IntArray, np.repeat(starts - before, lengths) + np.arange(lengths.sum()))
