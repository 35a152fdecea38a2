"""Thresholds of routing that dev chose: for a share asked, for an error left.

They lie in a checkpoint as `thresholds.json` and decide nothing until a config names one of them
(`routing.threshold_for`). As in routing, a candidate is asked about from its threshold up, and both
are compared as float32.

Letters: N candidates, M predicted ones.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from linkner_ray.config.local import parse_threshold_name
from linkner_ray.errors import ConfigError, DataError, StartupError

THRESHOLDS = "thresholds.json"

ASKED_PERCENT = (0, 1, 2, 5, 10, 20, 50, 100)
"""Shares of dev's candidates for which a threshold is kept, in percent."""

RISK_PERCENT = (1, 2, 5)
"""Shares of wrong ones among what stays local for which a threshold is kept, in percent."""

LEAST_PREDICTED = 100
"""Predicted entities below which no table is made: 1 % would be less than one of them."""

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateThresholds:
    """Of one estimate of uncertainty.

    Attributes:
        asked: Threshold by percentage of dev's candidates that it asks.
        risk: Threshold by percentage of wrong ones among predicted labels that stay local; None
            where even the surest are wrong more often.
    """

    asked: Mapping[int, float]
    risk: Mapping[int, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What dev chose, by estimate.

    Attributes:
        num_candidates: Of dev, near misses included.
        num_predicted: Of these, predicted ones.
        estimates: By name.
    """

    num_candidates: int
    num_predicted: int
    estimates: Mapping[str, EstimateThresholds]

    def write(self, folder: Path) -> None:
        """Store them in a checkpoint's local folder."""
        content = json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"
        (folder / THRESHOLDS).write_text(content, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read those of a checkpoint's local folder; None if it has none.

        Raises:
            StartupError: If the file is damaged.
        """
        path = folder / THRESHOLDS
        if not path.is_file():
            return None
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                num_candidates=int(tree["num_candidates"]),
                num_predicted=int(tree["num_predicted"]),
                estimates={name: _estimate(one) for name, one in tree["estimates"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StartupError(
                f"{path}: is damaged: {error}; run `linkner calibrate` on the checkpoint"
            ) from error

    def find(self, name: str, estimate: str) -> float:
        """The threshold of an estimate that a config names, such as "asked=5%" or "risk=2%".

        Raises:
            ConfigError: If there is none; says which there are.
        """
        known = self.estimates.get(estimate)
        if known is None:
            raise ConfigError(
                f"routing.threshold_for = '{name}': the checkpoint has no thresholds for the "
                f"estimate '{estimate}', only for {', '.join(self.estimates)}; set "
                "recognize.uncertainty to one of these"
            )
        kind, percent = parse_threshold_name(name)
        found = (known.asked if kind == "asked" else known.risk).get(percent)
        if found is None:
            there = [f"asked={percent}%" for percent in known.asked]
            there += [f"risk={percent}%" for percent, t in known.risk.items() if t is not None]
            raise ConfigError(
                f"routing.threshold_for = '{name}': dev gave no such threshold for the estimate "
                f"'{estimate}'; choose one of {', '.join(there)}"
            )
        return found


def choose_thresholds(
    uncertainty: Mapping[str, FloatArray], predicted: BoolArray, correct: BoolArray
) -> Thresholds:
    """Make the tables of every estimate; those of shares look at no gold.

    Args:
        uncertainty: Of every candidate, by estimate. Shape (N,) each.
        predicted: Whether a candidate is predicted. Shape (N,).
        correct: Whether a predicted candidate has gold's boundaries and label. Shape (N,).

    Raises:
        DataError: If fewer than `LEAST_PREDICTED` are predicted.
    """
    count = int(predicted.sum())
    if count < LEAST_PREDICTED:
        raise DataError(
            f"thresholds need at least {LEAST_PREDICTED} predicted entities, the set has {count}; "
            "give a larger labelled set"
        )
    return Thresholds(
        num_candidates=len(predicted),
        num_predicted=count,
        estimates={
            name: EstimateThresholds(
                asked={percent: _asking(values, percent) for percent in ASKED_PERCENT},
                risk={
                    percent: risk_threshold(values[predicted], correct[predicted], percent / 100)
                    for percent in RISK_PERCENT
                },
            )
            for name, values in uncertainty.items()
        },
    )


def risk_threshold(uncertainty: FloatArray, correct: BoolArray, risk: float) -> float | None:
    """The highest threshold below which no more than a share of predicted entities is wrong.

    Args:
        uncertainty: Of predicted entities. Shape (M,).
        correct: Shape (M,).
        risk: In [0, 1].

    Returns:
        None where even the surest are wrong more often.
    """
    order = np.argsort(uncertainty, kind="stable")
    values, wrong = uncertainty[order], np.cumsum(~correct[order])
    kept = np.arange(1, len(values) + 1)
    # Equal uncertainties stay local together.
    ends = np.flatnonzero(np.append(values[1:] > values[:-1], True))
    good = ends[wrong[ends] <= risk * kept[ends]]
    if not len(good):
        return None
    last = int(good[-1])
    return float(values[last + 1]) if last + 1 < len(values) else 1.0


def _asking(uncertainty: FloatArray, percent: int) -> float:
    """Uncertainty that a share of candidates reaches; 1 to ask none, 0 to ask all."""
    if percent in {0, 100}:
        return 1.0 - percent / 100
    ordered: Sequence[float] = np.sort(uncertainty).tolist()
    return ordered[len(ordered) - max(1, round(percent * len(ordered) / 100))]


def _estimate(tree: Mapping[str, Any]) -> EstimateThresholds:
    return EstimateThresholds(
        asked={int(percent): float(t) for percent, t in tree["asked"].items()},
        risk={int(p): None if t is None else float(t) for p, t in tree["risk"].items()},
    )
