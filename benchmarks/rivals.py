"""What the recognise stage is compared with: a bare encoder, a pipeline, a plain span head.

Letters: B windows, L subwords, T tokens, P spans of a window, W widths, C classes, H encoder
width, D head width.
"""

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
    TokenClassificationPipeline,
)

from linkner_ray.spanner.features import Batch
from linkner_ray.spanner.head import SpanHead
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.windows import batches_under_budget


def batches_by_length(
    model: SpanNER, sentences: Sequence[Sequence[str]], batch_tokens: int
) -> list[Batch]:
    """The batches that the recognise stage makes of the sentences."""
    windows = model.featurizer.windows(sentences)
    lengths = [model.featurizer.length(window) for window in windows]
    return [
        model.featurizer.collate([windows[index] for index in indices])
        for indices in batches_under_budget(lengths, batch_tokens)
    ]


def bare_encoder(
    model: SpanNER, sentences: Sequence[Sequence[str]], batch_tokens: int
) -> Callable[[], None]:
    """The encoder's forward pass over batches that are made beforehand, and nothing else."""
    encoder = model.encoder
    batches = [
        (batch.input_ids, batch.attention_mask)
        for batch in batches_by_length(model, sentences, batch_tokens)
    ]

    def forward() -> None:
        with torch.inference_mode():
            for ids, mask in batches:
                encoder(input_ids=ids, attention_mask=mask)

    return forward


def token_pipeline(
    model: SpanNER, sentences: Sequence[Sequence[str]]
) -> Callable[[int], list[object]]:
    """The token-classification pipeline of transformers: same encoder, a new head, words by text.

    The pipeline batches texts as they come; they are given longest first, which spares it padding.
    Its head calls nearly everything "O", so that collecting entities costs it little.

    Returns:
        A function of the batch size.
    """
    with tempfile.TemporaryDirectory() as folder:
        model.encoder.config.save_pretrained(Path(folder))
        config = AutoConfig.from_pretrained(folder)
    tags = ["O", *(f"{bio}-{label}" for label in model.label_set.ids for bio in "BI")]
    config.id2label = dict(enumerate(tags))
    config.label2id = {tag: index for index, tag in enumerate(tags)}
    tagger = AutoModelForTokenClassification.from_config(config).eval()
    tagger.base_model.load_state_dict(model.encoder.state_dict(), strict=False)
    with torch.no_grad():
        next(m for m in reversed(list(tagger.modules())) if isinstance(m, nn.Linear)).bias[0] += 4.0
    special = model.featurizer.special
    tokenizer = copy.deepcopy(model.featurizer.subwords.tokenizer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=tokenizer.id_to_token(special.pad),
        model_max_length=model.config.max_subwords,
    )
    pipeline = TokenClassificationPipeline(
        model=tagger, tokenizer=fast, aggregation_strategy="simple", device="cpu"
    )
    texts = sorted((" ".join(words) for words in sentences), key=len, reverse=True)
    return lambda batch_size: pipeline(texts, batch_size=batch_size)


class ConcatenatingHead(nn.Module):
    """SpanNER's head as it is written down: one matrix of the features of every span.

    The same weights as a factorised head. The width and morphology features, which both heads
    look up, are added after the product, which is the cheaper way for this head.

    Args:
        head: Gives its weights.
    """

    def __init__(self, head: SpanHead) -> None:
        super().__init__()
        self.start, self.end, self.output = head.start, head.end, head.output
        self.width, self.morphology = head.width, head.morphology
        self.max_width = head.max_width

    def project(self, first: Tensor, last: Tensor, morphology: Tensor) -> tuple[Tensor, ...]:
        """Nothing is projected token by token; the states go to `forward` as they are."""
        return first, last, morphology

    def forward(self, tokens: tuple[Tensor, ...]) -> Tensor:
        """Logits of all spans, as `SpanHead.forward` lays them out. Shape (B, T, W, C)."""
        first, last, morphology = tokens
        rows, num_tokens, _ = first.shape
        starts, widths = (
            torch.arange(num_tokens)[:, None] + torch.arange(self.max_width) < num_tokens
        ).nonzero(as_tuple=True)  # (P,) each
        ends = starts + widths
        features = torch.cat([first[:, starts], last[:, ends]], dim=-1)  # (B, P, 2H)
        weight = torch.cat([self.start.weight, self.end.weight], dim=1)  # (D, 2H)
        hidden = functional.linear(features, weight, self.start.bias)
        if self.width is not None:
            hidden = hidden + self.width(widths)
        if self.morphology is not None:
            classes = self.morphology(morphology)
            through = functional.pad(classes.cumsum(dim=1), (0, 0, 1, 0))
            hidden = hidden + through[:, ends + 1] - through[:, starts]
        scores = self.output(functional.gelu(hidden))  # (B, P, C)
        logits = scores.new_zeros(rows, num_tokens, self.max_width, scores.shape[-1])
        logits[:, starts, widths] = scores
        return logits


def with_concatenating_head(model: SpanNER) -> SpanNER:
    """A copy of the model with the same weights under a `ConcatenatingHead`."""
    twin = copy.deepcopy(model)
    twin.head = ConcatenatingHead(twin.head)
    return twin.eval()
