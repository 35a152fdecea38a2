"""Sentences to tensors.

Letters: B windows, L subwords, T tokens, W widths.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from linkner_ray.errors import ConfigError
from linkner_ray.spanner.morphology import NUM_MORPHOLOGY_CLASSES, morphology_classes
from linkner_ray.spanner.subwords import SpecialIds, SubwordEncoder
from linkner_ray.spanner.windows import Window, WindowLayout, split_windows

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
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


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
        self.num_special = len(special.prefix) + len(special.suffix)
        capacity = max_subwords - self.num_special
        if window_overlap >= capacity:
            raise ConfigError(
                f"model.window_overlap = {window_overlap} leaves nothing new in a window of "
                f"{capacity} subwords; lower it or raise model.max_subwords"
            )
        self.special = special
        self.layout = WindowLayout(capacity=capacity, overlap=window_overlap, max_width=max_width)
        self.subwords = SubwordEncoder(tokenizer, special, max_token_subwords=capacity)

    def windows(self, sentences: Sequence[Sequence[str]]) -> list[Window]:
        """Windows of all sentences, in order; a sentence without tokens gives none."""
        encoded = self.subwords(sentences)
        return [
            window
            for index, (tokens, sentence) in enumerate(zip(sentences, encoded, strict=True))
            for window in split_windows(
                index,
                sentence,
                morphology_classes(tokens),
                layout=self.layout,
            )
        ]

    def length(self, window: Window) -> int:
        """Subwords of a window with special tokens."""
        return len(window.ids) + self.num_special

    def collate(self, windows: Sequence[Window]) -> Batch:
        """Pad windows to the longest one."""
        size = len(windows)
        num_prefix = len(self.special.prefix)
        num_subwords = max(self.length(window) for window in windows)
        num_tokens = max(len(window.first) for window in windows)
        ids = np.full((size, num_subwords), self.special.pad, dtype=np.int64)
        mask = np.zeros((size, num_subwords), dtype=np.int64)
        subword_morphology = np.full((size, num_subwords), NO_MORPHOLOGY, dtype=np.int64)
        tokens = np.zeros((3, size, num_tokens), dtype=np.int64)
        for row, window in enumerate(windows):
            end = num_prefix + len(window.ids)
            length = self.length(window)
            ids[row, :num_prefix] = self.special.prefix
            ids[row, num_prefix:end] = window.ids
            ids[row, end:length] = self.special.suffix
            mask[row, :length] = 1
            subword_morphology[row, num_prefix:end] = np.repeat(
                window.morphology, window.last - window.first + 1
            )
            used = len(window.first)
            tokens[0, row, :used] = window.first + num_prefix
            tokens[1, row, :used] = window.last + num_prefix
            tokens[2, row, :used] = window.morphology
        first, last, morphology = torch.from_numpy(tokens)
        return Batch(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(mask),
            subword_morphology=torch.from_numpy(subword_morphology),
            first=first,
            last=last,
            morphology=morphology,
            span_mask=torch.from_numpy(self._span_mask(windows, num_tokens)),
        )

    def _span_mask(
        self, windows: Sequence[Window], num_tokens: int
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        counts = np.fromiter((len(window.first) for window in windows), np.int64, len(windows))
        ends = np.arange(num_tokens)[:, None] + np.arange(1, self.layout.max_width + 1)  # (T, W)
        mask = ends[None] <= counts[:, None, None]  # (B, T, W)
        for row, window in enumerate(windows):
            if window.owned is not None:
                mask[row, : len(window.first)] &= window.owned
        return mask
