"""Demonstrations of a run: its corpus is read, and embedded if the nearest ones are wanted."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from linkner_ray.config import LlmConfig
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
from linkner_ray.spanner.pretrained import resolve_encoder

if TYPE_CHECKING:
    from torch import Tensor

_MAX_SUBWORDS = 256
"""Subwords of a sentence that decide its vector; what is longer is cut."""

_BATCH_SIZE = 32


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
            return RandomDemonstrations(
                _read_sentences(config, label_set),
                label_set.classes,
                per_class=settings.per_class,
                seed=config.seed,
                max_chars=config.max_context_chars,
            )
        case "nearest":
            return NearestDemonstrations(
                _read_sentences(config, label_set),
                SentenceEmbedder(settings.encoder),
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
        demonstrations = load_demonstrations(config, label_set)
        if demonstrations is not None:
            return demonstrations.choose([""])[0].fixed
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
        source, revision = resolve_encoder(settings.encoder)
        is_folder = Path(source).is_dir()
        encoder = folder_digest(Path(source)) if is_folder else f"{source}@{revision}"
        digest.update(encoder.encode())
    return digest.hexdigest()


class SentenceEmbedder:
    """Means of an encoder's last hidden states, scaled to length 1.

    Args:
        encoder: As `spanner.encoders.load_encoder` takes it.

    Raises:
        ConfigError: If it cannot be loaded.
    """

    def __init__(self, encoder: str) -> None:
        from linkner_ray.spanner.encoders import load_encoder, longest_input

        model, self._tokenizer = load_encoder(encoder)
        self._model = model.train(mode=False)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(min(_MAX_SUBWORDS, longest_input(model) or _MAX_SUBWORDS))

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of length 1. Shape (texts, width)."""
        rows = [row.ids for row in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        vectors = np.zeros((len(rows), self._model.config.hidden_size), dtype=np.float32)
        for first in range(0, len(order), _BATCH_SIZE):
            places = order[first : first + _BATCH_SIZE]
            vectors[places] = self._mean_states([rows[place] for place in places]).numpy()
        return vectors

    def _mean_states(self, rows: Sequence[Sequence[int]]) -> "Tensor":
        """Shape (rows, width)."""
        import torch

        longest = max(map(len, rows))
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        mask = torch.zeros((len(rows), longest))
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1.0
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        means = (states.float() * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return torch.nn.functional.normalize(means, dim=1)


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
