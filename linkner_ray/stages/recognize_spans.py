"""The local model as a stage: sentences in, candidates out."""

import re
from itertools import chain, pairwise
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
from linkner_ray.spanner.span_table import CandidateTable
from linkner_ray.spanner.tokens import IntArray, TokenTable, runs

_LONE_BAR = re.compile(r"(?<!\S)\|(?!\S)")
_LAST_ASCII = 0x7F
_NO_BYTES = np.zeros(0, np.uint8)
_NO_NUMBERS = np.zeros(0, np.int64)


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
        places = _Places(batch)
        tokens = places.table()
        if self.by_document:
            table = self.recognizer.candidates_by_document(tokens, places.first_sentence.tolist())
        else:
            table = self.recognizer.candidates(tokens)
        return batch.append_column("candidates", _column(table, places, self.label_set))


class _Places:
    """Where the tokens of a table of documents stand.

    Attributes:
        starts: Code point in its document at which each token begins.
        ends: Code point after its last.
        first_token: Of each sentence, then the number of all tokens.
        first_sentence: Of each document, then the number of all sentences.
    """

    def __init__(self, batch: pa.Table) -> None:
        self._texts = batch["text"]
        documents = batch["sentences"].combine_chunks()
        self.first_sentence = list_offsets(documents)
        lists = pc.struct_field(documents.flatten(), "tokens")
        self.first_token = list_offsets(lists)
        tokens = lists.flatten()
        self.starts, self.ends = (
            pc.struct_field(tokens, name).to_numpy(zero_copy_only=False).astype(np.int64)
            for name in ("start", "end")
        )

    def table(self) -> TokenTable:
        """The sentences; a lone bar stands between two fields."""
        letters, lengths, fields = [_NO_BYTES], [_NO_NUMBERS], [_NO_NUMBERS]
        bounds = self.first_token[self.first_sentence].tolist()
        for text, (first, end) in zip(self._texts, pairwise(bounds), strict=True):
            starts, ends = self.starts[first:end], self.ends[first:end]
            content = np.frombuffer(text.as_buffer(), np.uint8)
            is_bar = (content == ord("|")).any()
            fields.append(fields_of(text.as_py(), starts) if is_bar else np.zeros_like(starts))
            if content.max(initial=0) > _LAST_ASCII:
                begins = np.append(np.flatnonzero(content & 0xC0 != 0x80), len(content))
                starts, ends = begins[starts], begins[ends]
            lengths.append(ends - starts)
            letters.append(content[runs(starts, lengths[-1])])
        offsets = offsets_of(np.concatenate(lengths))
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.concatenate(letters))]
        words = pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)
        numbered = words.dictionary_encode()
        return TokenTable(
            words=numbered.dictionary.to_pylist(),
            word=numbered.indices.to_numpy(),
            first=self.first_token,
            fields=np.concatenate(fields).astype(np.int32),
        )


def fields_of(text: str, starts: IntArray) -> IntArray:
    """Number of the field in which each token stands; lone bars, as in menus, stand between fields.

    Args:
        text: Any text.
        starts: First code points of its tokens, by position. Shape (T,).

    Returns:
        Shape (T,); two tokens are in one field if their numbers are equal. A bar is one of its own.
    """
    borders = chain.from_iterable(map(re.Match.span, _LONE_BAR.finditer(text)))
    return np.searchsorted(np.fromiter(borders, np.int64), starts, side="right")


def _column(table: CandidateTable, places: _Places, label_set: LabelSet) -> pa.ListArray:
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
