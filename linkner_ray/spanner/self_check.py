"""The canary of a checkpoint: sentences, and what the model said of them where it was trained.

A worker that loads the checkpoint asks again. Other weights, another tokenizer, another release of
a library or a poor number format are then found before the first document, not in the results.
The sentences are from dev, so whoever gets the checkpoint gets them, too.

Letters: N spans, C classes with non-entity first, S sentences, L subwords of all of them.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from linkner_ray.config import RecognizeConfig
from linkner_ray.errors import StartupError
from linkner_ray.spanner.checkpoint import (
    CANARY,
    CANARY_FILES,
    CANARY_TENSORS,
    DECISIVE_FILES,
    OPTIONAL_FILES,
    library_versions,
    local_checkpoint,
    read_json,
)
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.passed_checks import facts_of_check, has_passed, remember_passed
from linkner_ray.spanner.predict import FloatArray, Recognizer
from linkner_ray.spanner.span_table import SpanTable

logger = logging.getLogger(__name__)

NUM_SENTENCES = 200
NUM_TOKENS = 16
"""Sentences are cut to it; 200 of them took all-MiniLM 2.1 s of one busy core, in 290 kB."""

TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""How far a probability may be off, by what the encoder computes in.

Measured with all-MiniLM on CPU and 200 sentences each of CoNLL-2003 dev and test, bfloat16 is off
by up to 0.031, by 0.006 or less for 999 spans of 1,000. A label may change only if it led by no
more than the tolerance."""

