"""Whether training held a name and its words, kept as digests.

A model is as sure of an unseen name as of a seen one but more often wrong about it, so its
probabilities alone do not say how often it is right.

Letters: N spans, K digests, F features.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from linkner_ray.errors import StartupError

NOVELTY = "novelty.safetensors"

FEATURES = ("unseen form", "form seen under other labels only", "share of unseen words")

Digests = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoveltyFeatures:
    """Digests of what training held, each sorted, without case.

    Attributes:
        forms: Surface forms of its entities. Shape (K,).
        labelled_forms: The same, each with its label. Shape (K,).
        words: Tokens of its sentences. Shape (K,).
    """

    forms: Digests
    labelled_forms: Digests
    words: Digests

    @classmethod
    def of(cls, sentences: Iterable[tuple[Sequence[str], Iterable[tuple[int, int, str]]]]) -> Self:
        """Keep what some sentences hold.

        Args:
            sentences: Tokens, and start token, end token and label of each entity.
        """
        forms: set[str] = set()
        labelled: set[str] = set()
        words: set[str] = set()
        for tokens, entities in sentences:
            words.update(map(str.casefold, tokens))
            for start, end, label in entities:
                form = _form(tokens[start:end])
                forms.add(form)
                labelled.add(_with_label(form, label))
        return cls(
            forms=_sorted_digests(forms),
            labelled_forms=_sorted_digests(labelled),
            words=_sorted_digests(words),
        )

    def features(
        self, spans: Sequence[Sequence[str]], labels: Sequence[str]
    ) -> NDArray[np.float64]:
        """How novel spans, given as tokens, are under labels.

        Returns:
            `FEATURES` in their order, each in [0, 1]. Shape (N, F).
        """
        forms = [_form(tokens) for tokens in spans]
        seen = _contains(self.forms, forms)
        under_label = _contains(
            self.labelled_forms, [_with_label(*pair) for pair in zip(forms, labels, strict=True)]
        )
        counts = np.fromiter(map(len, spans), np.int64, len(spans))
        words = [token.casefold() for tokens in spans for token in tokens]
        row = np.repeat(np.arange(len(spans)), counts)
        strange = np.bincount(row, weights=~_contains(self.words, words), minlength=len(spans))
        return np.stack(
            [~seen, seen & ~under_label, strange / np.maximum(counts, 1)], axis=1
        ).astype(np.float64)

    def write(self, folder: Path) -> None:
        """Store the digests in a checkpoint's local folder."""
        save_file({f.name: getattr(self, f.name) for f in fields(self)}, folder / NOVELTY)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the digests of a checkpoint's local folder; None if it has none.

        Raises:
            StartupError: If they are damaged.
        """
        path = folder / NOVELTY
        if not path.is_file():
            return None
        try:
            return cls(**load_file(path))
        except (SafetensorError, TypeError) as error:
            raise StartupError(f"{path}: is damaged: {error}; restore the file") from error


def _form(tokens: Sequence[str]) -> str:
    return " ".join(tokens).casefold()


def _with_label(form: str, label: str) -> str:
    return f"{label}\x00{form}"


@lru_cache(maxsize=2**16)
def _digest(text: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


def _sorted_digests(texts: Iterable[str]) -> Digests:
    return np.array(sorted(set(map(_digest, texts))), dtype=np.uint64)


def _contains(digests: Digests, texts: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each text is among the digests. Shape (len(texts),)."""
    asked = np.fromiter(map(_digest, texts), np.uint64, len(texts))
    if not len(digests):
        return np.zeros(len(asked), dtype=np.bool_)
    places = np.searchsorted(digests, asked).clip(max=len(digests) - 1)
    found: NDArray[np.bool_] = digests[places] == asked
    return found
