"""Demonstrations of a run: its corpus is read, and embedded if the nearest ones are wanted."""

import hashlib
from pathlib import Path

from linkner_ray.config import DemonstrationsConfig, LlmConfig
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.files import read_bytes
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.labels import LabelSet
from linkner_ray.llm.demonstrations import (
    Demonstrations,
    ExampleSentence,
    NearestDemonstrations,
    RandomDemonstrations,
)
from linkner_ray.llm.model_identity import folder_digest
from linkner_ray.llm.prompts import Demonstration
from linkner_ray.llm.span_vectors import SpanEmbedder, is_checkpoint
from linkner_ray.spanner.digests import encoder_digest
from linkner_ray.spanner.pretrained import pin_encoder, resolve_encoder

_LIKENESS = "by span and sentence"
"""How kind `nearest` measures what is alike; another way is another plan."""


def load_demonstrations(config: LlmConfig, label_set: LabelSet) -> Demonstrations | None:
    """Read the corpus a config names and prepare the choice of demonstrations.

    Args:
        config: The LLM's part of the config.
        label_set: Of the checkpoint; the corpus uses its labels.

    Returns:
        None where the config asks for none.

    Raises:
        ConfigError: If the corpus or the encoder cannot be loaded.
        DataError: If the corpus is malformed, or has a label the checkpoint does not know.
    """
    settings = config.demonstrations
    match settings.kind:
        case "none":
            return None
        case "random":
            return _random_demonstrations(config, label_set)
        case "nearest":
            return NearestDemonstrations(
                _read_sentences(config, label_set),
                SpanEmbedder(settings.encoder),
                count=settings.count,
                seed=config.seed,
                max_chars=config.max_context_chars,
            )


def fixed_demonstrations(config: LlmConfig, label_set: LabelSet) -> tuple[Demonstration, ...]:
    """Demonstrations that nearly all questions of a run share; no encoder is loaded for them.

    Raises:
        ConfigError: If the corpus cannot be read.
        DataError: If it is malformed, or has a label the checkpoint does not know.
    """
    if config.demonstrations.kind == "random":
        return _random_demonstrations(config, label_set).usual
    if config.demonstrations.kind == "nearest":
        _read_sentences(config, label_set)  # an error in the corpus must show before the start
    return ()


def corpus_digest(config: LlmConfig) -> str | None:
    """Name of the content of the corpus, and of the encoder where one chooses; None for neither.

    Raises:
        ConfigError: If it cannot be read.
    """
    settings = config.demonstrations
    if settings.kind == "none":
        return None
    digest = hashlib.blake2b(read_bytes(settings.corpus), digest_size=8)
    if settings.kind == "nearest":
        digest.update(f"{_LIKENESS}\0{_encoder_content(settings.encoder)}".encode())
    return digest.hexdigest()


def pin_demonstrations(settings: DemonstrationsConfig) -> DemonstrationsConfig:
    """The config with the commit that an encoder of the hub stands for now.

    Raises:
        ConfigError: If there is no such encoder.
    """
    if settings.kind != "nearest" or is_checkpoint(settings.encoder):
        return settings
    return settings.model_copy(update={"encoder": pin_encoder(settings.encoder)})


def _encoder_content(encoder: str) -> str:
    if is_checkpoint(encoder):
        return encoder_digest(encoder)
    source, revision = resolve_encoder(encoder)
    return folder_digest(Path(source)) if Path(source).is_dir() else f"{source}@{revision}"


def _random_demonstrations(config: LlmConfig, label_set: LabelSet) -> RandomDemonstrations:
    return RandomDemonstrations(
        _read_sentences(config, label_set),
        label_set.classes,
        per_class=config.demonstrations.per_class,
        seed=config.seed,
        max_chars=config.max_context_chars,
    )


def _read_sentences(config: LlmConfig, label_set: LabelSet) -> list[ExampleSentence]:
    settings = config.demonstrations
    corpus = read_corpus(settings.corpus, format=settings.format, label_set=label_set)
    documents, gold = corpus_documents(corpus.sentences, ids_prefix="")
    sentences = documents["sentences"].to_pylist()
    return [
        ExampleSentence(
            text,
            tuple((token["start"], token["end"]) for token in whole[0]["tokens"]),
            tuple((entity.start, entity.end, entity.label) for entity in entities),
        )
        for text, whole, entities in zip(
            documents["text"].to_pylist(), sentences, gold, strict=True
        )
    ]
