"""Loading pretrained encoders, and building those of checkpoints."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn

from linkner_ray.errors import ConfigError
from linkner_ray.spanner.bert import Bert, BertConfig
from linkner_ray.spanner.pretrained import WANTED, resolve_encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Encoder = PreTrainedModel | Bert


def load_encoder(name: str) -> "tuple[PreTrainedModel, Tokenizer]":
    """Load a pretrained encoder in float32, whatever it is stored in, and its fast tokenizer.

    Raises:
        ConfigError: If either cannot be loaded, weights are missing, the tokenizer is not a fast
            one, or the model is no encoder.
    """
    from transformers import AutoModel, AutoTokenizer  # more processor time than torch takes

    source, revision = resolve_encoder(name)
    try:
        encoder, loading = AutoModel.from_pretrained(
            source, revision=revision, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"encoder '{name}' cannot be loaded from {source}: {error}; give a folder or the id "
            "of a model with config, weights and tokenizer"
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ConfigError(
            f"encoder '{name}' has no fast tokenizer ({type(tokenizer).__name__}); save one as "
            "tokenizer.json beside it"
        )
    drawn = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
    if drawn:  # transformers draws them at random, and only warns
        raise ConfigError(
            f"encoder '{name}': {source} lacks {len(drawn)} of the weights of a "
            f"{type(encoder).__name__}, such as {', '.join(drawn[:3])}; are they those of another "
            "model, or of one that wraps the encoder? Give the encoder's own folder or id"
        )
    encoder = without_pooler(encoder)
    _check_reads_both_ways(name, encoder)
    return encoder, backend


def _check_reads_both_ways(name: str, encoder: "PreTrainedModel") -> None:
    """Refuse a decoder: one whose state of a subword ignores what follows it."""
    kind = f"{type(encoder).__name__}, model_type {encoder.config.model_type}"
    ids = torch.tensor([[7, 8, 9], [7, 8, 10]])
    try:
        with torch.inference_mode():
            states = encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
        first = states.last_hidden_state[:, 0]
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise ConfigError(f"encoder '{name}' ({kind}) reads no text: {error}; {WANTED}") from error
    if torch.allclose(first[0], first[1], rtol=1e-4, atol=1e-5):
        raise ConfigError(
            f"encoder '{name}' is a decoder ({kind}): what it makes of a word ignores what follows "
            f"it; {WANTED}"
        )


def build_encoder(folder: Path) -> "Encoder":
    """An encoder as its config describes it, whose weights are still to be loaded.

    BERT and RoBERTa are built without transformers; every other encoder of `AutoModel` by it.

    Raises:
        OSError: If there is no such file.
        ValueError: If transformers cannot build what it describes.
    """
    plain = BertConfig.read(folder / "config.json")
    if plain is not None:
        return Bert(plain)
    from transformers import AutoConfig, AutoModel

    encoder = AutoModel.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.from_pretrained(folder), dtype=torch.float32
    )
    return without_pooler(encoder)


def without_pooler(encoder: "PreTrainedModel") -> "PreTrainedModel":
    """Drop the sentence pooler, whose weights no span ever trains."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.register_module("pooler", None)
    return encoder


def longest_input(encoder: "Encoder") -> int | None:
    """Subwords the encoder can read at once; None if it does not say.

    Encoders of the RoBERTa family begin to count positions after the padding id.
    """
    limit: int | None = getattr(encoder.config, "max_position_embeddings", None)
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            reserved = 0 if module.padding_idx is None else module.padding_idx + 1
            limit = module.num_embeddings - reserved
    return limit
