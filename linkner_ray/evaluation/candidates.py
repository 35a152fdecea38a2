"""Figures of the local model's candidates: recall, calibration, detection of its errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.evaluation.detection import (
    BoolArray,
    ErrorDetection,
    FloatArray,
    detect_errors,
    risk_coverage,
)
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
    """Predicted candidates of one label."""

    ece: float
    """Expected calibration error, bins of equal mass."""

    brier: float
    detection: ErrorDetection
    """How well uncertainty tells wrong ones from right ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFigures(LabelFigures):
    """Figures of the candidates of one labelled set; calibration is of the predicted ones.

    Right is a predicted candidate whose boundaries and label are those of a gold entity.

    Attributes:
        num_predicted: Candidates the local model calls entities.
        num_near_misses: The other candidates.
        candidate_recall: Share of gold entities whose boundaries a candidate has, in [0, 1].
        candidate_recall_predicted: The same with predicted candidates only.
        bins: Reliability diagram.
        by_label: Calibration and detection by predicted label.
        risk_coverage: Coverage and risk, each at up to `CURVE_POINTS` places.
    """

    num_predicted: int
    num_near_misses: int
    candidate_recall: float
    candidate_recall_predicted: float
    bins: tuple[ReliabilityBin, ...]
    by_label: Mapping[str, LabelFigures]
    risk_coverage: tuple[tuple[float, float], ...]

    @property
    def extra_share(self) -> float:
        """Near misses for each predicted one."""
        return self.num_near_misses / max(1, self.num_predicted)


def judge_candidates(candidates: pa.ChunkedArray, gold: Gold) -> CandidateFigures:
    """Hold candidates, a row a document, against all gold of the same documents."""
    lists = candidates.combine_chunks()
    flat = lists.flatten()
    label_of = {(r, e[0], e[1]): e[2] for r, row in enumerate(gold) for e in row}
    documents = pc.list_parent_indices(lists).to_pylist()
    starts, ends = (pc.struct_field(flat, name).to_pylist() for name in ("start", "end"))
    places = list(zip(documents, starts, ends, strict=True))
    labels = pc.struct_field(flat, "label").to_pylist()
    is_predicted = _predicted(flat)
    rows = np.flatnonzero(is_predicted)
    right = np.array([label_of.get(places[row]) == labels[row] for row in rows], dtype=np.bool_)
    confidence = [max(probs[1:]) for probs in pc.struct_field(flat, "label_probs").to_pylist()]
    stated = np.array(confidence, dtype=np.float64)[rows]
    unsure = _uncertainty(flat)[rows]
    predicted = np.array(labels, dtype=object)[rows]
    num_gold = max(1, len(label_of))
    whole = _label_figures(stated, unsure, right)
    return CandidateFigures(
        num_predicted=len(rows),
        num_near_misses=len(places) - len(rows),
        candidate_recall=len(label_of.keys() & set(places)) / num_gold,
        candidate_recall_predicted=sum(places[row] in label_of for row in rows) / num_gold,
        ece=whole.ece,
        brier=whole.brier,
        detection=whole.detection,
        bins=tuple(reliability_bins(stated, right)),
        by_label={
            label: _label_figures(stated[own], unsure[own], right[own])
            for label in sorted(set(predicted))
            for own in [predicted == label]
        },
        risk_coverage=_sample_curve(*risk_coverage(unsure, right)),
    )


def _label_figures(stated: FloatArray, unsure: FloatArray, right: BoolArray) -> LabelFigures:
    return LabelFigures(
        ece=expected_calibration_error(stated, right),
        brier=brier_score(stated, right),
        detection=detect_errors(unsure, right),
    )


def _sample_curve(coverage: FloatArray, risk: FloatArray) -> tuple[tuple[float, float], ...]:
    """A curve at no more than `CURVE_POINTS` places, its last one among them."""
    if not len(coverage):
        return ()
    places = np.unique(np.linspace(0, len(coverage) - 1, CURVE_POINTS).round().astype(int))
    return tuple(zip(coverage[places].tolist(), risk[places].tolist(), strict=True))


def uncertainties(table: pa.Table) -> FloatArray:
    """Uncertainty of every candidate, document after document. Shape (N,)."""
    return _uncertainty(table["candidates"].combine_chunks().flatten())


def predicted_uncertainty(candidates: pa.ChunkedArray) -> FloatArray:
    """The same of the predicted ones in a column `candidates`."""
    flat = candidates.combine_chunks().flatten()
    return _uncertainty(flat)[_predicted(flat)]


def _predicted(flat: pa.StructArray) -> BoolArray:
    kinds = pc.equal(pc.struct_field(flat, "kind"), "predicted")
    return np.asarray(kinds.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _uncertainty(flat: pa.StructArray) -> FloatArray:
    values = pc.struct_field(flat, "uncertainty").to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)
