"""Sentences to tensors.

Letters: B windows of a batch, L subwords, T tokens, W widths, N windows of all sentences.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from linkner_ray.errors import ConfigError
from linkner_ray.spanner.morphology import NUM_MORPHOLOGY_CLASSES, morphology_classes
from linkner_ray.spanner.subwords import SpecialIds, SubwordEncoder
from linkner_ray.spanner.tokens import IntArray, Sentences, TokenTable, runs
from linkner_ray.spanner.windows import WindowLayout, cut_sentence

NO_MORPHOLOGY = NUM_MORPHOLOGY_CLASSES
"""Class of special tokens and padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Windows padded to one length.

    Attributes:
        input_ids: Subwords with special tokens. Shape (B, L).
        attention_mask: 1 for a subword, 0 for padding. Shape (B, L).
        subword_morphology: Class of the token each subword is part of. Shape (B, L).
        first: Position in L of each token's first subword. Shape (B, T).
        last: Position in L of each token's last subword. Shape (B, T).
        morphology: Class of each token. Shape (B, T).
        span_mask: Whether the batch answers for the span that starts at t and is w + 1 wide.
            Shape (B, T, W).
    """

    input_ids: Tensor
    attention_mask: Tensor
    subword_morphology: Tensor
    first: Tensor
    last: Tensor
    morphology: Tensor
    span_mask: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(**{f.name: moved(getattr(self, f.name), device) for f in fields(self)})


def moved(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; nothing waits for a GPU, which fetches them from pinned memory."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Runs of tokens that fit the encoder, by sentence, then position.

    Attributes:
        ids: Vocabulary ids of the subwords of all sentences. Shape (L,).
        first: First subword of each token of all sentences, then L. Shape (T + 1,).
        morphology: Class of each token. Shape (T,).
        sentence: Index of the sentence. Shape (N,).
        start_token: Position in the sentence of the window's first token. Shape (N,).
        start: Position among the tokens of all sentences of the same. Shape (N,).
        num_tokens: Shape (N,).
        lengths: Subwords, special tokens included. Shape (N,).
        owned: Which spans a window answers for, as in `windows.Window`; a window that is not here
            is the only one of its sentence and answers for all.
    """

    ids: IntArray
    first: IntArray
    morphology: IntArray
    sentence: IntArray
    start_token: IntArray
    start: IntArray
    num_tokens: IntArray
    lengths: IntArray
    owned: Mapping[int, NDArray[np.bool_]]


class Featurizer:
    """Turns sentences into windows and windows into batches.

    Args:
        tokenizer: Fast tokenizer of the encoder.
        special: Its ids that are not text.
        max_subwords: Longest window, special tokens included.
        window_overlap: Subwords that neighbouring windows share.
        max_width: Widest span in tokens.

    Raises:
        ConfigError: If the overlap leaves no room to move on.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        special: SpecialIds,
        *,
        max_subwords: int,
        window_overlap: int,
        max_width: int,
    ) -> None:
        capacity = max_subwords - special.count
        if window_overlap >= capacity:
            raise ConfigError(
                f"model.window_overlap = {window_overlap} leaves nothing new in a window of "
                f"{capacity} subwords; lower it or raise model.max_subwords"
            )
        self.special = special
        self.layout = WindowLayout(capacity=capacity, overlap=window_overlap, max_width=max_width)
        self.subwords = SubwordEncoder(tokenizer, special, max_token_subwords=capacity)

    def windows(self, sentences: Sentences) -> Windows:
        """Windows of all sentences; a sentence without tokens gives none."""
        tokens = TokenTable.of(sentences)
        subwords = tokens.subwords or self.subwords(tokens.words)
        counts = subwords.counts_of(tokens.word)
        before = np.concatenate([[0], np.cumsum(counts)])
        sentence = np.flatnonzero(np.diff(tokens.first))
        start, end = tokens.first[sentence], tokens.first[sentence + 1]
        is_long = before[end] - before[start] > self.layout.capacity
        cuts = [
            cut_sentence(counts[first:last], self.layout)
            for first, last in zip(start[is_long], end[is_long], strict=True)
        ]
        pieces = np.ones_like(sentence)
        pieces[is_long] = [len(cut) for cut in cuts]
        sentence, start, num_tokens = (
            np.repeat(column, pieces) for column in (sentence, start, end - start)
        )
        start_token = np.zeros_like(sentence)
        places = np.flatnonzero(np.repeat(is_long, pieces))
        cut = list(chain.from_iterable(cuts))
        start_token[places] = [window.start for window in cut]
        num_tokens[places] = [window.end - window.start for window in cut]
        start = start + start_token
        return Windows(
            ids=subwords.of(tokens.word),
            first=before,
            morphology=morphology_classes(tokens.words)[tokens.word],
            sentence=sentence,
            start_token=start_token,
            start=start,
            num_tokens=num_tokens,
            lengths=before[start + num_tokens] - before[start] + self.special.count,
            owned=dict(zip(places.tolist(), (window.owned for window in cut), strict=True)),
        )

    def collate(self, windows: Windows, rows: IntArray | None = None) -> Batch:
        """Pad windows to the longest one.

        Args:
            windows: The windows.
            rows: Which of them, in what order; None for all.
        """
        rows = np.arange(len(windows.sentence)) if rows is None else rows
        special, lengths, num_tokens = self.special, windows.lengths[rows], windows.num_tokens[rows]
        num_prefix, num_suffix = len(special.prefix), len(special.suffix)
        place = np.arange(lengths.max())
        is_read = place < lengths[:, None]  # (B, L)
        is_text = (place >= num_prefix) & (place < (lengths - num_suffix)[:, None])
        is_token = np.arange(num_tokens.max()) < num_tokens[:, None]  # (B, T)

        text = runs(windows.first[windows.start[rows]], lengths - self.special.count)
        token = runs(windows.start[rows], num_tokens)
        morphology = windows.morphology[token]
        begin, end = windows.first[token], windows.first[token + 1]
        ids = np.full(is_read.shape, special.pad, dtype=np.int64)
        ids[:, :num_prefix] = special.prefix
        ids[is_text] = windows.ids[text]
        ends = (lengths - num_suffix)[:, None] + np.arange(num_suffix)
        ids[np.arange(len(rows))[:, None], ends] = special.suffix
        subword_morphology = np.full_like(ids, NO_MORPHOLOGY)
        subword_morphology[is_text] = np.repeat(morphology, end - begin)

        before = np.repeat(windows.first[windows.start[rows]] - num_prefix, num_tokens)
        first, last, classes = np.zeros((3, *is_token.shape), dtype=np.int64)
        first[is_token] = begin - before
        last[is_token] = end - before - 1
        classes[is_token] = morphology
        return Batch(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(is_read.astype(np.int64)),
            subword_morphology=torch.from_numpy(subword_morphology),
            first=torch.from_numpy(first),
            last=torch.from_numpy(last),
            morphology=torch.from_numpy(classes),
            span_mask=torch.from_numpy(self._span_mask(windows, rows)),
        )

    def _span_mask(self, windows: Windows, rows: IntArray) -> NDArray[np.bool_]:
        num_tokens = windows.num_tokens[rows]
        ends = np.arange(num_tokens.max())[:, None] + np.arange(1, self.layout.max_width + 1)
        mask = ends <= num_tokens[:, None, None]  # (B, T, W)
        if windows.owned:
            for place, row in enumerate(rows.tolist()):
                if row in windows.owned:
                    owned = windows.owned[row]
                    mask[place, : len(owned)] &= owned
        return mask
