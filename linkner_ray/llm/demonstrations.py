"""Which solved questions an LLM is shown: some of every class, or those about spans like its own.

They come from a labelled corpus. None is taken from a sentence that contains the sentence asked
about, so a corpus that overlaps the input gives no answer away.

Everything is decided by digests of a seed and a place in the corpus: a question gets the same
demonstrations in every unit, process and run.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from linkner_ray.labels import NON_ENTITY
from linkner_ray.llm.context import AskedSpan, ContextSize, Question, render_context
from linkner_ray.llm.prompts import Demonstration
from linkner_ray.llm.span_vectors import SpanPool, SpanVectors

_SQUEEZED_LENGTH = 20
"""Characters from which a sentence is found inside another however both are divided into words;
shorter ones are compared by whole words."""

_SPARE_NEIGHBOURS = 8
"""Spans looked at at first beyond those wanted, as some share a sentence with a nearer one."""


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

    def choose(self, asked: Sequence[AskedSpan]) -> list[Shown]:
        """Choose for each question."""
        ...


class Embedder(Protocol):
    """Turns spans into vectors whose inner products are similarities."""

    def __call__(self, questions: Sequence[Question]) -> SpanVectors:
        """Vectors of each question's span in its context."""
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

    @property
    def usual(self) -> tuple[Demonstration, ...]:
        """What is shown unless one of them contains the sentence asked about."""
        return tuple(self._render(place) for place in self._usual)

    def choose(self, asked: Sequence[AskedSpan]) -> list[Shown]:
        """Choose for each question."""
        sentences = [one.sentence for one in asked]
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
    """The labelled spans most like the one asked about, the nearest last.

    They are the entities of the corpus and one non-entity of each sentence. How alike two are is
    the mean of two cosines: that of the spans, and that of their sentences. Search is exact. No
    question is shown two spans of one sentence.

    Args:
        corpus: Where they come from.
        embed: Gives the vectors; asked once for the corpus, then once a table.
        count: How many a question gets.
        seed: Decides the non-entities.
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
        self._pool: list[tuple[Demonstration, _Words]] = []
        seen = set()
        for index, sentence in enumerate(corpus):
            words = _Words.of(sentence.text)
            if words.squeezed in seen:
                continue
            seen.add(words.squeezed)
            spans = [*sentence.entities, *non_entity_spans(sentence, seed=seed, index=index)]
            self._pool += [(_demonstration(sentence.text, span, size), words) for span in spans]
        self._spans = SpanPool(embed([demonstration.question for demonstration, _ in self._pool]))

    def choose(self, asked: Sequence[AskedSpan]) -> list[Shown]:
        """Choose for each question."""
        vectors = self._embed([one.question for one in asked])
        ranked = self._spans.ranked(vectors, self._count + _SPARE_NEIGHBOURS)
        return [Shown(near=self._nearest(*pair)) for pair in zip(asked, ranked, strict=True)]

    def _nearest(self, asked: AskedSpan, ranked: Iterator[int]) -> tuple[Demonstration, ...]:
        own, used = _Words.of(asked.sentence), set()
        chosen: list[Demonstration] = []
        for index in ranked:
            demonstration, words = self._pool[index]
            if words.squeezed in used or words.contain(own):
                continue
            used.add(words.squeezed)
            chosen.append(demonstration)
            if len(chosen) == self._count:
                break
        return tuple(reversed(chosen))


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


def digest(*parts: object) -> bytes:
    """Eight bytes that stand for values: sorting by them shuffles alike with every library."""
    return hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=8).digest()
