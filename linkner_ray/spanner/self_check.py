"""The self-check of a checkpoint: sentences, and what the model said of them where it was trained.

A worker that loads the checkpoint asks again, so other weights, another tokenizer, another release
of a library or a poor number format are found before the first document, not in the results.
The sentences are from dev and are published with the checkpoint.

Letters: N spans, C classes with non-entity first, S sentences, L subwords of all of them.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    DECISIVE_FILES,
    OPTIONAL_FILES,
    SELF_CHECK,
    SELF_CHECK_FILES,
    SELF_CHECK_TENSORS,
    library_versions,
    local_checkpoint,
    read_json,
)
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.passed_checks import has_passed, inputs_of_check, remember_passed
from linkner_ray.spanner.predict import FloatArray, Recognizer
from linkner_ray.spanner.span_table import SpanTable
from linkner_ray.spanner.tokens import TokenTable

logger = logging.getLogger(__name__)

NUM_SENTENCES = 200
NUM_TOKENS = 16
"""Sentences are cut to it; 200 of them took all-MiniLM 2.1 s of one busy core, in 290 kB."""

FLOAT32_TOLERANCE = 1e-3
"""How far a probability may be off in float32 on another machine."""

MARGIN = 3.0
"""How many times further off bfloat16 may be on another machine than where it was measured."""

LEAST_TOLERANCE = 0.01
UNMEASURED_TOLERANCE = 0.1
"""In bfloat16, for a self-check without a measurement."""

NAMED_SPANS = 5
"""Spans that an error names."""

_EVERY_SPAN = -1.0
"""A floor below every probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """What a model said of some sentences.

    Attributes:
        sentences: Tokens of each.
        classes: Class names, non-entity first.
        versions: Libraries it was computed with.
        subword_ids: What the tokenizer made of the sentences, one after the other. Shape (L,).
        subword_counts: Subwords of each sentence. Shape (S,).
        log_probs: Calibrated, of every span the model looks at, by sentence, then position; in
            float32. Shape (N, C).
        bfloat16_distance: How far bfloat16 moved the probability that it moved most, in [0, 1];
            None if it was not measured.
    """

    sentences: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    versions: Mapping[str, str]
    subword_ids: NDArray[np.int32]
    subword_counts: NDArray[np.int32]
    log_probs: FloatArray
    bfloat16_distance: float | None = None

    def __post_init__(self) -> None:
        shapes = (
            (len(self.sentences),),
            (int(self.subword_counts.sum()),),
            (len(self.log_probs), len(self.classes)),
        )
        found = (self.subword_counts.shape, self.subword_ids.shape, self.log_probs.shape)
        if shapes != found:
            raise ValueError(f"parts do not go together: expected shapes {shapes}, found {found}")

    def tolerance(self, dtype: torch.dtype) -> float:
        """How far a probability may be off with an encoder that computes in a number format.

        A label may change only if it led by no more. In bfloat16 it is `MARGIN` times what was
        measured with this model on these sentences, but at most half-way from there to 1.
        """
        if dtype == torch.float32:
            return FLOAT32_TOLERANCE
        measured = self.bfloat16_distance
        if measured is None:
            return UNMEASURED_TOLERANCE
        return max(LEAST_TOLERANCE, min(MARGIN * measured, (1.0 + measured) / 2.0))

    def write(self, folder: Path) -> None:
        """Store the self-check in a checkpoint's local folder."""
        tree = {
            "versions": self.versions,
            "classes": self.classes,
            "bfloat16_distance": self.bfloat16_distance,
            "sentences": self.sentences,
        }
        (folder / SELF_CHECK).write_text(json.dumps(tree) + "\n", encoding="utf-8")
        tensors = {
            "subword_ids": self.subword_ids,
            "subword_counts": self.subword_counts,
            "log_probs": self.log_probs,
        }
        save_file(tensors, folder / SELF_CHECK_TENSORS)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the self-check of a checkpoint's local folder; None if it has none.

        Raises:
            StartupError: If one of its two files is missing, or they are damaged.
        """
        missing = [name for name in SELF_CHECK_FILES if not (folder / name).is_file()]
        if len(missing) == len(SELF_CHECK_FILES):
            return None
        if missing:
            raise StartupError(
                f"{folder}: {missing[0]} is missing, half of the self-check; copy the whole folder"
            )
        tree = read_json(folder / SELF_CHECK)
        try:
            return cls(
                sentences=tuple(tuple(sentence) for sentence in tree["sentences"]),
                classes=tuple(tree["classes"]),
                versions=dict(tree["versions"]),
                bfloat16_distance=tree.get("bfloat16_distance"),
                **load_file(folder / SELF_CHECK_TENSORS),
            )
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise StartupError(
                f"{folder}: {' and '.join(SELF_CHECK_FILES)} are damaged: {error}; restore them"
            ) from error


def choose_sentences(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """Sentences for a self-check: evenly spaced, each cut to its first tokens.

    At most `NUM_SENTENCES` of at most `NUM_TOKENS`; the same ones for the same input.
    """
    count = min(NUM_SENTENCES, len(sentences))
    return [list(sentences[i * len(sentences) // count][:NUM_TOKENS]) for i in range(count)]


def record_self_check(model: SpanNER, sentences: Sequence[Sequence[str]]) -> SelfCheck:
    """Ask a calibrated model, in float32 and on the device where it is."""
    recognizer = Recognizer(model, RecognizeConfig(device=model.device.type, dtype="float32"))
    ids, counts = _subwords(model, sentences)
    probs = recognizer.spans(sentences, floor=_EVERY_SPAN).probs
    return SelfCheck(
        sentences=tuple(tuple(sentence) for sentence in sentences),
        classes=model.label_set.classes,
        versions=library_versions(),
        subword_ids=ids,
        subword_counts=counts,
        log_probs=np.log(np.maximum(probs, np.finfo(np.float32).tiny)),
    )


def measure_bfloat16(self_check: SelfCheck, model: SpanNER) -> SelfCheck:
    """The self-check of a model with its `bfloat16_distance`; leaves the encoder in bfloat16."""
    config = RecognizeConfig(device=model.device.type, dtype="bfloat16")
    probs = Recognizer(model, config).spans(self_check.sentences, floor=_EVERY_SPAN).probs
    distance = 1.0  # where bfloat16 gives infinities, spans are missing
    if probs.shape == self_check.log_probs.shape:
        distance = float(np.abs(probs - np.exp(self_check.log_probs)).max(initial=0.0))
    return replace(self_check, bfloat16_distance=distance)


def load_recognizer(config: RecognizeConfig, *, check_again: bool = False) -> Recognizer:
    """Load `config.checkpoint` and check that it answers here as it did where it was trained.

    A checkpoint without a self-check is loaded unchecked, with a warning in the log. One that
    passed on this machine, under the same libraries and settings, is not asked again.

    Args:
        config: Checkpoint, device, number format, and how the model is asked.
        check_again: Ask even a checkpoint that passed here before.

    Raises:
        ConfigError: If there is no such checkpoint, or the config does not suit it.
        StartupError: If it is incomplete or damaged, or answers otherwise than it did.
    """
    folder = local_checkpoint(config.checkpoint)
    recognizer = Recognizer(SpanNER.from_pretrained(str(folder)), config)
    self_check = SelfCheck.read(folder)
    if self_check is None:
        logger.warning(
            "checkpoint %s has no %s, so it is not checked that it answers as it did where it was "
            "trained; `linkner calibrate` makes one",
            *(config.checkpoint, SELF_CHECK),
        )
        return recognizer
    files = (*DECISIVE_FILES, *OPTIONAL_FILES, *SELF_CHECK_FILES)
    fingerprint = inputs_of_check(folder, files, config, recognizer.model.device)
    if check_again or not has_passed(fingerprint):
        run_self_check(recognizer, self_check, name=config.checkpoint)
        remember_passed(fingerprint)
    return recognizer


def run_self_check(recognizer: Recognizer, self_check: SelfCheck, *, name: str) -> None:
    """Ask a model again what its self-check holds, as the run will ask it.

    Args:
        recognizer: On the device and in the number format of the run.
        self_check: Of its checkpoint.
        name: Of the checkpoint, for the message.

    Raises:
        StartupError: If classes or subwords differ at all, or a probability by more than the
            tolerance; names the difference, the spans, and the libraries on both sides.
    """
    difference = (
        _other_classes(recognizer.model, self_check)
        or _other_subwords(recognizer.model, self_check)
        or _other_answers(recognizer, self_check)
    )
    if difference is None:
        return
    found = library_versions()
    libraries = ", ".join(
        f"{library} {stored} then and {found.get(library, 'none')} now"
        for library, stored in self_check.versions.items()
    )
    dtype = str(recognizer.dtype).removeprefix("torch.")
    exact = "" if dtype == "float32" else ", or set recognize.dtype=float32"
    raise StartupError(
        f"{name}: does not answer as it did where it was trained: {difference} ({libraries}, "
        f"encoder in {dtype}); restore the checkpoint's files, or install the libraries it was "
        f"trained with{exact}; if that is wanted, delete {' and '.join(SELF_CHECK_FILES)} "
        "there to run unchecked"
    )


def _other_classes(model: SpanNER, self_check: SelfCheck) -> str | None:
    if model.label_set.classes == self_check.classes:
        return None
    were, are = ", ".join(self_check.classes), ", ".join(model.label_set.classes)
    return f"its classes were {were} and are {are}"


def _other_subwords(model: SpanNER, self_check: SelfCheck) -> str | None:
    ids, counts = _subwords(model, self_check.sentences)
    then = _per_sentence(self_check.subword_ids, self_check.subword_counts)
    now = _per_sentence(ids, counts)
    pairs = enumerate(zip(then, now, strict=True))
    others = [index for index, (old, new) in pairs if not np.array_equal(old, new)]
    if not others:
        return None
    return (
        f"its tokenizer gives other subwords for {len(others)} of {len(self_check.sentences)} "
        f"sentences, such as {' '.join(self_check.sentences[others[0]])!a}"
    )


def _other_answers(recognizer: Recognizer, self_check: SelfCheck) -> str | None:
    """What is wrong with the probabilities found; None if they are near the stored ones."""
    spans = recognizer.spans(self_check.sentences, floor=_EVERY_SPAN)
    if spans.probs.shape != self_check.log_probs.shape:
        return (
            f"it gave probabilities to {len(self_check.log_probs)} spans and now gives them to "
            f"{len(spans.probs)}"
        )
    if not len(spans.probs):
        return None
    tolerance = self_check.tolerance(recognizer.dtype)
    stored = np.exp(self_check.log_probs)
    distance = np.abs(spans.probs - stored).max(axis=1)  # (N,)
    second, first = np.partition(stored, -2, axis=1)[:, -2:].T
    flipped = (spans.probs.argmax(axis=1) != stored.argmax(axis=1)) & (first - second > tolerance)
    if distance.max() <= tolerance and not flipped.any():
        return None
    moved = np.flatnonzero((distance > tolerance) | flipped)
    worst = moved[np.argsort(-distance[moved], kind="stable")][:NAMED_SPANS]
    named = "; ".join(_describe(spans, int(row), self_check, stored) for row in worst)
    return (
        f"probabilities of {int((distance > tolerance).sum())} of {len(distance)} spans differ by "
        f"more than {tolerance:.3g}, the worst by {distance.max():.4f}, and {int(flipped.sum())} "
        f"labels changed; moved most: {named}"
    )


def _describe(spans: SpanTable, row: int, self_check: SelfCheck, stored: FloatArray) -> str:
    """One span with its most probable class then and now."""
    tokens = self_check.sentences[spans.sentence[row]][
        spans.start_token[row] : spans.end_token[row]
    ]
    then, now = (
        f"{self_check.classes[int(probs.argmax())]} {probs.max():.4f}"
        for probs in (stored[row], spans.probs[row])
    )
    return f"{' '.join(tokens)!a} {then} then and {now} now"


def _subwords(
    model: SpanNER, sentences: Sequence[Sequence[str]]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Subwords of all sentences, (L,), and how many each has, (S,)."""
    tokens = TokenTable.of(sentences)
    subwords = model.featurizer.subwords(tokens.words)
    before = np.cumsum([0, *subwords.counts_of(tokens.word)], dtype=np.int32)
    return subwords.of(tokens.word).astype(np.int32), np.diff(before[tokens.first])


def _per_sentence(ids: NDArray[np.int32], counts: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    return np.split(ids, np.cumsum(counts)[:-1]) if len(counts) else []
