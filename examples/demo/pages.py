"""Pages of the demo's crawl: titles, navigation, paragraphs, lists, typos, hostile lines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from examples.demo.names import Gazetteer, Split
from examples.demo.sentences import Entity, Passage, SentenceMaker, join, load_templates

TYPO_SHARE = 0.006
"""Share of plain words of six letters or more in which two letters change places."""

CURLY_SHARE = 0.5
"""Share of pages that write quotation marks and apostrophes as books do."""

PROSE = ("news", "sports", "business", "travel", "science", "culture", "gossip")
"""Genres that fill paragraphs."""


@dataclass(frozen=True)
class Page:
    """One document of the crawl: its URL, and its text with its gold entities."""

    address: str
    passage: Passage


class PageMaker:
    """Writes pages of the sentences and names that no training split shows all of."""

    def __init__(self, gazetteer: Gazetteer, rng: np.random.Generator) -> None:
        templates = load_templates()
        maker = SentenceMaker(gazetteer.upto(Split.PAGES), rng)
        self._rng = rng
        self._streams = {
            genre: maker.stream(lines) for genre, lines in templates.by_use["pages"].items()
        }
        self._furniture = templates.by_use["furniture"]

    def write(self, number: int, *, hostile: bool = False) -> Page:
        """Write the page of a running number.

        Args:
            number: Becomes part of the address.
            hostile: Whether to strew in lines that try to take over a language model.
        """
        genre = PROSE[int(self._rng.integers(len(PROSE)))]
        blocks = [self._head(genre)]
        for _ in range(int(self._rng.integers(2, 5))):
            blocks.append(self._paragraph(genre))
            if hostile:
                blocks.append(self._line("hostile"))
        blocks.append(self._listing())
        blocks.append(self._line("footer"))
        text = _misspell(join(blocks, "\n\n"), self._rng)
        if self._rng.random() < CURLY_SHARE:
            text = _curl(text)
        return Page(f"https://demo.example/{genre}/{number:05d}.html", text)

    def _take(self, genre: str) -> Passage:
        return next(self._streams[genre])

    def _line(self, kind: str) -> Passage:
        lines = self._furniture[kind]
        return Passage(lines[int(self._rng.integers(len(lines)))])

    def _head(self, genre: str) -> Passage:
        title = self._take(genre)
        return join([self._line("nav"), _untitled(title), self._take("lists")], "\n")

    def _paragraph(self, genre: str) -> Passage:
        genres = [genre] * int(self._rng.integers(2, 5))
        genres += [("plain", "forum", "products")[int(self._rng.integers(3))]]
        order = self._rng.permutation(len(genres))
        return join([_closed(self._take(genres[i])) for i in order], " ")

    def _listing(self) -> Passage:
        items: Iterator[Passage] = (
            self._take(("lists", "products", "plain")[int(self._rng.integers(3))])
            for _ in range(int(self._rng.integers(3, 6)))
        )
        bullet = ("- ", "* ", "\u2022 ", "")[int(self._rng.integers(4))]
        bulleted = [Passage(bullet + item.text, item.shifted(len(bullet))) for item in items]
        return join([self._line("heads"), *bulleted], "\n")


def _untitled(sentence: Passage) -> Passage:
    """Drop the full stop, as headings do."""
    return Passage(sentence.text.removesuffix("."), sentence.entities)


def _closed(sentence: Passage) -> Passage:
    """Add a full stop where prose needs one."""
    if sentence.text[-1] in '.?!"':
        return sentence
    return Passage(sentence.text + ".", sentence.entities)


def _misspell(page: Passage, rng: np.random.Generator) -> Passage:
    """Swap two inner letters of a few plain words; names and lengths stay as they are."""
    inside = np.zeros(len(page.text), dtype=bool)
    for entity in page.entities:
        inside[entity.start : entity.end] = True
    letters = list(page.text)
    for match in re.finditer(r"[a-z]{6,}", page.text):
        swap = match.start() + 2
        if rng.random() < TYPO_SHARE and not inside[match.start()]:
            letters[swap], letters[swap + 1] = letters[swap + 1], letters[swap]
    return Passage("".join(letters), page.entities)


def _curl(page: Passage) -> Passage:
    """Write straight quotation marks and apostrophes as curly ones."""
    text = re.sub(r'(?<!\S)"', "\u201c", page.text).replace('"', "\u201d").replace("'", "\u2019")
    return Passage(text, tuple(Entity(*entity) for entity in page.entities))
