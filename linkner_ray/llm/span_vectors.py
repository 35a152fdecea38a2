"""Spans as vectors, and which of many are most like one.

The vectors are an encoder's: means of its last hidden states over the span, and over its sentence.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from linkner_ray.llm.context import Question
from linkner_ray.spanner.checkpoint import ENCODER_CONFIG

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from linkner_ray.spanner.bert import Bert

_MAX_SUBWORDS = 256
"""Subwords around a span that decide its vectors; of a longer context the rest is left out."""

_BATCH_SIZE = 32

_CONTEXTS_AT_ONCE = 1024
"""Contexts divided into subwords at once, to bound memory."""

_SIMILARITY_DIGITS = 4
"""Decimals of a similarity that count: the rest depends on what else was read in the batch."""

_ROUNDING = 10.0**-_SIMILARITY_DIGITS
"""More than rounding moves a similarity."""

_BFLOAT16_ERROR = 0.006
"""By which a similarity whose spans were multiplied in bfloat16 is off, at most: both vectors and
their product are rounded by a part in 512 each."""

_FLOAT32_ERROR = 1e-5
"""The same in float32."""

_SCORES_AT_ONCE = 2**25
"""Similarities computed at once, to bound memory."""

_PARTS = 1024
"""Parts of a row of similarities whose greatest values bound what is sorted."""


class SpanVectors(NamedTuple):
    """Spans and the sentences they stand in, as vectors of length 1.

    Attributes:
        spans: Shape (spans, width).
        sentences: Each once, however many of the spans stand in it. Shape (sentences, width).
        sentence_of: Row in `sentences` of each span.
    """

    spans: npt.NDArray[np.float32]
    sentences: npt.NDArray[np.float32]
    sentence_of: npt.NDArray[np.intp]


def is_checkpoint(encoder: str) -> bool:
    """Whether the name of an encoder is a checkpoint's folder."""
    return (Path(encoder) / ENCODER_CONFIG).is_file()


