"""Which solved questions an LLM is shown: some of every class, or those nearest to the question.

They come from a labelled corpus. None is taken from a sentence that contains the sentence asked
about, so a corpus that overlaps the input gives no answer away.

Everything is decided by digests of a seed and a place in the corpus: a question gets the same
demonstrations in every unit, process and run.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from linkner_ray.labels import NON_ENTITY
from linkner_ray.llm.context import ContextSize, render_context
from linkner_ray.llm.option_order import digest
from linkner_ray.llm.prompts import Demonstration

_SQUEEZED_LENGTH = 20
"""Characters from which a sentence is found inside another however both are divided into words;
shorter ones are compared by whole words."""

_SPARE_NEIGHBOURS = 8
"""Neighbours looked at beyond those wanted, in case some contain the sentence asked about."""

_SIMILARITY_DIGITS = 4
"""Decimals of a similarity that count: the rest depends on what else was in the batch."""

_SIMILARITY_BLOCK = 256
"""Sentences compared with the corpus at once, to bound memory."""


class ExampleSentence(NamedTuple):
    """A sentence of a labelled corpus.

    Attributes:
        text: As a document would hold it.
        tokens: Start and end of each token, code points of `text`.
        entities: Start, end and label id of each gold entity.
    """

    text: str
    tokens: tuple[tuple[int, int], ...]
    entities: tuple[tuple[int, int, str], ...]


class Shown(NamedTuple):
    """Demonstrations for one question: those nearly all questions share, then its own."""

    fixed: tuple[Demonstration, ...] = ()
    near: tuple[Demonstration, ...] = ()


class Demonstrations(Protocol):
    """Chooses what is shown."""

    def choose(self, sentences: Sequence[str]) -> list[Shown]:
        """Choose for questions about spans of the given sentences, in their order."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors whose inner product is their similarity."""

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of length 1. Shape (texts, width)."""
        ...


class RandomDemonstrations:
    """The same few of every class, non-entity among them, for all questions of a run.

    A question about a sentence that one of them contains gets another in its place.

    Args:
        corpus: Where they come from.
        classes: As `LabelSet.classes` has them. A class that too few sentences have is shown as
            often as they allow.
        per_class: How many of each.
        seed: Decides which, and their order.
        max_chars: Code points of a sentence that are shown, as around a span in question.
    """

    def __init__(
        self,
        corpus: Sequence[ExampleSentence],
        classes: Sequence[str],
        *,
        per_class: int,
        seed: int,
        max_chars: int,
    ) -> None:
        self._per_class, self._seed = per_class, seed
        self._size = ContextSize(0, max_chars)
        self._corpus = corpus
        self._words = [_Words.of(sentence.text) for sentence in corpus]
        self._pools: dict[str, list[tuple[int, int, int]]] = {name: [] for name in classes}
        for index, sentence in enumerate(corpus):
            spans = [*sentence.entities, *non_entity_spans(sentence, seed=seed, index=index)]
            for start, end, class_id in spans:
                self._pools[class_id].append((index, start, end))
        for pool in self._pools.values():
            pool.sort(key=lambda place: digest(seed, *place))
        self._usual = self._pick("")

    def choose(self, sentences: Sequence[str]) -> list[Shown]:
        """Choose for questions about spans of the given sentences, in their order."""
        shown = {sentence: self._choose_one(sentence) for sentence in dict.fromkeys(sentences)}
        return [shown[sentence] for sentence in sentences]

    def _choose_one(self, sentence: str) -> Shown:
        asked = _Words.of(sentence)
        places = self._usual
        if any(self._words[index].contain(asked) for index, _, _, _ in places):
            places = self._pick(sentence)
        return Shown(fixed=tuple(self._render(place) for place in places))

    def _pick(self, sentence: str) -> list[tuple[int, int, int, str]]:
        """Places in the corpus: index, start, end and class, no sentence twice."""
        asked, used = _Words.of(sentence), set()
        picked = []
        # The rarest class first: what it has is not to be used up by another.
        pools = sorted(self._pools.items(), key=lambda p: (len(p[1]), p[0] == NON_ENTITY))
        for class_id, pool in pools:
            wanted = self._per_class
            for index, start, end in pool:
                words = self._words[index]
                if wanted == 0:
                    break
                if words.squeezed not in used and not words.contain(asked):
                    used.add(words.squeezed)
                    picked.append((index, start, end, class_id))
                    wanted -= 1
        return sorted(picked, key=lambda place: digest(self._seed, "order", *place))

    def _render(self, place: tuple[int, int, int, str]) -> Demonstration:
        index, start, end, class_id = place
        return _demonstration(self._corpus[index].text, (start, end, class_id), self._size)


class NearestDemonstrations:
    """The demonstrations whose sentences are most like the one asked about, the nearest last.

    Every sentence of the corpus gives one: a span of its entities and one non-entity, which of them
    the seed decides. Search is exact.

    Args:
        corpus: Where they come from.
        embed: Gives the vectors; asked once for the corpus, then once a table.
        count: How many a question gets.
        seed: Decides which span of a sentence is shown.
        max_chars: Code points of a sentence that are shown.
    """

    def __init__(
        self,
        corpus: Sequence[ExampleSentence],
        embed: Embedder,
        *,
        count: int,
        seed: int,
        max_chars: int,
    ) -> None:
        self._embed, self._count = embed, count
        size = ContextSize(0, max_chars)
        self._demonstrations: list[Demonstration] = []
        self._words: list[_Words] = []
        texts, seen = [], set()
        for index, sentence in enumerate(corpus):
            spans = [*sentence.entities, *non_entity_spans(sentence, seed=seed, index=index)]
            words = _Words.of(sentence.text)
            if spans and words.squeezed not in seen:
                seen.add(words.squeezed)
                span = min(spans, key=lambda place: digest(seed, index, *place))
                self._demonstrations.append(_demonstration(sentence.text, span, size))
                self._words.append(words)
                texts.append(sentence.text)
        self._vectors = embed(texts)

    def choose(self, sentences: Sequence[str]) -> list[Shown]:
        """Choose for questions about spans of the given sentences, in their order."""
        distinct = list(dict.fromkeys(sentences))
        shown: dict[str, Shown] = {}
        for first in range(0, len(distinct), _SIMILARITY_BLOCK):
            block = distinct[first : first + _SIMILARITY_BLOCK]
            similarities = self._embed(block) @ self._vectors.T
            for sentence, row in zip(block, similarities.round(_SIMILARITY_DIGITS), strict=True):
                shown[sentence] = Shown(near=self._nearest(sentence, row))
        return [shown[sentence] for sentence in sentences]

    def _nearest(self, sentence: str, row: npt.NDArray[np.float32]) -> tuple[Demonstration, ...]:
        asked = _Words.of(sentence)
        allowed = (index for index in _descending(row, self._count + _SPARE_NEIGHBOURS)
                   if not self._words[index].contain(asked))  # fmt: skip
        chosen = [index for index, _ in zip(allowed, range(self._count), strict=False)]
        return tuple(self._demonstrations[index] for index in reversed(chosen))


def non_entity_spans(
    sentence: ExampleSentence, *, seed: int, index: int
) -> list[tuple[int, int, str]]:
    """Choose a span of a sentence that is no entity, of a kind that a model is in doubt about.

    The kinds are: an entity with one boundary a token too far or too near; one to three tokens that
    begin with a capital and touch no entity; one or two words in small letters, of four letters or
    more, that touch no entity. The seed decides the kind, of those the sentence has, and the span.

    Returns:
        The span with `labels.NON_ENTITY` for its label, in a list; nothing where there is none.
    """
    kinds = [
        spans
        for spans in (
            sorted(set(_near_misses(sentence))),
            list(_plain_spans(sentence, longest=3, capitalised=True)),
            list(_plain_spans(sentence, longest=2, capitalised=False)),
        )
        if spans
    ]
    if not kinds:
        return []
    spans = kinds[int.from_bytes(digest(seed, index, "kind"), "big") % len(kinds)]
    start, end = min(spans, key=lambda span: digest(seed, index, *span))
    return [(start, end, NON_ENTITY)]


def _near_misses(sentence: ExampleSentence) -> Iterator[tuple[int, int]]:
    starts = [start for start, _ in sentence.tokens]
    ends = [end for _, end in sentence.tokens]
    gold = {(start, end) for start, end, _ in sentence.entities}
    for start, end in gold:
        first, last = starts.index(start), ends.index(end)
        for a, b in ((first - 1, last), (first + 1, last), (first, last - 1), (first, last + 1)):
            if 0 <= a <= b < len(starts) and (starts[a], ends[b]) not in gold:
                yield starts[a], ends[b]


def _plain_spans(
    sentence: ExampleSentence, *, longest: int, capitalised: bool
) -> Iterator[tuple[int, int]]:
    for first in range(len(sentence.tokens)):
        for last in range(first, min(first + longest, len(sentence.tokens))):
            start, end = sentence.tokens[first][0], sentence.tokens[last][1]
            if any(start < right and left < end for left, right, _ in sentence.entities):
                break
            tokens = [sentence.text[a:b] for a, b in sentence.tokens[first : last + 1]]
            if capitalised and tokens[0][:1].isupper() and tokens[-1][:1].isupper():
                yield start, end
            if not capitalised and all(t.isalpha() and t.islower() and len(t) > 3 for t in tokens):
                yield start, end


def _demonstration(text: str, span: tuple[int, int, str], size: ContextSize) -> Demonstration:
    start, end, class_id = span
    question = render_context(text, [(0, len(text))], index=0, span=(start, end), size=size)
    return Demonstration(question, class_id)


def _descending(row: npt.NDArray[np.float32], head: int) -> Iterator[int]:
    """Indices of a row from its greatest value down, equal ones by place; a cheap head first."""
    if head < len(row):
        bound = np.partition(row, len(row) - head)[len(row) - head]
        candidates = np.flatnonzero(row >= bound)
    else:
        candidates = np.arange(len(row))
    given = candidates[np.argsort(-row[candidates], kind="stable")]
    yield from given.tolist()
    rest = np.setdiff1d(np.argsort(-row, kind="stable"), given, assume_unique=True)
    yield from rest.tolist()


class _Words(NamedTuple):
    """The words of a text, as far as they tell two texts apart."""

    spaced: str
    """In small letters, a space before and after each."""

    squeezed: str
    """The same without spaces."""

    @classmethod
    def of(cls, text: str) -> "_Words":
        words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
        return cls(f" {' '.join(words)} " if words else "", "".join(words))

    def contain(self, other: "_Words") -> bool:
        """Whether another text stands in this one; no text stands in the empty one, or it in any.

        Corpora and pages divide words differently ("can't", "ca n't"), so a text of some length is
        looked for without its spaces.
        """
        if not other.squeezed:
            return False
        long_enough = len(other.squeezed) >= _SQUEEZED_LENGTH
        return other.spaced in self.spaced or (long_enough and other.squeezed in self.squeezed)
