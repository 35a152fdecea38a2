"""Sentences of the demo's world: templates filled with names and plain words."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from examples.demo.names import Name, NameSampler

LABELS = ("PER", "ORG", "LOC", "MISC")


class Entity(NamedTuple):
    """A labelled half-open span, in code points."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Passage:
    """Text with its entities, by position."""

    text: str
    entities: tuple[Entity, ...] = ()

    def shifted(self, offset: int) -> tuple[Entity, ...]:
        """Give the entities as they lie when the text begins at `offset`."""
        return tuple(Entity(e.start + offset, e.end + offset, e.label) for e in self.entities)


def join(passages: Iterable[Passage], separator: str) -> Passage:
    """Put passages behind one another."""
    parts: list[str] = []
    entities: list[Entity] = []
    offset = 0
    for passage in passages:
        parts.append(passage.text)
        entities.extend(passage.shifted(offset))
        offset += len(passage.text) + len(separator)
    return Passage(separator.join(parts), tuple(entities))


@dataclass(frozen=True)
class Templates:
    """Templates by use, then genre, and the plain words they may hold."""

    words: dict[str, tuple[str, ...]]
    by_use: dict[str, dict[str, tuple[str, ...]]]

    def of(self, use: str) -> tuple[str, ...]:
        """List all templates of a use, over its genres."""
        return tuple(line for lines in self.by_use[use].values() for line in lines)


@cache
def load_templates() -> Templates:
    """Read the templates that ship with the demo.

    One training template in eight is set apart as the use `dev`, so that models are selected on
    sentences of another make than those they learn from.
    """
    source = Path(__file__).with_name("templates.yaml")
    tree = yaml.safe_load(source.read_text(encoding="utf-8"))
    words = {
        slot: tuple(w.strip() for w in listed.split(",")) for slot, listed in tree["words"].items()
    }
    by_use: dict[str, dict[str, tuple[str, ...]]] = {
        use: {genre: tuple(lines.splitlines()) for genre, lines in genres.items()}
        for use, genres in tree.items()
        if use != "words"
    }
    train = by_use["train"]
    by_use["dev"] = {genre: lines[5::8] for genre, lines in train.items()}
    by_use["train"] = {
        genre: tuple(line for place, line in enumerate(lines) if place % 8 != 5)
        for genre, lines in train.items()
    }
    return Templates(words, by_use)


_SLOT = re.compile(r"\{(\w+)(?::([\w|]+))?\}")
_NO_SPACE_BEFORE = frozenset([",", ".", ";", ":", "?", "!", ")", "'s", "..."])


@dataclass
class SentenceMaker:
    """Fills templates with the names a split may show.

    Attributes:
        sampler: Where names come from.
        rng: Source of randomness.
    """

    sampler: NameSampler
    rng: np.random.Generator
    _words: dict[str, tuple[str, ...]] = field(default_factory=lambda: load_templates().words)

    def fill(self, template: str) -> Passage:
        """Write one sentence after a template, spaced as prose is.

        The same name is not drawn twice for one sentence.
        """
        text = ""
        entities: list[Entity] = []
        quotes = 0
        for piece in template.split(" "):
            quotes += piece == '"'
            closes_quote = piece == '"' and quotes % 2 == 0
            inside_opening = text.endswith("(") or (text.endswith('"') and quotes % 2 == 1)
            if text and not (piece in _NO_SPACE_BEFORE or closes_quote or inside_opening):
                text += " "
            text = self._append(text, piece, entities)
        return Passage(text, tuple(entities))

    def _append(self, text: str, piece: str, entities: list[Entity]) -> str:
        """Add the filling of one piece of a template, with the article it needs."""
        slot = _SLOT.fullmatch(piece)
        if slot is None:
            return text + piece
        label, kinds = slot[1], slot[2]
        if label not in LABELS:
            word = self._word(label)
            return _with_article(text, word) + word
        used = {text[e.start : e.end] for e in entities}
        name = self._name(label, kinds.split("|") if kinds else [], used=used)
        if name.article:
            text += "the " if text else "The "
        text = _with_article(text, name.text)
        entities.append(Entity(len(text), len(text) + len(name.text), label))
        return text + name.text

    def _name(self, label: str, kinds: list[str], *, used: set[str]) -> Name:
        while (name := self.sampler.draw(label, kinds, self.rng)).text in used:
            pass
        return name

    def _word(self, slot: str) -> str:
        if slot in self._words:
            return self._pick(self._words[slot])
        small, large = int(self.rng.integers(2, 40)), int(self.rng.integers(2, 900))
        written = {
            "n": f"{small}",
            "big": f"{large},{small * 20:03d}",
            "year": f"{1900 + large % 125}",
            "percent": self._pick(
                (f"{small}%", f"{small}.{large % 10} percent", f"{small} percent")
            ),
            "price": self._pick(
                (
                    f"${large}",
                    f"{large} euros",
                    f"\u20ac{large}.99",
                    f"${small}.{large % 10} million",
                )
            ),
            "score": f"{small % 6}-{large % 5}",
            "time": self._pick(
                (f"{small % 12 + 1}:30 pm", f"{small % 24:02d}:15", f"{small % 12 + 1} am")
            ),
        }
        return written[slot]

    def _pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def stream(self, templates: tuple[str, ...]) -> Iterator[Passage]:
        """Fill templates without end, each as often as any other, in a new order every round."""
        while True:
            for place in self.rng.permutation(len(templates)):
                yield self.fill(templates[int(place)])


def _with_article(text: str, following: str) -> str:
    """Write `an` for `a` before a vowel."""
    if following[0] in "AEIOUaeiou" and re.search(r"(?<!\w)[Aa] $", text):
        return text[:-1] + "n "
    return text
