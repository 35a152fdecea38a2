"""Encoders of the BERT and RoBERTa families in plain PyTorch, for checkpoints that are at work.

Importing a model of transformers takes three times the processor time of torch, and a worker that
only runs a checkpoint needs none of what it brings. Weights have the names that transformers gives
them, and operations are those of its `sdpa` attention in the same order, so hidden states are the
same to the last bit. `encoders.build_encoder` leaves every other family to transformers.

Letters: B windows, L subwords, H hidden width.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

BERT_FAMILY = frozenset({"bert"})
ROBERTA_FAMILY = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Model types whose positions are counted from the padding id + 1."""

_PLAIN = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
    "quantization_config": None,
}
"""What a config may say that changes the computation, and the only value that is computed here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig:
    """The fields of an encoder's `config.json` that decide what is computed."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    pad_token_id: int
    layer_norm_eps: float
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    text: str
    """The file as it was read, which is what is saved again."""

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a `config.json`; None if the encoder it describes is not one of this module."""
        text = path.read_text(encoding="utf-8")
        try:
            tree = json.loads(text)
        except json.JSONDecodeError:
            return None
        if not isinstance(tree, dict) or tree.get("model_type") not in BERT_FAMILY | ROBERTA_FAMILY:
            return None
        if any(tree.get(name) not in (None, plain) for name, plain in _PLAIN.items()):
            return None
        values: dict[str, Any] = {field.name: tree.get(field.name) for field in fields(cls)}
        values["text"] = text
        if not _are_whole(values) or values["hidden_size"] % values["num_attention_heads"]:
            return None
        return cls(**values)

    def save_pretrained(self, folder: Path) -> None:
        """Write `config.json`, as transformers does for its own encoders."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(self.text, encoding="utf-8")


def _are_whole(values: Mapping[str, Any]) -> bool:
    """Whether every field has a value of its kind; what lacks one is left to transformers."""
    kinds: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float)}
    return all(
        isinstance(values[field.name], kinds[field.type])
        and not isinstance(values[field.name], bool)
        for field in fields(BertConfig)
    )


class _Linear(nn.Linear):
    def reset_parameters(self) -> None:
        """Draw nothing: weights are loaded."""


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        """Draw nothing: weights are loaded."""


class EncoderOutput(NamedTuple):
    """What an encoder gives, under the name that it has in transformers."""

    last_hidden_state: Tensor


class Bert(nn.Module):
    """BERT or RoBERTa without a pooler, its weights not set until they are loaded."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers(config)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of subwords."""
        return self.embeddings.word_embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> EncoderOutput:
        """Hidden states of subwords.

        Args:
            input_ids: Shape (B, L).
            attention_mask: 1 for a subword, 0 for padding; None for no padding. Shape (B, L).
            inputs_embeds: Instead of `input_ids`. Shape (B, L, H).

        Returns:
            `last_hidden_state` of shape (B, L, H).
        """
        states = self.embeddings(input_ids, inputs_embeds)
        return EncoderOutput(self.encoder(states, _unseen(attention_mask, states.dtype)))


def _unseen(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What is added where each position looks, (B, 1, L, L); None if all see all: quicker.

    It is what attention makes of a bool mask, once for all layers.
    """
    if mask is None:
        return None
    seen = mask.to(torch.bool)
    if seen.all():
        return None
    size, length = seen.shape
    unseen = torch.zeros(size, 1, length, length, dtype=dtype, device=mask.device)
    return unseen.masked_fill_(~seen[:, None, None, :], -torch.inf)


class _Embeddings(nn.Module):
    """Subwords, places and the one segment that there is."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width, pad = config.hidden_size, config.pad_token_id
        self.first_place = pad + 1 if config.model_type in ROBERTA_FAMILY else 0
        self.word_embeddings = _Embedding(config.vocab_size, width, padding_idx=pad)
        self.token_type_embeddings = _Embedding(config.type_vocab_size, width)
        self.position_embeddings = _Embedding(
            config.max_position_embeddings, width, padding_idx=pad if self.first_place else None
        )
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        embedded = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        states = embedded + self.token_type_embeddings.weight[0]
        states += self.position_embeddings(self._places(input_ids, embedded))
        dropped: Tensor = self.dropout(self.LayerNorm(states))
        return dropped

    def _places(self, input_ids: Tensor | None, embedded: Tensor) -> Tensor:
        """Positions of subwords, which RoBERTa gives to no padding that it can see."""
        if input_ids is not None and self.first_place:
            pad = self.first_place - 1
            is_text = input_ids.ne(pad).int()
            return (torch.cumsum(is_text, dim=1).type_as(is_text) * is_text).long() + pad
        length = embedded.shape[1]
        first = self.first_place
        return torch.arange(first, first + length, device=embedded.device)[None]


class _Layers(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, states: Tensor, unseen: Tensor | None) -> Tensor:
        for layer in self.layer:
            states = layer(states, unseen)
        return states


class _Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.intermediate = _Intermediate(config)
        self.output = _AddAndNorm(config, config.intermediate_size)

    def forward(self, states: Tensor, unseen: Tensor | None) -> Tensor:
        attended = self.attention(states, unseen)
        output: Tensor = self.output(self.intermediate(attended), attended)
        return output


class _Attention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _AddAndNorm(config, config.hidden_size)

    def forward(self, states: Tensor, unseen: Tensor | None) -> Tensor:
        output: Tensor = self.output(self.self(states, unseen), states)
        return output


class _SelfAttention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.head_width = width // config.num_attention_heads
        self.query = _Linear(width, width)
        self.key = _Linear(width, width)
        self.value = _Linear(width, width)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, states: Tensor, unseen: Tensor | None) -> Tensor:
        query, key, value = (
            linear(states).view(*states.shape[:-1], -1, self.head_width).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=unseen,
            dropout_p=self.dropout.p if self.training else 0.0,
            scale=self.head_width**-0.5,
        )
        return attended.transpose(1, 2).reshape(states.shape)


class _Intermediate(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = _Linear(config.hidden_size, config.intermediate_size)

    def forward(self, states: Tensor) -> Tensor:
        inner: Tensor = self.dense(states)
        if inner.requires_grad:
            return functional.gelu(inner)
        return torch.ops.aten.gelu_(inner)


class _AddAndNorm(nn.Module):
    """A linear layer to the hidden width, added to what went in before."""

    def __init__(self, config: BertConfig, width: int) -> None:
        super().__init__()
        self.dense = _Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states: Tensor, before: Tensor) -> Tensor:
        added: Tensor = self.dropout(self.dense(states))
        added += before
        output: Tensor = self.LayerNorm(added)
        return output
