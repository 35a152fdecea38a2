"""Names of the demo's world, and which of them each split may show.

The local model is trained on some names only, as any model is: a seeded hash of the name decides.
Names that two labels share stand in the same split under both.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from examples.demo.tokens import tokenize

AMBIGUOUS_WEIGHT = 3
"""How much more often a name of several labels is drawn than another."""

SURNAME_SHARE = 0.3
"""Share of mentions of a person by surname alone, where the name has two words."""


class Split(IntEnum):
    """The first split in which a name appears; later ones show it too."""

    TRAIN = 0
    DEV = 1
    PAGES = 2


_SHARES = {Split.TRAIN: 0.66, Split.DEV: 0.08, Split.PAGES: 0.26}
"""Share of the hash range of each split, before names that contain a held-out name follow it."""


class Name(NamedTuple):
    """One name under one of its labels."""

    text: str
    label: str
    kind: str
    """Finer than the label, such as `city`."""

    article: bool
    """Whether prose puts "the" before it, which is no part of the name."""


@dataclass(frozen=True)
class Gazetteer:
    """All names, and the split each belongs to.

    Attributes:
        names: Every name under every label it can have.
        splits: Name, or surname used alone, to the first split that shows it.
        ambiguous: Names listed under more than one label.
    """

    names: tuple[Name, ...]
    splits: dict[str, Split]
    ambiguous: frozenset[str]

    def upto(self, split: Split) -> "NameSampler":
        """Sample from the names that a split may show."""
        return NameSampler(self, split)

    def held_out(self) -> frozenset[str]:
        """Names and surnames that the training split never shows."""
        return frozenset(name for name, split in self.splits.items() if split > Split.TRAIN)


class NameSampler:
    """Draws names of a label, optionally of some kinds, that a split may show."""

    def __init__(self, gazetteer: Gazetteer, split: Split) -> None:
        self._splits = gazetteer.splits
        self._split = split
        self._names: list[Name] = []
        for name in gazetteer.names:
            if self._splits[name.text] <= split:
                weight = AMBIGUOUS_WEIGHT if name.text in gazetteer.ambiguous else 1
                self._names.extend([name] * weight)
        self._pools: dict[tuple[str, ...], list[Name]] = {}

    def draw(self, label: str, kinds: Sequence[str], rng: np.random.Generator) -> Name:
        """Draw a name, or a person by surname alone.

        Args:
            label: Label id.
            kinds: Kinds to draw from; none for all of the label.
            rng: Source of randomness.
        """
        pool = self._pool(label, kinds)
        name = pool[int(rng.integers(len(pool)))]
        surname = surname_of(name)
        if surname and rng.random() < SURNAME_SHARE and self._splits[surname] <= self._split:
            return name._replace(text=surname)
        return name

    def _pool(self, label: str, kinds: Sequence[str]) -> list[Name]:
        key = (label, *kinds)
        if key not in self._pools:
            self._pools[key] = [
                name
                for name in self._names
                if name.label == label and (not kinds or name.kind in kinds)
            ]
        return self._pools[key]


def surname_of(name: Name) -> str | None:
    """Give the last word of a person's name of two words, None for any other name."""
    words = name.text.split()
    return words[1] if name.kind == "person" and len(words) == 2 else None


@cache
def read_names() -> tuple[Name, ...]:
    """Read the names that ship with the demo."""
    source = Path(__file__).with_name("names.yaml")
    tree: dict[str, dict[str, str]] = yaml.safe_load(source.read_text(encoding="utf-8"))
    return tuple(
        Name(text.strip().removeprefix("the "), label, kind, text.strip().startswith("the "))
        for label, kinds in tree.items()
        for kind, listed in kinds.items()
        for text in listed.split(",")
    )


@cache
def load_gazetteer(seed: int) -> Gazetteer:
    """Assign every name to a split.

    A name that contains a held-out name in a row of its words is held out as well, so that no
    training sentence shows the held-out name even inside a longer one. A surname belongs to the
    first split with a name that contains it.

    Args:
        seed: Another seed holds out other names.
    """
    names = read_names()
    labels: dict[str, set[str]] = defaultdict(set)
    for name in names:
        labels[name.text].add(name.label)
    own = {text: _hashed_split(text, seed) for text in labels}
    splits = {text: max(own[part] for part in _parts(text) if part in own) for text in own}
    surnames = {surname for name in names if (surname := surname_of(name))} - own.keys()
    for text, split in tuple(splits.items()):
        for part in surnames.intersection(_parts(text)):
            splits[part] = min(splits.get(part, Split.PAGES), split)
    ambiguous = frozenset(text for text, found in labels.items() if len(found) > 1)
    return Gazetteer(names, splits, ambiguous)


def _hashed_split(text: str, seed: int) -> Split:
    digest = hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest) / 2**64
    for split in (Split.TRAIN, Split.DEV):
        if share < _SHARES[split]:
            return split
        share -= _SHARES[split]
    return Split.PAGES


def _parts(text: str) -> list[str]:
    """Every run of neighbouring tokens of a name, as written, the whole name included."""
    tokens = tokenize(text)
    return [
        text[tokens[first][0] : tokens[last][1]]
        for first in range(len(tokens))
        for last in range(first, len(tokens))
    ]
