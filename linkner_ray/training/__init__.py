"""Training a SpanNER on Ray Train: any number of workers, resumable, selected on dev."""

from linkner_ray.training.job import train
from linkner_ray.training.reports import EpochReport, TrainingResult

__all__ = ["EpochReport", "TrainingResult", "train"]
