"""When the units of a run were in which stage, and how busy that kept the actors.

Times are of the clocks of the nodes, which a cluster keeps together; what they are apart moves the
pictures by as much and the sums not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from linkner_ray.runs.folder import UnitResult

NUM_BINS = 120

POOLS = {
    "encoder": ("RecognizeSpans", "RecognizeWhenNeeded", "RouteSpans"),
    "llm": ("ClassifySpans",),
}
"""Stages that the actors of a pool are busy with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUse:
    """How busy the actors of a pool were."""

    actors: int
    busy_s: float
    """Seconds with at least one unit at work, summed over actors."""

    wall_s: float
    """From the first unit's beginning in any stage to the last one's end."""

    @property
    def share(self) -> float:
        """Busy seconds as a share of all seconds of all actors, in [0, 1]."""
        return self.busy_s / (self.actors * self.wall_s) if self.wall_s else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Units in each stage over the wall time of a run."""

    began: float
    """Unix time at which the first unit was begun."""

    seconds: float
    """Until the last unit was written."""

    units: Mapping[str, Sequence[float]]
    """Stage to the mean number of units at work in it, in bins of equal width."""

    pools: Mapping[str, PoolUse]


@dataclass(slots=True)
class _Stage:
    began: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Beginnings and ends."""
        began = np.asarray(self.began)
        return began, began + np.asarray(self.seconds)


def measure_timeline(
    unit_results: Iterable[UnitResult], actors: Mapping[str, int]
) -> Timeline | None:
    """Put the units of this run together; None where no unit has times, as those of earlier runs.

    A pool has at least the actors given for it, and more where more did something; one that is not
    named is left out.
    """
    stages: dict[str, _Stage] = {}
    for unit_result in unit_results:
        for name, began in unit_result.began.items():
            stage = stages.setdefault(name, _Stage())
            stage.began.append(began)
            stage.seconds.append(unit_result.seconds[name])
            stage.workers.append(unit_result.workers[name])
    if not stages:
        return None
    bounds = {name: stage.bounds for name, stage in stages.items()}
    first = float(min(began.min() for began, _ in bounds.values()))
    last = float(max(ends.max() for _, ends in bounds.values()))
    edges = np.linspace(first, last, NUM_BINS + 1)
    return Timeline(
        began=first,
        seconds=last - first,
        units={name: _units_at_work(*both, edges).tolist() for name, both in bounds.items()},
        pools={
            pool: _pool_use([stages[n] for n in POOLS[pool] if n in stages], least, last - first)
            for pool, least in actors.items()
        },
    )


def _units_at_work(began: np.ndarray, ends: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean number of intervals that cover a moment, in each bin."""
    width = edges[1:] - edges[:-1]
    spent = np.diff(_passed_since(began, edges) - _passed_since(ends, edges))
    return np.divide(spent, width, out=np.zeros_like(spent), where=width > 0).clip(min=0)


def _passed_since(moments: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Seconds since each moment that is past, summed over moments."""
    moments = np.sort(moments) - at[0]
    sums = np.concatenate([[0.0], np.cumsum(moments)])
    past = np.searchsorted(moments, at - at[0])
    return past * (at - at[0]) - sums[past]


def _pool_use(stages: Sequence[_Stage], least: int, wall_s: float) -> PoolUse:
    if not stages:
        return PoolUse(actors=least, busy_s=0.0, wall_s=wall_s)
    began, ends = (np.concatenate(parts) for parts in zip(*(s.bounds for s in stages), strict=True))
    workers = np.concatenate([np.asarray(stage.workers, dtype=np.int64) for stage in stages])
    order = np.lexsort((began, workers))
    borders = np.flatnonzero(np.diff(workers[order])) + 1
    busy = [_covered(began[own], ends[own]) for own in np.split(order, borders)]
    return PoolUse(actors=max(least, len(busy)), busy_s=sum(busy), wall_s=wall_s)


def _covered(began: np.ndarray, ends: np.ndarray) -> float:
    """Length of the union of intervals, given in the order of their beginnings."""
    known = np.concatenate([[-np.inf], np.maximum.accumulate(ends)[:-1]])
    return float(np.maximum(ends - np.maximum(began, known), 0.0).sum())
