"""The demo's LLM: a small Llama that learns to answer the closed question of `llm.prompts`.

It knows the names of the demo and nothing else.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from linkner_ray.demo.llm_model import (
    LABEL_SET,
    Batch,
    LlmSize,
    QuestionEncoder,
    answer_logits,
    build_model,
    measure_accuracy,
    questionnaire,
)
from linkner_ray.demo.llm_tokenizer import train_tokenizer
from linkner_ray.demo.muon import Muon
from linkner_ray.demo.names import read_names, surname_of
from linkner_ray.demo.questions import Exercise, stream_exercises
from linkner_ray.labels import load_label_set
from linkner_ray.llm.prompts import choose_symbols

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

LEARNING_USES = ("train", "llm")
DEV_USES = ("dev",)
"""Uses of templates it learns from, and those on which it is stopped."""


@dataclass(frozen=True, kw_only=True)
class LlmTraining:
    """How long and how fast it learns."""

    size: LlmSize = field(default_factory=LlmSize)
    max_steps: int = 800
    batch_size: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 40
    evaluate_every: int = 100
    num_dev: int = 600
    target_accuracy: float = 0.98
    """Dev accuracy at which training stops early."""

    num_tokenizer_questions: int = 8000
    """Questions the tokenizer's merges are learnt from."""

    max_seconds: float = 900.0
    """Wall-clock time after which it stops at the next step, done or not: many times what two slow
    cores need, since a model that was stopped early answers worse than the local one."""

    report_every_s: float = 5.0


class LlmReport(NamedTuple):
    """What came of training.

    Attributes:
        steps: Optimiser steps done.
        accuracy: Share of right answers on dev questions, from templates never learnt from.
        seconds: Wall-clock time.
        num_parameters: Weights of the model.
        num_shared_tokens: Length of what all prompts share.
    """

    steps: int
    accuracy: float
    seconds: float
    num_parameters: int
    num_shared_tokens: int


def train_llm(
    output: str | Path,
    *,
    seed: int = 0,
    training: LlmTraining = LlmTraining(),
    progress: Callable[[str], None] = logger.info,
) -> LlmReport:
    """Train the demo's LLM and save it in Hugging Face format.

    Args:
        output: Folder, made if it is not there.
        seed: Decides the examples and the first weights; the demo's own seed.
        training: Size, speed and limits.
        progress: Is given one line every few seconds.
    """
    begun = time.monotonic()
    tokenizer = _train_tokenizer(training, seed)
    encoder = QuestionEncoder(tokenizer)
    model = build_model(training.size, tokenizer, seed=seed)
    steps, accuracy = _fit(model, encoder, training, seed=seed, progress=progress)
    report = LlmReport(
        steps=steps,
        accuracy=accuracy,
        seconds=time.monotonic() - begun,
        num_parameters=sum(weight.numel() for weight in model.parameters()),
        num_shared_tokens=len(encoder.shared_ids),
    )
    _save(Path(output), model, tokenizer, report)
    return report


def _fit(
    model: "LlamaForCausalLM",
    encoder: QuestionEncoder,
    training: LlmTraining,
    *,
    seed: int,
    progress: Callable[[str], None],
) -> tuple[int, float]:
    """Train until the dev questions are answered well enough; give steps and dev accuracy."""
    dev = list(islice(_exercises(DEV_USES, seed + 1), training.num_dev))
    optimisers = _make_optimisers(model, training)
    batches = _batches(encoder, training.batch_size, seed)
    begun = reported = time.monotonic()
    accuracy, step = 0.0, 0
    while step < training.max_steps and time.monotonic() - begun < training.max_seconds:
        model.train()
        batch = next(batches)
        logits = answer_logits(model, encoder.shared_ids, batch)
        loss = torch.nn.functional.cross_entropy(logits, batch.answers)
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate * _pace(step, training)
            optimiser.step()
        step += 1
        if step % training.evaluate_every == 0:
            accuracy = measure_accuracy(model, encoder, dev)
            if accuracy >= training.target_accuracy:
                break
        if time.monotonic() - reported >= training.report_every_s:
            reported = time.monotonic()
            progress(
                f"step {step}/{training.max_steps}, loss {loss.item():.3f}, dev accuracy "
                f"{accuracy:.3f}, {reported - begun:.0f} s"
            )
    return step, measure_accuracy(model, encoder, dev)


def _make_optimisers(
    model: "LlamaForCausalLM", training: LlmTraining
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices between embedding and head, AdamW for the rest; one rate for both."""
    matrices = [w for w in model.model.layers.parameters() if w.ndim == 2]
    known = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in known]
    muon = Muon(matrices, lr=training.learning_rate, weight_decay=0.01)
    adamw = torch.optim.AdamW(
        others, lr=training.learning_rate, weight_decay=0.01, betas=(0.9, 0.98)
    )
    return muon, adamw


def _pace(step: int, training: LlmTraining) -> float:
    """Learning rate as a share of its maximum: linear up, then linear down to a twentieth."""
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    left = (training.max_steps - step) / max(training.max_steps - training.warmup_steps, 1)
    return max(left, 0.05)


def _exercises(uses: tuple[str, ...], seed: int) -> Iterator[Exercise]:
    return stream_exercises(uses, seed=seed, noisy=uses == LEARNING_USES)


def _batches(encoder: QuestionEncoder, batch_size: int, seed: int) -> Iterator[Batch]:
    """Encode batches of questions of about equal length, without end."""
    exercises = _exercises(LEARNING_USES, seed)
    generator = torch.Generator().manual_seed(seed)
    while True:
        pool = sorted(islice(exercises, batch_size * 16), key=lambda e: len(e.question.context))
        for place in torch.randperm(16, generator=generator).tolist():
            yield encoder.batch(pool[place * batch_size : (place + 1) * batch_size])


def _train_tokenizer(training: LlmTraining, seed: int) -> "PreTrainedTokenizerFast":
    """Train the tokenizer on prompts, and on every name where a mark or a blank comes before."""
    symbols = choose_symbols(len(load_label_set(LABEL_SET).classes))
    questions = questionnaire(symbols)
    exercises = islice(_exercises(LEARNING_USES, seed), training.num_tokenizer_questions)
    texts = [questions.request(exercise.question).user_message for exercise in exercises]
    for name in read_names():
        texts += [f"[[{form}]] {form}" for form in (name.text, surname_of(name)) if form] * 2
    return train_tokenizer(texts, questions.fixed_part, vocab_size=training.size.vocab_size)


def _save(
    output: Path,
    model: "LlamaForCausalLM",
    tokenizer: "PreTrainedTokenizerFast",
    report: LlmReport,
) -> None:
    from transformers import GenerationConfig

    output.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    card = (resources.files("linkner_ray.demo") / "llm_card.md").read_text(encoding="utf-8")
    (output / "README.md").write_text(
        card.format(
            num_parameters=report.num_parameters,
            accuracy=report.accuracy,
            steps=report.steps,
            num_names=len({name.text for name in read_names()}),
        ),
        encoding="utf-8",
    )
