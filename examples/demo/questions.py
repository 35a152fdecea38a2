"""What the demo's LLM learns from: questions as production asks them, with the right answers."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from examples.demo.names import Split, load_gazetteer, read_names
from examples.demo.sentences import Entity, Passage, SentenceMaker, join, load_templates
from examples.demo.tokens import tokenize
from linkner_ray.labels import NON_ENTITY
from linkner_ray.llm.context import ContextSize, Question, render_context

CONTEXT = ContextSize(sentences=0, chars=2000)
MAX_WIDTH = 4
"""Tokens of the widest span of plain words that is asked about."""

ENTITY_SHARE = 0.65
"""Share of questions whose span is an entity with its right boundaries."""

NOISY_SHARE = 0.5
REPLACED_SHARE = 0.25
"""Share of noisy questions with words replaced, and of their words that are."""

NUM_HEADINGS = 50
NUM_NAME_LISTS = 110

_BULLETS = ("- ", "* ", "\u2022 ", "\u00b7 ")


@dataclass(frozen=True)
class Exercise:
    """A question and the class of its span: a label id, or `labels.NON_ENTITY`."""

    question: Question
    class_id: str


def stream_exercises(
    uses: tuple[str, ...], *, seed: int, noisy: bool = False
) -> Iterator[Exercise]:
    """Ask without end about spans of new sentences, each template as often as any other.

    Args:
        uses: Uses of templates to fill; `pages` is for evaluation only.
        seed: Decides everything.
        noisy: Whether to replace words at random and to add lists of names and headings of common
            words, so that a model learns more than how the templates go.
    """
    rng = np.random.default_rng([seed, 7])
    templates = load_templates()
    lines = tuple(line for use in uses for line in templates.of(use))
    if noisy:
        lines += _name_lists() + _headings(rng)
    maker = SentenceMaker(load_gazetteer(seed).upto(Split.PAGES), rng)
    sentences = maker.stream(lines)
    noise = _Noise(lines, rng) if noisy else None
    while True:
        passage = _disguise(next(sentences), sentences, rng)
        if noise and rng.random() < NOISY_SHARE:
            passage = noise.replace_words(passage)
        wants_entity = rng.random() < ENTITY_SHARE
        span = _entity(passage, rng) if wants_entity else _non_entity(passage, rng)
        if span is not None:
            start, end, class_id = span
            yield Exercise(ask(passage.text, (start, end)), class_id)


class _Noise:
    """Replaces words that belong to no name by others."""

    def __init__(self, templates: Sequence[str], rng: np.random.Generator) -> None:
        words = {w for line in templates for w in line.split() if w.isalpha() and w.islower()}
        self._words = sorted(words.union(load_templates().words["common"]))
        self._rng = rng

    def replace_words(self, passage: Passage) -> Passage:
        """Replace each lower-case word by chance; entities move with the text."""
        text, entities, place = "", [], 0
        for entity in (*passage.entities, None):
            end = entity.start if entity else len(passage.text)
            text += re.sub(r"\b[a-z]{2,}\b", self._replacement, passage.text[place:end])
            if entity:
                name = passage.text[entity.start : entity.end]
                entities.append(Entity(len(text), len(text) + len(name), entity.label))
                text += name
                place = entity.end
        return Passage(text, tuple(entities))

    def _replacement(self, match: re.Match[str]) -> str:
        if self._rng.random() >= REPLACED_SHARE:
            return match[0]
        return self._words[int(self._rng.integers(len(self._words)))]


def _name_lists() -> tuple[str, ...]:
    """Templates that list names of one kind and say nothing of them, more for larger kinds."""
    sizes = Counter(f"{{{name.label}:{name.kind}}}" for name in read_names())
    total = sum(sizes.values())
    forms = ("{0}", "{0} , {0}", "{0} | {0} | {0}")
    return tuple(
        forms[place % len(forms)].format(slot)
        for slot, size in sizes.items()
        for place in range(1 + NUM_NAME_LISTS * size // total)
    )


def _headings(rng: np.random.Generator) -> tuple[str, ...]:
    """Headings of common words, each with a capital, none of them a name."""
    words = load_templates().words["common"]
    return tuple(
        " ".join(words[int(i)].capitalize() for i in rng.integers(len(words), size=size))
        for size in rng.integers(1, 7, size=NUM_HEADINGS)
    )


def ask(text: str, span: tuple[int, int]) -> Question:
    """Ask about a span of a sentence with no more context than the sentence."""
    return render_context(
        text,
        [(0, len(text))],
        index=0,
        span=span,
        size=CONTEXT,
    )


def _disguise(sentence: Passage, others: Iterator[Passage], rng: np.random.Generator) -> Passage:
    """Give a sentence some of the forms it takes on a page: list item, heading, one of two."""
    chance = rng.random()
    if chance < 0.08:
        bullet = _BULLETS[int(rng.integers(len(_BULLETS)))]
        return Passage(bullet + sentence.text, sentence.shifted(len(bullet)))
    if chance < 0.16:
        return Passage(sentence.text.removesuffix("."), sentence.entities)
    if chance < 0.24:
        return join((sentence, next(others)), " ")
    if chance < 0.32:
        return Passage(sentence.text.replace("'", "\u2019"), sentence.entities)
    return sentence


Labelled = tuple[int, int, str]
"""Start, end and class of a span."""


def _entity(passage: Passage, rng: np.random.Generator) -> Labelled | None:
    if not passage.entities:
        return None
    start, end, label = passage.entities[int(rng.integers(len(passage.entities)))]
    return (start, end, label)


def _non_entity(passage: Passage, rng: np.random.Generator) -> Labelled | None:
    """Choose a span that is no entity: wrong boundaries of one, or plain words."""
    tokens = tokenize(passage.text)
    gold = {(entity.start, entity.end) for entity in passage.entities}
    spans = _near_misses(passage, tokens) if rng.random() < 0.4 else []
    spans = [span for span in spans if span not in gold]
    if not spans:
        spans = _plain_spans(passage, tokens, capitalised=rng.random() < 0.6)
    if not spans:
        return None
    return (*spans[int(rng.integers(len(spans)))], NON_ENTITY)


def _near_misses(passage: Passage, tokens: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """List spans that share one boundary with an entity and miss the other by a token."""
    starts = [start for start, _ in tokens]
    ends = [end for _, end in tokens]
    spans = []
    for start, end, _ in passage.entities:
        if start not in starts or end not in ends:
            continue  # "Serie A. The": the tokenizer takes "A." for an initial
        first, last = starts.index(start), ends.index(end)
        for a, b in ((first - 1, last), (first + 1, last), (first, last - 1), (first, last + 1)):
            if 0 <= a <= b < len(tokens):
                spans.append((starts[a], ends[b]))
    return spans


def _plain_spans(
    passage: Passage, tokens: list[tuple[int, int]], *, capitalised: bool
) -> list[tuple[int, int]]:
    """List spans that touch no entity, where asked for only those that begin like a name."""
    inside = np.zeros(len(passage.text) + 1, dtype=bool)
    for entity in passage.entities:
        inside[entity.start : entity.end] = True
    spans = [
        (tokens[first][0], tokens[last][1])
        for first in range(len(tokens))
        for last in range(first, min(first + MAX_WIDTH, len(tokens)))
        if not inside[tokens[first][0] : tokens[last][1]].any()
    ]
    named = [span for span in spans if passage.text[span[0]].isupper()]
    return named if capitalised and named else spans
