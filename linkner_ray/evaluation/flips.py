"""What asking changed, where gold is known: errors corrected, errors made, and the net benefit.

The local decision on a predicted candidate is its label, on a near miss non-entity; the final
decision is the entity of the same boundaries in the output, or non-entity. A decision is right if
gold has exactly that entity, or nothing with those boundaries. Corrected boundaries thus count
twice: the wrong span was dropped and the right one found.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import pyarrow as pa

from linkner_ray.corpora.scores import Entity, labels_by_place
from linkner_ray.labels import NON_ENTITY
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities

Z_95 = 1.959964
"""Normal quantile of a two-sided interval of 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Candidates that were asked about, by the local and the final decision."""

    wrong_to_right: int = 0
    right_to_wrong: int = 0
    stayed_right: int = 0
    stayed_wrong: int = 0

    def __add__(self, other: "Flips") -> "Flips":
        """Both together."""
        return Flips(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )

    @property
    def asked(self) -> int:
        """All of them."""
        return self.wrong_to_right + self.right_to_wrong + self.stayed_right + self.stayed_wrong

    @property
    def net_per_1000(self) -> float:
        """Decisions put right less those put wrong, for each 1,000 asked; 0 if none was."""
        net = self.wrong_to_right - self.right_to_wrong
        return 1000 * net / self.asked if self.asked else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of 95 % around `net_per_1000`, for spans that are drawn one by one."""
        low, high = net_interval(self.wrong_to_right, self.right_to_wrong, self.asked)
        return 1000 * low, 1000 * high


def net_interval(ups: int, downs: int, total: int, *, z: float = Z_95) -> tuple[float, float]:
    """Interval of the difference of two shares of the same trials, which exclude each other.

    Built from Wilson's interval of each share, so it does not collapse where nothing flipped.

    Args:
        ups: Trials counted as +1.
        downs: Trials counted as -1.
        total: All trials; the others count as 0.
        z: Normal quantile of the wanted confidence.

    Returns:
        Bounds in [-1, 1]; all of it for no trials.

    Reference:
        Newcombe (1998), Interval estimation for the difference between independent proportions;
        with the correlation of two shares of one sample as in Zou and Donner (2008).
    """
    if not total:
        return -1.0, 1.0
    up, down = ups / total, downs / total
    (up_low, up_high), (down_low, down_high) = (_wilson(n, total, z) for n in (ups, downs))
    spread = math.sqrt(up * (1 - up) * down * (1 - down))
    correlation = -up * down / spread if spread else 0.0
    below = _length(up - up_low, down_high - down, correlation)
    above = _length(up_high - up, down - down_low, correlation)
    return max(up - down - below, -1.0), min(up - down + above, 1.0)


def _wilson(count: int, total: int, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    share, part = count / total, z * z / total
    centre = (share + part / 2) / (1 + part)
    half = z / (1 + part) * math.sqrt(share * (1 - share) / total + part / (4 * total))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _length(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0))


class Decision(NamedTuple):
    """A candidate before and after asking, and what gold has there."""

    document: int
    candidate: Mapping[str, Any]
    local: str
    after: set[str]
    truth: set[str]

    @property
    def was_right(self) -> bool:
        """Whether the local decision is gold's."""
        return self.local in self.truth

    @property
    def is_right(self) -> bool:
        """Whether the final one is."""
        return self.after <= self.truth


def decisions(
    table: pa.Table, gold: Sequence[Collection[Entity]], *, route: str = "llm"
) -> Iterator[Decision]:
    """The candidates of a route, in documents after the last stage."""
    columns = (table[name].to_pylist() for name in ("candidates", "routes", "entities"))
    for document, (candidates, routes, entities, golden) in enumerate(
        zip(*columns, gold, strict=True)
    ):
        right = labels_by_place(golden)
        final = labels_by_place((e["start"], e["end"], e["label"]) for e in entities)
        for candidate, taken in zip(candidates, routes, strict=True):
            if taken == route:
                place = (candidate["start"], candidate["end"])
                yield Decision(
                    document=document,
                    candidate=candidate,
                    local=candidate["label"] if candidate["kind"] == "predicted" else NON_ENTITY,
                    after=final.get(place, {NON_ENTITY}),
                    truth=right.get(place, {NON_ENTITY}),
                )


def count_flips(
    table: pa.Table, gold: Sequence[Collection[Entity]], *, route: str = "llm"
) -> dict[str, Flips]:
    """Flips among the candidates of a route, by their local label, in alphabetical order."""
    counts = Counter(
        (one.candidate["label"], one.was_right, one.is_right)
        for one in decisions(table, gold, route=route)
    )
    return {
        label: Flips(
            wrong_to_right=counts[label, False, True],
            right_to_wrong=counts[label, True, False],
            stayed_right=counts[label, True, True],
            stayed_wrong=counts[label, False, False],
        )
        for label in sorted({label for label, _, _ in counts})
    }


def as_if_routed(table: pa.Table, fuse: FuseEntities) -> pa.Table:
    """Documents with the entities they would have if the answers to audits counted."""
    counted = [
        ["llm" if route == "audit" else route for route in row]
        for row in table["routes"].to_pylist()
    ]
    column = pa.array(counted, STAGE_COLUMNS["routes"])
    asked = table.drop_columns(["routes", "entities"]).append_column("routes", column)
    fused = apply_stage(fuse, asked)
    return fused.drop_columns(["routes"]).append_column("routes", table["routes"])


def with_total(flips: Mapping[str, Flips]) -> dict[str, Flips]:
    """Flips by label, and of "all"."""
    return {**flips, "all": sum(flips.values(), Flips())}
