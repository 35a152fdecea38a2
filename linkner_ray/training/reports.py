"""How far a training is, and what it leaves behind."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from linkner_ray.spanner.calibration.temperature import Calibration

STATE = "training_state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """One epoch of training.

    Attributes:
        epoch: From 1.
        loss: Mean over steps and ranks.
        f1: Strict entity F1 on dev, all gold counted; `precision` and `recall` likewise.
        steps: Optimizer steps of the epoch.
        seconds: Time of those steps.
    """

    epoch: int
    loss: float
    f1: float
    precision: float
    recall: float
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a finished training leaves behind.

    Attributes:
        checkpoint: Folder of the finished checkpoint.
        run_name: Name under `output.storage`; training again under it resumes.
        best: Report of the published epoch.
        epochs: Reports of all epochs, over restarts.
        calibration: What was fitted on dev.
        train_sentences: Sentences read; `dev_sentences` likewise.
        train_unreachable: Gold entities wider than `model.max_width`; `dev_unreachable` likewise.
    """

    checkpoint: str
    run_name: str
    best: EpochReport
    epochs: tuple[EpochReport, ...]
    calibration: Calibration
    train_sentences: int
    dev_sentences: int
    train_unreachable: int
    dev_unreachable: int

    @property
    def steps(self) -> int:
        """Optimizer steps of all epochs."""
        return sum(report.steps for report in self.epochs)

    @property
    def seconds_per_step(self) -> float:
        """Mean time of a step, data and optimizer included, evaluation not."""
        return sum(report.seconds for report in self.epochs) / max(1, self.steps)

    def summary(self) -> str:
        """A few lines for the end of a job's output."""
        best = self.best
        rows = {
            "checkpoint": self.checkpoint,
            "run": self.run_name,
            "dev F1": f"{best.f1:.4f} (P {best.precision:.4f}, R {best.recall:.4f}), before "
            "calibration; `linkner evaluate` scores the calibrated model",
            "epoch": f"{best.epoch} of {len(self.epochs)}",
            "temperature": f"{self.calibration.temperature:.3f}",
            "sentences": f"{self.train_sentences:,} train, {self.dev_sentences:,} dev",
            "unreachable": f"{self.train_unreachable:,} train, {self.dev_unreachable:,} dev",
            "steps": f"{self.steps:,} at {self.seconds_per_step:.3f} s",
        }
        return "\n".join(f"{name:<14} {value}" for name, value in rows.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """How far a run is; lies beside the weights in each epoch's checkpoint."""

    reports: tuple[EpochReport, ...] = ()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.reports)

    @property
    def stale_epochs(self) -> int:
        """Epochs since the best dev F1."""
        scores = [report.f1 for report in self.reports]
        return len(scores) - 1 - scores.index(max(scores)) if scores else 0

    def write(self, folder: Path) -> None:
        """Store the state in an epoch's folder."""
        tree = [asdict(report) for report in self.reports]
        (folder / STATE).write_text(json.dumps(tree, indent=2), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the state of an epoch's folder."""
        tree = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return cls(reports=tuple(EpochReport(**report) for report in tree))
