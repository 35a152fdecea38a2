"""F1 of one labelled set by estimate and share of candidates that are asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from linkner_ray.config import StudyConfig
from linkner_ray.evaluation.curves import (
    answered_by_gold,
    curve,
    random_curve,
    thresholds_for,
    with_uncertainty,
)
from linkner_ray.evaluation.detection import FloatArray
from linkner_ray.evaluation.judge import Gold, Judge, Point
from linkner_ray.linking.judged import Candidates
from linkner_ray.linking.link import Link
from linkner_ray.stages.fuse_entities import FuseEntities

LLM, ORACLE = "llm", "oracle"
"""Who answers: the model of the config, or gold."""

LINK = "link"
"""In place of an estimate: the link says who is asked about, and decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemCurve:
    """One way to link, at every share; answers override, but under a link.

    Attributes:
        answers: `LLM` or `ORACLE`.
        estimate: Of uncertainty, which says who is asked about; or `LINK`.
        points: By wanted share of the set's candidates; a share for which answers are
            missing is left out.
        at_dev: At the threshold that dev chose; None where it chose none or answers are missing.
    """

    answers: str
    estimate: str
    points: Mapping[float, Point]
    at_dev: Point | None

    @property
    def name(self) -> str:
        """How tables and legends call it."""
        return LINK if self.estimate == LINK else f"{self.answers}, {self.estimate}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What asking gains on one set.

    Attributes:
        systems: The run's own estimate first.
        random: Mean F1 of random routers by share, for each of `LLM` and `ORACLE` that answers.
        llm_alone_f1: F1 where the LLM decides every candidate; None where not all were asked.
        llm_extraction_f1: F1 of what a recorded LLM extracted from the sentences; or None.
    """

    systems: tuple[SystemCurve, ...]
    random: Mapping[str, Mapping[float, float]]
    llm_alone_f1: float | None
    llm_extraction_f1: float | None = None


def study_set(  # noqa: PLR0913 - a set in its parts
    answered: pa.Table,
    gold: Gold,
    *,
    estimates: Mapping[str, FloatArray],
    dev_thresholds: Mapping[str, float],
    config: StudyConfig,
    classes: Sequence[str],
    link: Link | None,
    judge: Judge,
) -> Study:
    """Try every estimate, the run's own first, on the answers there are, null where none was asked.

    Only the oracle and the scores look at gold. The link of a run is a system of its own.
    """
    has_llm = any(answered["answers"].combine_chunks().flatten().is_valid().to_pylist())
    override = FuseEntities(classes)
    tables = {LLM: answered} if has_llm else {}
    tables[ORACLE] = answered_by_gold(answered, gold)
    systems = []
    for estimate, values in estimates.items():
        of_shares = thresholds_for(values, config.shares)
        thresholds: dict[float | None, float] = {share: of_shares[share] for share in of_shares}
        if estimate in dev_thresholds:
            thresholds[None] = dev_thresholds[estimate]
        for answers, table in tables.items():
            points = curve(with_uncertainty(table, values), thresholds, override, judge)
            systems.append(
                SystemCurve(
                    answers=answers,
                    estimate=estimate,
                    points={share: one for share, one in points.items() if share is not None},
                    at_dev=points.get(None),
                )
            )
    if link is not None and has_llm:
        systems.append(_linked_curve(answered, link, config.shares, judge))
    everything = curve(answered, {1.0: 0.0}, override, judge) if has_llm else {}
    return Study(
        systems=tuple(systems),
        random={
            who: random_curve(table, config.shares, override, judge, routers=config.random_routers)
            for who, table in tables.items()
        },
        llm_alone_f1=everything[1.0].f1 if everything else None,
    )


def _linked_curve(
    answered: pa.Table, link: Link, shares: Sequence[float], judge: Judge
) -> SystemCurve:
    """The system that asks in the order of expected gain: its rank stands for uncertainty."""
    value = link.value(Candidates.of(answered["candidates"].combine_chunks(), link.classes))
    rank = np.searchsorted(np.sort(value), value, side="right") / max(1, len(value))
    return SystemCurve(
        answers=LLM,
        estimate=LINK,
        points=curve(
            with_uncertainty(answered, rank),
            thresholds_for(rank, shares),
            FuseEntities(link.classes, link=link),
            judge,
        ),
        at_dev=None,
    )