class SpanEmbedder:
    """Means of an encoder's last hidden states over a span and over its context.

    Args:
        encoder: As `spanner.encoders.load_encoder` takes it, or a checkpoint's folder.

    Raises:
        ConfigError: If it cannot be loaded.
        StartupError: If it is a checkpoint that is incomplete or damaged.
    """

    def __init__(self, encoder: str) -> None:
        from linkner_ray.spanner.encoders import load_encoder, longest_input
        from linkner_ray.spanner.model import SpanNER

        model: PreTrainedModel | Bert
        if is_checkpoint(encoder):
            spanner = SpanNER.from_pretrained(encoder)
            model, self._tokenizer = spanner.encoder, spanner.featurizer.subwords.tokenizer
        else:
            model, self._tokenizer = load_encoder(encoder)
        self._model = model.train(mode=False)
        self._tokenizer.no_padding()
        longest = min(_MAX_SUBWORDS, longest_input(model) or _MAX_SUBWORDS)
        self._tokenizer.enable_truncation(longest, stride=longest // 2)

    def __call__(self, questions: Sequence[Question]) -> SpanVectors:
        """Vectors of each question's span in its context."""
        windows = self._windows(questions)
        order = sorted(range(len(windows)), key=lambda index: len(windows[index].ids))
        width = self._model.config.hidden_size
        spans = np.zeros((len(questions), width), dtype=np.float32)
        sentences = np.zeros((len(windows), width), dtype=np.float32)
        sentence_of = np.zeros(len(questions), dtype=np.intp)
        for first in range(0, len(order), _BATCH_SIZE):
            places = order[first : first + _BATCH_SIZE]
            batch = self._states([windows[place].ids for place in places])
            for place, states in zip(places, batch, strict=True):
                window = windows[place]
                sentences[place] = _mean(states)
                for index, subwords in window.spans:
                    spans[index] = _mean(states[subwords]) if subwords else sentences[place]
                    sentence_of[index] = place
        return SpanVectors(spans, sentences, sentence_of)

    def _windows(self, questions: Sequence[Question]) -> "list[_Window]":
        """What is to be read for the questions: each context once, of a long one a part."""
        asked: dict[str, list[int]] = {}
        for index, question in enumerate(questions):
            asked.setdefault(question.context, []).append(index)
        contexts, found = list(asked), []
        for first in range(0, len(contexts), _CONTEXTS_AT_ONCE):
            block = contexts[first : first + _CONTEXTS_AT_ONCE]
            for context, encoding in zip(block, self._tokenizer.encode_batch(block), strict=True):
                encodings = (encoding, *encoding.overflowing)
                windows = [_Window(encoding.ids, []) for encoding in encodings]
                offsets = [encoding.offsets for encoding in encodings]
                for index in asked[context]:
                    number, subwords = _find(questions[index], offsets)
                    windows[number].spans.append((index, subwords))
                found += [window for window in windows if window.spans]
        return found

    def _states(self, rows: Sequence[Sequence[int]]) -> "list[Tensor]":
        """Last hidden states of every row, without padding."""
        import torch

        longest = max(map(len, rows))
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return [states[place, : len(row)] for place, row in enumerate(rows)]


class _Window(NamedTuple):
    """Subwords that are read at once, and the spans in them.

    Attributes:
        ids: Of the subwords.
        spans: Index of each question, and which subwords are its span.
    """

    ids: list[int]
    spans: list[tuple[int, list[int]]]


def _find(
    question: Question, windows: Sequence[Sequence[tuple[int, int]]]
) -> tuple[int, list[int]]:
    """Which window has the most subwords of a question's span, and which of its own they are."""
    _, start, end = question
    inside = [
        [place for place, (left, right) in enumerate(window) if left < end and start < right]
        for window in windows
    ]
    number = max(range(len(inside)), key=lambda number: len(inside[number]))
    return number, inside[number]


def _mean(states: "Tensor") -> npt.NDArray[np.float32]:
    """Scaled to length 1. Shape (width,)."""
    mean: npt.NDArray[np.float32] = states.mean(dim=0).numpy()
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


class SpanPool:
    """Labelled spans, and which of them are most like others.

    How alike two are is the cosine of the spans plus that of their sentences, rounded. Search is
    exact: products of few bits, where the CPU has them, say who may be near, and only these are
    compared as exactly as the rounding needs.

    Args:
        vectors: Of the spans of the pool.
    """

    def __init__(self, vectors: SpanVectors) -> None:
        import torch

        found = torch.cpu.get_capabilities()
        is_native = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
        self._dtype = torch.bfloat16 if is_native else torch.float32
        self._error = _BFLOAT16_ERROR if is_native else _FLOAT32_ERROR
        self._vectors = vectors
        self._spans = torch.from_numpy(vectors.spans).to(self._dtype).T
        self._sentences = torch.from_numpy(vectors.sentences).T

    def ranked(self, asked: SpanVectors, head: int) -> Iterator[Iterator[int]]:
        """Places in the pool from the most like one down, for one asked span after the other.

        Equal ones come by place. Only as many are compared as are taken: `head` at first.
        """
        block = max(1, _SCORES_AT_ONCE // max(1, len(self._vectors.spans)))
        for first in range(0, len(asked.spans), block):
            rows = range(first, min(first + block, len(asked.spans)))
            for row, rough in zip(rows, self._rough(asked, rows), strict=True):
                yield self._best_first(asked, row, rough, head)

    def _rough(self, asked: SpanVectors, rows: range) -> Iterator[npt.NDArray[np.float32]]:
        """How alike, within `_error`. Shape (pool,)."""
        import torch

        block = slice(rows.start, rows.stop)
        own, place_of = np.unique(asked.sentence_of[block], return_inverse=True)
        spans = torch.mm(torch.from_numpy(asked.spans[block]).to(self._dtype), self._spans)
        sentences = torch.mm(torch.from_numpy(asked.sentences[own]), self._sentences).numpy()
        for scores, place in zip(spans, place_of, strict=True):
            yield scores.float().numpy() + sentences[place].take(self._vectors.sentence_of)

    def _best_first(
        self, asked: SpanVectors, row: int, rough: npt.NDArray[np.float32], head: int
    ) -> Iterator[int]:
        given = 0
        while given < len(rough):
            places, out_of_reach = np.arange(len(rough)), -np.inf
            if head < len(rough):
                # Whatever is left out is less like the span than `head` others.
                out_of_reach = _least_of_head(rough, head) - self._error - 2 * _ROUNDING
                places = np.flatnonzero(rough >= out_of_reach - self._error)
            exact = self._exact(asked, row, places)
            order = np.argsort(-exact, kind="stable")
            if head < len(rough):
                order = order[exact[order] > out_of_reach + _ROUNDING]
            yield from places[order[given:]].tolist()
            given, head = len(order), 8 * max(head, len(order))

    def _exact(
        self, asked: SpanVectors, row: int, places: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float64]:
        """How like an asked span those of the pool at some places are. Shape (places,)."""
        pool = self._vectors
        sentence = asked.sentences[asked.sentence_of[row]].astype(np.float64)
        spans = pool.spans[places] @ asked.spans[row].astype(np.float64)
        own, place_of = np.unique(pool.sentence_of[places], return_inverse=True)
        found: npt.NDArray[np.float64] = spans + (pool.sentences[own] @ sentence)[place_of]
        return found.round(_SIMILARITY_DIGITS)


def _least_of_head(row: npt.NDArray[np.float32], head: int) -> float:
    """A bound that at least `head` values of a row reach: the greatest values of parts of it."""
    parts = row[: len(row) // _PARTS * _PARTS].reshape(-1, _PARTS)
    greatest = parts.max(axis=0) if len(parts) and head < _PARTS else row
    return float(np.partition(greatest, -head)[-head])
