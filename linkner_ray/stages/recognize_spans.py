"""The local model as a stage: sentences in, candidates out."""

from itertools import pairwise
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from linkner_ray.config import RecognizeConfig
from linkner_ray.labels import LabelSet
from linkner_ray.schemas import CANDIDATE, STAGE_COLUMNS, list_offsets, make_lists, offsets_of
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.predict import Recognizer
from linkner_ray.spanner.self_check import load_recognizer
from linkner_ray.spanner.span_table import CandidateTable, IntArray
from linkner_ray.stages.words import fields_of


class RecognizeSpans:
    """`text`, `sentences` -> `candidates`: what the model calls an entity, and its near misses.

    No candidate reaches over a lone bar. A document without sentences has no candidates;
    `candidates` is null where the model computes NaN or an infinity for a span. Sentences share
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
        tokens = _Tokens(batch)
        sentences, fields = tokens.sentences(), tokens.fields()
        if self.by_document:
            bounds = tokens.of_document.tolist()
            table = self.recognizer.candidates_by_document(sentences, bounds, fields)
        else:
            table = self.recognizer.candidates(sentences, fields)
        return batch.append_column("candidates", _column(table, tokens, self.label_set))


class _Tokens:
    """The tokens of a table of documents in flat columns.

    Attributes:
        starts: Code point in its document at which each token begins.
        ends: Code point after its last.
        of_sentence: First token of each sentence, then the number of all tokens.
        of_document: First sentence of each document, then the number of all sentences.
    """

    def __init__(self, batch: pa.Table) -> None:
        self._texts = batch["text"].to_pylist()
        documents = batch["sentences"].combine_chunks()
        self.of_document = list_offsets(documents)
        lists = pc.struct_field(documents.flatten(), "tokens")
        self.of_sentence = list_offsets(lists)
        tokens = lists.flatten()
        self.starts, self.ends = (
            pc.struct_field(tokens, name).to_numpy(zero_copy_only=False).astype(np.int64)
            for name in ("start", "end")
        )

    def sentences(self) -> list[list[str]]:
        """The words of each sentence."""
        of_sentence, of_document = self.of_sentence.tolist(), self.of_document.tolist()
        words: list[list[str]] = []
        for document, text in enumerate(self._texts):
            for sentence in range(of_document[document], of_document[document + 1]):
                places = slice(of_sentence[sentence], of_sentence[sentence + 1])
                starts, ends = self.starts[places].tolist(), self.ends[places].tolist()
                words.append([text[s:e] for s, e in zip(starts, ends, strict=True)])
        return words

    def fields(self) -> IntArray:
        """The field, between lone bars, in which each token of all sentences stands."""
        of_document = self.of_sentence[self.of_document].tolist()
        numbers = [
            fields_of(text, self.starts[first:end])
            for text, (first, end) in zip(self._texts, pairwise(of_document), strict=True)
        ]
        return np.concatenate([*numbers, np.zeros(0, np.int64)])


def _column(table: CandidateTable, tokens: _Tokens, label_set: LabelSet) -> pa.ListArray:
    """Candidates as the declared column; token positions become code points here."""
    spans = table.spans
    first_token = tokens.of_sentence[spans.sentence]
    document = np.searchsorted(tokens.of_document, spans.sentence, side="right") - 1
    num_spans, num_classes = spans.probs.shape
    probs = make_lists(
        pa.array(spans.probs.reshape(-1), pa.float32()), offsets_of([num_classes] * num_spans)
    )
    columns = {
        "sentence": spans.sentence - tokens.of_document[document],
        "start": tokens.starts[first_token + spans.start_token],
        "end": tokens.ends[first_token + spans.end_token - 1],
        "label": pa.array(label_set.classes).take(pa.array(spans.label)),
        "label_probs": probs,
        "uncertainty": spans.uncertainty,
        "kind": np.where(table.predicted, "predicted", "near_miss"),
    }
    candidates = pa.StructArray.from_arrays(
        [pa.array(columns[field.name], field.type) for field in CANDIDATE], fields=list(CANDIDATE)
    )
    counts = np.bincount(document, minlength=len(tokens.of_document) - 1)
    column = make_lists(candidates, offsets_of(counts), STAGE_COLUMNS["candidates"])
    if not len(table.not_finite):
        return column
    broken = np.searchsorted(tokens.of_document, table.not_finite, side="right") - 1
    rows = np.arange(len(column))
    return column.take(pa.array(rows, mask=np.isin(rows, broken)))
