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
"""Decimals of a similarity that count: the rest depends on what else was in the batch."""

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


def similarities(asked: SpanVectors, pool: SpanVectors) -> Iterator[npt.NDArray[np.float32]]:
    """How like a span each span of a pool is, for one asked span after the other.

    Yields:
        The cosine of the spans plus that of their sentences, rounded. Overwritten by a later one.
            Shape (pool,).
    """
    block = max(1, _SCORES_AT_ONCE // max(1, len(pool.spans)))
    scores = np.empty((min(block, len(asked.spans)), len(pool.spans)), dtype=np.float32)
    for first in range(0, len(asked.spans), block):
        spans = asked.spans[first : first + block]
        own, place_of = np.unique(asked.sentence_of[first : first + block], return_inverse=True)
        sentence_scores = np.empty((len(own), len(pool.sentences)), dtype=np.float32)
        _multiply(spans, pool.spans, out=scores[: len(spans)])
        _multiply(asked.sentences[own], pool.sentences, out=sentence_scores)
        for row, place in zip(scores, place_of, strict=False):
            row += sentence_scores[place].take(pool.sentence_of)
            yield row.round(_SIMILARITY_DIGITS, out=row)


def best_first(row: npt.NDArray[np.float32], head: int) -> Iterator[int]:
    """Indices of a row from its greatest value down, equal ones by place.

    Only as many are sorted as are taken: at least `head` at first, then eight times as many.
    """
    given = 0
    while given < len(row):
        candidates = np.arange(len(row))
        if head < len(row):
            # `head` parts of the row have a greatest value of at least the bound.
            parts = row[: len(row) // _PARTS * _PARTS].reshape(-1, _PARTS)
            greatest = parts.max(axis=0) if len(parts) and head < _PARTS else row
            candidates = np.flatnonzero(row >= np.partition(greatest, -head)[-head])
        order = candidates[np.argsort(-row[candidates], kind="stable")]
        yield from order[given:].tolist()
        given, head = len(order), 8 * max(head, len(order))


def _multiply(
    one: npt.NDArray[np.float32],
    other: npt.NDArray[np.float32],
    *,
    out: npt.NDArray[np.float32],
) -> None:
    """Inner products of all pairs of rows, by torch: numpy's wheels take 1.6 times as long."""
    import torch

    torch.mm(torch.from_numpy(one), torch.from_numpy(other).T, out=torch.from_numpy(out))
