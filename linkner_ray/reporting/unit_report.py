"""Seconds of the units of a run, summed up in a size that does not grow with their number."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KEPT_UNITS = 100
"""Slowest units that are named one by one."""

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitReport:
    """Size and seconds of one unit."""

    name: str
    source: str
    """Path of the shard."""

    documents: int
    characters: int
    seconds: Mapping[str, float]
    """By stage, in the order of the pipeline; empty if an earlier run did the unit."""

    @property
    def total_s(self) -> float:
        """Seconds in all stages."""
        return sum(self.seconds.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitsReport:
    """Seconds of all units."""

    count: int
    """Units of the output."""

    timed: int
    """Units that this run did; the figures below are of these."""

    timed_characters: int
    stage_seconds: Mapping[str, float]
    """Seconds of each stage, summed over units."""

    quantiles: Mapping[str, Mapping[str, float]]
    """Stage, or "all" together, to quantiles of the seconds of a unit."""

    slowest: Sequence[UnitReport]
    """Up to KEPT_UNITS, the slowest first."""


def report_units(units: Iterable[UnitReport]) -> UnitsReport:
    """Sum up units; only their seconds are held in memory."""
    count = characters = 0
    seconds: dict[str, list[float]] = {}
    totals: list[float] = []
    slowest: list[tuple[float, int, UnitReport]] = []
    for unit in units:
        count += 1
        if not unit.seconds:
            continue
        characters += unit.characters
        totals.append(unit.total_s)
        for stage, value in unit.seconds.items():
            seconds.setdefault(stage, []).append(value)
        keep = heapq.heappush if len(slowest) < KEPT_UNITS else heapq.heappushpop
        keep(slowest, (unit.total_s, -count, unit))
    columns = {"all": totals, **seconds} if totals else {}
    return UnitsReport(
        count=count,
        timed=len(totals),
        timed_characters=characters,
        stage_seconds={stage: sum(values) for stage, values in seconds.items()},
        quantiles={stage: _quantiles(values) for stage, values in columns.items()},
        slowest=[unit for *_, unit in sorted(slowest, key=lambda one: one[:2], reverse=True)],
    )


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    found = np.quantile(values, list(QUANTILES.values()))
    return dict(zip(QUANTILES, found.tolist(), strict=True))
