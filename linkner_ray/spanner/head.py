"""The span head: one linear layer over (start, end, width, morphology), never built as a matrix.

Letters: B windows, T tokens, W widths, C classes with non-entity first, H encoder width, D head
width, N chosen spans.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from linkner_ray.config import ModelConfig
from linkner_ray.spanner.dropout import sampled_dropout
from linkner_ray.spanner.morphology import NUM_MORPHOLOGY_CLASSES

PIECE_SPANS = 1024
PIECE_SPANS_ON_GPU = 65536
"""Spans that are computed at once where no gradient is wanted: on CPU what fits its cache."""

LEAST_SPANS = 16
"""A product of fewer rows adds up in another order, so a smaller piece is filled up."""

Place = tuple[Tensor, ...]
"""Row, first token and width - 1 of each span. Shape (N,) each."""


class ProjectedTokens(NamedTuple):
    """What each token adds to the hidden layer of a span, once as its start, once as its end.

    Attributes:
        start: Shape (B, T, D).
        end: Shape (B, T, D).
    """

    start: Tensor
    end: Tensor


class SpanHead(nn.Module):
    """Classifies every span up to a maximum width.

    The hidden layer of SpanNER is linear in the features of a span, so each token is projected once
    as a start and once as an end and a span costs two additions of width D. The morphology of a
    span is the sum over its tokens: the difference of a running sum, folded into both projections.

    Args:
        hidden_size: Width H of the encoder.
        num_classes: C, non-entity included.
        config: `max_width` is W, `head_width` D; `use_width` and `use_morphology` switch the
            features; `dropout` is on token states and on the hidden layer.

    Reference:
        Fu et al. (2021), SpanNER: span representation with width and morphology features.
    """

    def __init__(self, hidden_size: int, num_classes: int, config: ModelConfig) -> None:
        super().__init__()
        head_width = config.head_width
        self.max_width = config.max_width
        self.start = nn.Linear(hidden_size, head_width)
        self.end = nn.Linear(hidden_size, head_width, bias=False)
        self.width = nn.Embedding(config.max_width, head_width) if config.use_width else None
        self.morphology = (
            nn.Embedding(NUM_MORPHOLOGY_CLASSES, head_width) if config.use_morphology else None
        )
        for table in (self.width, self.morphology):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(head_width, num_classes)

    def project(self, first: Tensor, last: Tensor, morphology: Tensor) -> ProjectedTokens:
        """Project every token as a start and as an end.

        Args:
            first: Encoder state of each token's first subword. Shape (B, T, H).
            last: Encoder state of each token's last subword. Shape (B, T, H).
            morphology: Class of each token. Shape (B, T).
        """
        start = self.start(self.dropout(first))
        end = self.end(self.dropout(last))
        if self.morphology is not None:
            classes = self.morphology(morphology)
            through = classes.cumsum(dim=1)
            start = start - (through - classes)
            end = end + through
        return ProjectedTokens(start, end)

    def forward(self, tokens: ProjectedTokens) -> Tensor:
        """Logits of all spans.

        Returns:
            At [b, t, w] the span of tokens [t, t + w + 1); spans past the last token mean nothing.
            Shape (B, T, W, C).
        """
        num_tokens = tokens.start.shape[1]
        by_width = []
        for width in range(min(self.max_width, num_tokens)):
            hidden = tokens.start[:, : num_tokens - width] + tokens.end[:, width:]
            if self.width is not None:
                hidden = hidden + self.width.weight[width]
            logits = self.output(self.dropout(functional.gelu(hidden)))  # (B, T - width, C)
            by_width.append(functional.pad(logits, (0, 0, 0, width)))
        logits = torch.stack(by_width, dim=2)  # (B, T, min(W, T), C)
        return functional.pad(logits, (0, 0, 0, self.max_width - logits.shape[2]))

    @torch.no_grad()
    def logits_at(self, tokens: ProjectedTokens, place: Place) -> Tensor:
        """Logits of chosen spans, without gradients and with little memory.

        Args:
            tokens: Projections of a batch.
            place: The spans. Shape (N,) each.

        Returns:
            Shape (N, C).
        """
        row, first, width = place
        num_spans, num_rows = len(row), tokens.start.shape[:2].numel()
        first = row * tokens.start.shape[1] + first
        rows = [tokens.start.flatten(0, 1), tokens.end.flatten(0, 1)]
        added = [first, first + width + num_rows]
        if self.width is not None:
            rows.append(self.width.weight)
            added.append(width + 2 * num_rows)
        table, num_added = torch.cat(rows), len(added)
        size = PIECE_SPANS if table.device.type == "cpu" else PIECE_SPANS_ON_GPU
        fill = max(0, LEAST_SPANS - num_spans % size)
        places = functional.pad(torch.stack(added, dim=1), (0, 0, 0, fill)).flatten()
        begins = torch.arange(0, size * num_added, num_added, device=table.device)
        logits = []
        for piece in torch.split(places, size * num_added):
            hidden = torch.embedding_bag(table, piece, begins[: len(piece) // num_added])[0]
            logits.append(self.output(torch.ops.aten.gelu_(hidden)))
        return torch.cat(logits)[:num_spans]

    def hidden(self, tokens: ProjectedTokens, place: Place) -> Tensor:
        """Hidden layer of chosen spans.

        Args:
            tokens: Projections of a batch.
            place: The spans. Shape (N,) each.

        Returns:
            Shape (N, D).
        """
        row, start, width = place
        hidden = tokens.start[row, start] + tokens.end[row, start + width]
        if self.width is not None:
            hidden = hidden + self.width(width)
        return functional.gelu(hidden)

    def dropout_sampled_logits(self, hidden: Tensor, *, seed: tuple[int, ...]) -> Tensor:
        """Logits under one dropout mask of the hidden layer, the same for every span.

        So the answer for a span does not depend on what else is in the batch.

        Args:
            hidden: Shape (N, D).
            seed: Decides the mask.

        Returns:
            Shape (N, C).
        """
        with sampled_dropout(self.dropout, seed=seed):
            logits: Tensor = self.output(self.dropout(hidden))
        return logits
