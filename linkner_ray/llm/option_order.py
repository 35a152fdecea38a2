"""In which order the options of a question stand.

Models favour positions, whatever stands there. A run may leave the order as it is, spread the
favour over the corpus, or ask each question in several orders and average the answers.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")

OrderKind = Literal["fixed", "shuffled", "rotations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionOrder:
    """How the options of the questions of a run are ordered.

    An engine caches what prompts begin with, so a run has a handful of orders and not one for each
    question. They are rotations of one another, by steps as even as they can be, so that every
    option stands at as many different positions as there are orders.
    """

    kind: OrderKind = "fixed"
    """fixed: as the label set has them, non-entity last. shuffled: each question in one of `count`
    orders, which its words decide. rotations: each question in all of them."""

    count: int = 1
    """Number of orders; at most one for each option."""

    seed: int = 0
    """Decides the orders of `shuffled`, and which question gets which."""

    def arrange(self, items: Sequence[T]) -> tuple[tuple[T, ...], ...]:
        """Give the items in each order; the first of `fixed` and `rotations` is their own."""
        items = tuple(items)
        if self.kind == "fixed":
            return (items,)
        if self.kind == "shuffled":
            places = sorted(range(len(items)), key=lambda place: digest(self.seed, place))
            items = tuple(items[place] for place in places)
        count = min(self.count, len(items))
        shifts = (turn * len(items) // count for turn in range(count))
        return tuple(items[shift:] + items[:shift] for shift in shifts)

    def choose(self, words: str, count: int) -> int:
        """Index of the order, out of `count`, in which a shuffled question is asked."""
        return int.from_bytes(digest(self.seed, words), "big") % count


def digest(*parts: object) -> bytes:
    """Eight bytes that stand for values: sorting by them shuffles alike with every library."""
    return hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=8).digest()
