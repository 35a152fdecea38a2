"""The local model as a stage: sentences in, candidates out."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch

from linkner_ray.config import RecognizeConfig
from linkner_ray.labels import LabelSet
from linkner_ray.schemas import CANDIDATE, STAGE_COLUMNS, make_lists, offsets_of
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.predict import Recognizer
from linkner_ray.spanner.self_check import load_recognizer
from linkner_ray.spanner.span_table import CandidateTable
from linkner_ray.stages.document_tokens import DocumentTokens


class RecognizeSpans:
    """`text`, `sentences` -> `candidates`: what the model calls an entity, and its near misses.

    No candidate reaches over a lone bar. A document without sentences has no candidates;
    `candidates` is null where the model computes NaN or an infinity for a span. Words are encoded
    here, unless `EncodeWords` has added `subwords` before. Sentences share
    forward passes as `recognize.batch_scope` says, which moves the last digits of probabilities and
    nothing else.

    Args:
        config: What to estimate, which near misses to keep, and how to batch.
        model: A loaded model; None to load `config.checkpoint` and check it by its self-check.

    Attributes:
        recognizer: The model at work.

    Raises:
        ConfigError: If there is no such checkpoint, or the config does not suit it.
        StartupError: If the checkpoint is incomplete or damaged, or does not answer here as it did
            where it was trained.
    """

    reads: ClassVar[tuple[str, ...]] = ("text", "sentences")
    adds: ClassVar[tuple[str, ...]] = ("candidates",)

    def __init__(self, config: RecognizeConfig, model: SpanNER | None = None) -> None:
        if config.num_threads > 0:
            torch.set_num_threads(config.num_threads)
        self.by_document = config.batch_scope == "document"
        self.recognizer = load_recognizer(config) if model is None else Recognizer(model, config)

    @property
    def label_set(self) -> LabelSet:
        """Labels of the model; `label_probs` follows its classes."""
        return self.recognizer.model.label_set

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add `candidates`, by sentence, then position."""
        places = DocumentTokens(batch)
        tokens = places.table()
        if self.by_document:
            table = self.recognizer.candidates_by_document(tokens, places.first_sentence.tolist())
        else:
            table = self.recognizer.candidates(tokens)
        return batch.append_column("candidates", _column(table, places, self.label_set))


def _column(table: CandidateTable, places: DocumentTokens, label_set: LabelSet) -> pa.ListArray:
    """Candidates as the declared column; token positions become code points here."""
    spans = table.spans
    first_token = places.first_token[spans.sentence]
    document = np.searchsorted(places.first_sentence, spans.sentence, side="right") - 1
    num_spans, num_classes = spans.probs.shape
    probs = make_lists(
        pa.array(spans.probs.reshape(-1), pa.float32()),
        np.arange(num_spans + 1) * num_classes,
    )
    columns = {
        "sentence": spans.sentence - places.first_sentence[document],
        "start": places.starts[first_token + spans.start_token],
        "end": places.ends[first_token + spans.end_token - 1],
        "label": pa.array(label_set.classes).take(pa.array(spans.label)),
        "label_probs": probs,
        "uncertainty": spans.uncertainty,
        "kind": pa.array(["near_miss", "predicted"]).take(pa.array(table.predicted.astype(int))),
    }
    candidates = pa.StructArray.from_arrays(
        [pa.array(columns[field.name], field.type) for field in CANDIDATE], fields=list(CANDIDATE)
    )
    counts = np.bincount(document, minlength=len(places.first_sentence) - 1)
    column = make_lists(candidates, offsets_of(counts), STAGE_COLUMNS["candidates"])
    if not len(table.not_finite):
        return column
    broken = np.searchsorted(places.first_sentence, table.not_finite, side="right") - 1
    rows = np.arange(len(column))
    return column.take(pa.array(rows, mask=np.isin(rows, broken)))
