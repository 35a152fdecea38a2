"""What the local model's candidates are worth: recall, calibration, detection of its own errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.evaluation.detection import ErrorDetection, detect_errors, risk_coverage
from linkner_ray.spanner.calibration.reliability import (
    ReliabilityBin,
    brier_score,
    expected_calibration_error,
    reliability_bins,
)

Gold = Sequence[Sequence[tuple[int, int, str]]]
"""Start, end and label of each entity, document by document."""


CURVE_POINTS = 200
"""Places at which a curve is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """Predicted candidates of one label.

    Attributes:
        ece: Expected calibration error, bins of equal mass.
        brier: Brier score.
        detection: How well uncertainty tells wrong ones from right ones.
    """

    ece: float
    brier: float
    detection: ErrorDetection


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFigures:
    """Figures of the candidates of one labelled set.

    Right is a predicted candidate whose boundaries and label are those of a gold entity.

    Attributes:
        num_predicted: Candidates the local model calls entities.
        num_near_misses: Candidates that lost, and are candidates all the same.
        candidate_recall: Share of gold entities whose boundaries a candidate has, in [0, 1].
        candidate_recall_predicted: The same with predicted candidates only.
        ece: Expected calibration error of predicted candidates, bins of equal mass.
        brier: Brier score of the same.
        detection: How well uncertainty tells wrong predicted candidates from right ones.
        bins: Reliability diagram of the predicted candidates.
        by_label: Calibration and detection by predicted label.
        risk_coverage: Coverage and risk, each at up to `CURVE_POINTS` places.
    """

    num_predicted: int
    num_near_misses: int
    candidate_recall: float
    candidate_recall_predicted: float
    ece: float
    brier: float
    detection: ErrorDetection
    bins: tuple[ReliabilityBin, ...]
    by_label: Mapping[str, LabelFigures]
    risk_coverage: tuple[tuple[float, float], ...]

    @property
    def extra_share(self) -> float:
        """Near misses for each predicted one."""
        return self.num_near_misses / max(1, self.num_predicted)


def judge_candidates(candidates: pa.ChunkedArray, gold: Gold) -> CandidateFigures:
    """Hold candidates against gold.

    Args:
        candidates: Column `candidates` of the stages, a row a document.
        gold: Of the same documents, all of it.
    """
    label_of = [{(start, end): label for start, end, label in one} for one in gold]
    reached: set[tuple[int, int, int]] = set()
    reached_predicted = 0
    label_of_row: list[str] = []
    confidence: list[float] = []
    uncertainty: list[float] = []
    correct: list[bool] = []
    num_near_misses = 0
    for row, (found, labels) in enumerate(zip(candidates.to_pylist(), label_of, strict=True)):
        for one in found:
            place = (one["start"], one["end"])
            if place in labels:
                reached.add((row, *place))
            if one["kind"] == "near_miss":
                num_near_misses += 1
                continue
            reached_predicted += place in labels
            label_of_row.append(one["label"])
            confidence.append(max(one["label_probs"][1:]))
            uncertainty.append(one["uncertainty"])
            correct.append(labels.get(place) == one["label"])
    stated, right = np.array(confidence), np.array(correct, dtype=np.bool_)
    unsure = np.array(uncertainty, dtype=np.float64)
    predicted = np.array(label_of_row, dtype=object)
    num_gold = max(1, sum(map(len, label_of)))
    return CandidateFigures(
        num_predicted=len(right),
        num_near_misses=num_near_misses,
        candidate_recall=len(reached) / num_gold,
        candidate_recall_predicted=reached_predicted / num_gold,
        ece=expected_calibration_error(stated, right),
        brier=brier_score(stated, right),
        detection=detect_errors(unsure, right),
        bins=tuple(reliability_bins(stated, right)),
        by_label={
            label: _label_figures(stated[rows], unsure[rows], right[rows])
            for label in sorted(set(label_of_row))
            for rows in [predicted == label]
        },
        risk_coverage=_sample_curve(*risk_coverage(unsure, right)),
    )


def _label_figures(
    stated: NDArray[np.float64], unsure: NDArray[np.float64], right: NDArray[np.bool_]
) -> LabelFigures:
    return LabelFigures(
        ece=expected_calibration_error(stated, right),
        brier=brier_score(stated, right),
        detection=detect_errors(unsure, right),
    )


def _sample_curve(
    coverage: NDArray[np.float64], risk: NDArray[np.float64]
) -> tuple[tuple[float, float], ...]:
    """A curve at no more than `CURVE_POINTS` places, its last one among them."""
    if not len(coverage):
        return ()
    places = np.unique(np.linspace(0, len(coverage) - 1, CURVE_POINTS).round().astype(int))
    return tuple(zip(coverage[places].tolist(), risk[places].tolist(), strict=True))


def predicted_uncertainty(candidates: pa.ChunkedArray) -> NDArray[np.float64]:
    """Uncertainty of every predicted candidate, document after document. Shape (N,)."""
    flat = candidates.combine_chunks().flatten()
    is_predicted = pc.equal(pc.struct_field(flat, "kind"), "predicted")
    values = pc.struct_field(flat, "uncertainty").filter(is_predicted)
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