_EVERY_SPAN = -1.0
"""A floor below every probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What a model said of some sentences.

    Attributes:
        sentences: Tokens of each.
        classes: Class names, non-entity first.
        versions: Libraries it was computed with.
        subword_ids: What the tokenizer made of the sentences, one after the other. Shape (L,).
        subword_counts: Subwords of each sentence. Shape (S,).
        log_probs: Calibrated, of every span the model looks at, by sentence, then position; in
            float32. Shape (N, C).
    """

    sentences: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    versions: Mapping[str, str]
    subword_ids: NDArray[np.int32]
    subword_counts: NDArray[np.int32]
    log_probs: FloatArray

    def __post_init__(self) -> None:
        shapes = (
            (len(self.sentences),),
            (int(self.subword_counts.sum()),),
            (len(self.log_probs), len(self.classes)),
        )
        found = (self.subword_counts.shape, self.subword_ids.shape, self.log_probs.shape)
        if shapes != found:
            raise ValueError(f"parts do not go together: expected shapes {shapes}, found {found}")

    def write(self, folder: Path) -> None:
        """Store the canary in a checkpoint's local folder."""
        tree = {"versions": self.versions, "classes": self.classes, "sentences": self.sentences}
        (folder / CANARY).write_text(json.dumps(tree) + "\n", encoding="utf-8")
        tensors = {
            "subword_ids": self.subword_ids,
            "subword_counts": self.subword_counts,
            "log_probs": self.log_probs,
        }
        save_file(tensors, folder / CANARY_TENSORS)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the canary of a checkpoint's local folder; None if it has none.

        Raises:
            StartupError: If one of its two files is missing, or they are damaged.
        """
        missing = [name for name in CANARY_FILES if not (folder / name).is_file()]
        if len(missing) == len(CANARY_FILES):
            return None
        if missing:
            raise StartupError(
                f"{folder}: {missing[0]} is missing, half of the canary; copy the whole folder"
            )
        tree = read_json(folder / CANARY)
        try:
            return cls(
                sentences=tuple(tuple(sentence) for sentence in tree["sentences"]),
                classes=tuple(tree["classes"]),
                versions=dict(tree["versions"]),
                **load_file(folder / CANARY_TENSORS),
            )
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise StartupError(
                f"{folder}: {' and '.join(CANARY_FILES)} are damaged: {error}; restore them"
            ) from error


def choose_sentences(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """Sentences for a canary: evenly spaced, each cut to its first tokens.

    Args:
        sentences: Tokens of each, such as those of dev.

    Returns:
        At most `NUM_SENTENCES` of at most `NUM_TOKENS`; the same ones for the same input.
    """
    count = min(NUM_SENTENCES, len(sentences))
    return [list(sentences[i * len(sentences) // count][:NUM_TOKENS]) for i in range(count)]


def record_canary(model: SpanNER, sentences: Sequence[Sequence[str]]) -> Canary:
    """Ask a model, in float32 and on the device where it is.

    Args:
        model: As it will be saved, calibration included.
        sentences: As `choose_sentences` gives them.
    """
    recognizer = Recognizer(model, RecognizeConfig(device=model.device.type, dtype="float32"))
    ids, counts = _subwords(model, sentences)
    probs = recognizer.spans(sentences, floor=_EVERY_SPAN).probs
    return Canary(
        sentences=tuple(tuple(sentence) for sentence in sentences),
        classes=model.label_set.classes,
        versions=library_versions(),
        subword_ids=ids,
        subword_counts=counts,
        log_probs=np.log(np.maximum(probs, np.finfo(np.float32).tiny)),
    )


def load_recognizer(config: RecognizeConfig, *, check_again: bool = False) -> Recognizer:
    """Load `config.checkpoint` and check that it answers here as it did where it was trained.

    A checkpoint without a canary is loaded unchecked, with a warning in the log. One that passed
    on this machine, under the same libraries and settings, is not asked again.

    Args:
        config: Checkpoint, device, number format, and how the model is asked.
        check_again: Ask even a checkpoint that passed here before.

    Raises:
        ConfigError: If there is no such checkpoint, or the config does not suit it.
        StartupError: If it is incomplete or damaged, or answers otherwise than it did.
    """
    folder = local_checkpoint(config.checkpoint)
    recognizer = Recognizer(SpanNER.from_pretrained(str(folder)), config)
    canary = Canary.read(folder)
    if canary is None:
        logger.warning(
            "checkpoint %s has no %s, so nobody checked that it answers as it did where it was "
            "trained; checkpoints trained from now on have one",
            *(config.checkpoint, CANARY),
        )
        return recognizer
    files = (*DECISIVE_FILES, *OPTIONAL_FILES, *CANARY_FILES)
    facts = facts_of_check(folder, files, config, recognizer.model.device)
    if check_again or not has_passed(facts):
        check_canary(recognizer, canary, name=config.checkpoint)
        remember_passed(facts)
    return recognizer


def check_canary(recognizer: Recognizer, canary: Canary, *, name: str) -> None:
    """Ask a model again what its canary holds, as the run will ask it.

    Args:
        recognizer: On the device and in the number format of the run.
        canary: Of its checkpoint.
        name: Of the checkpoint, for the message.

    Raises:
        StartupError: If classes or subwords differ at all, or a probability by more than
            `TOLERANCES`; names the difference and the libraries on both sides.
    """
    difference = (
        _other_classes(recognizer.model, canary)
        or _other_subwords(recognizer.model, canary)
        or _other_answers(recognizer, canary)
    )
    if difference is None:
        return
    found = library_versions()
    libraries = ", ".join(
        f"{library} {stored} then and {found.get(library, 'none')} now"
        for library, stored in canary.versions.items()
    )
    dtype = str(recognizer.dtype).removeprefix("torch.")
    exact = "" if dtype == "float32" else ", or set recognize.dtype=float32"
    raise StartupError(
        f"{name}: does not answer as it did where it was trained: {difference} ({libraries}, "
        f"encoder in {dtype}); restore the checkpoint's files, or install the libraries it was "
        f"trained with{exact}; if the difference is wanted, delete {' and '.join(CANARY_FILES)} "
        "there to run unchecked"
    )


def _other_classes(model: SpanNER, canary: Canary) -> str | None:
    if model.label_set.classes == canary.classes:
        return None
    return (
        f"its classes were {', '.join(canary.classes)} and are {', '.join(model.label_set.classes)}"
    )


def _other_subwords(model: SpanNER, canary: Canary) -> str | None:
    ids, counts = _subwords(model, canary.sentences)
    then = _per_sentence(canary.subword_ids, canary.subword_counts)
    now = _per_sentence(ids, counts)
    pairs = enumerate(zip(then, now, strict=True))
    others = [index for index, (old, new) in pairs if not np.array_equal(old, new)]
    if not others:
        return None
    return (
        f"its tokenizer gives other subwords for {len(others)} of {len(canary.sentences)} "
        f"sentences, such as {' '.join(canary.sentences[others[0]])!a}"
    )


def _other_answers(recognizer: Recognizer, canary: Canary) -> str | None:
    """What is wrong with the probabilities found; None if they are near the stored ones."""
    spans = recognizer.spans(canary.sentences, floor=_EVERY_SPAN)
    if spans.probs.shape != canary.log_probs.shape:
        return (
            f"it gave probabilities to {len(canary.log_probs)} spans and now gives them to "
            f"{len(spans.probs)}"
        )
    if not len(spans.probs):
        return None
    tolerance = TOLERANCES[recognizer.dtype]
    stored = np.exp(canary.log_probs)
    distance = np.abs(spans.probs - stored).max(axis=1)  # (N,)
    second, first = np.partition(stored, -2, axis=1)[:, -2:].T
    flipped = (spans.probs.argmax(axis=1) != stored.argmax(axis=1)) & (first - second > tolerance)
    if distance.max() <= tolerance and not flipped.any():
        return None
    worst = int(distance.argmax())
    return (
        f"probabilities of {int((distance > tolerance).sum())} of {len(distance)} spans differ by "
        f"more than {tolerance:g}, the worst by {distance[worst]:.4f}, and {int(flipped.sum())} "
        f"labels changed; the worst is {_describe(spans, worst, canary, stored)}"
    )


def _describe(spans: SpanTable, row: int, canary: Canary, stored: FloatArray) -> str:
    """One span with its most probable class then and now."""
    tokens = canary.sentences[spans.sentence[row]][spans.start_token[row] : spans.end_token[row]]
    then, now = (
        f"{canary.classes[int(probs.argmax())]} {probs.max():.4f}"
        for probs in (stored[row], spans.probs[row])
    )
    return f"{' '.join(tokens)!a}, {then} then and {now} now"


def _subwords(
    model: SpanNER, sentences: Sequence[Sequence[str]]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Subwords of all sentences, (L,), and how many each has, (S,)."""
    encoded = [sentence.ids.astype(np.int32) for sentence in model.featurizer.subwords(sentences)]
    counts = np.array([len(ids) for ids in encoded], dtype=np.int32)
    return np.concatenate([*encoded, np.zeros(0, np.int32)]), counts


def _per_sentence(ids: NDArray[np.int32], counts: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    return np.split(ids, np.cumsum(counts)[:-1]) if len(counts) else []
