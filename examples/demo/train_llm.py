"""The recipe of the demo's LLM: a small Llama that answers the closed question of `llm.prompts`.

    python -m examples.demo.train_llm --output examples/demo/llm

The demo itself trains no LLM: it takes the folder `examples/demo/llm`, which this script wrote. Run
it again when the prompt, the label set `demo`, a name or a template changes.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from examples.demo.llm_model import (
    LABEL_SET,
    Batch,
    LlmSize,
    QuestionEncoder,
    Scores,
    answer_logits,
    build_model,
    page_exercises,
    prompt_builder,
    score_answers,
)
from examples.demo.llm_tokenizer import train_tokenizer
from examples.demo.names import read_names, surname_of
from examples.demo.questions import Exercise, stream_exercises
from linkner_ray.labels import load_label_set
from linkner_ray.llm.prompts import choose_symbols
from linkner_ray.reporting.tables import markdown_table

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

LEARNING_USES = ("train", "llm")
DEV_USES = ("dev",)
"""Uses of templates it learns from, and those that show how far it is."""

CARD = Path(__file__).with_name("llm_card.md")


@dataclass(frozen=True, kw_only=True)
class LlmTraining:
    """How long and how fast it learns."""

    size: LlmSize = field(default_factory=LlmSize)
    num_steps: int = 800
    batch_size: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 40
    evaluate_every: int = 100
    num_dev: int = 600
    num_tokenizer_questions: int = 8000
    """Questions the tokenizer's merges are learnt from."""


class LlmReport(NamedTuple):
    """Result of training.

    Attributes:
        pages: Right answers on questions about sentences of the crawl pages.
        num_parameters: Weights of the model.
    """

    pages: Scores
    num_parameters: int


def train_llm(
    output: str | Path,
    *,
    seed: int = 0,
    training: LlmTraining = LlmTraining(),
    progress: Callable[[str], None] = print,
) -> LlmReport:
    """Train the demo's LLM and save it in Hugging Face format, weights in float16, with its card.

    Args:
        output: Folder, made if it is not there.
        seed: Decides the examples and the first weights.
        training: Size, length and speed.
        progress: Is given a line every `evaluate_every` steps.
    """
    tokenizer = _train_tokenizer(training, seed)
    encoder = QuestionEncoder(tokenizer)
    model = build_model(training.size, tokenizer, seed=seed)
    _fit(model, encoder, training, seed=seed, progress=progress)
    folder = Path(output)
    _save(folder, model, tokenizer)
    report = LlmReport(
        pages=score_answers(_reload(folder), encoder, page_exercises()),
        num_parameters=sum(weight.numel() for weight in model.parameters()),
    )
    write_card(folder, report, training)
    return report


def _fit(
    model: "LlamaForCausalLM",
    encoder: QuestionEncoder,
    training: LlmTraining,
    *,
    seed: int,
    progress: Callable[[str], None],
) -> None:
    dev = list(islice(_exercises(DEV_USES, seed + 1), training.num_dev))
    optimisers = _make_optimisers(model, training)
    batches = _batches(encoder, training.batch_size, seed)
    begun = time.monotonic()
    for step in range(training.num_steps):
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
        if (step + 1) % training.evaluate_every == 0:
            progress(
                f"step {step + 1}/{training.num_steps}, loss {loss.item():.3f}, dev accuracy "
                f"{score_answers(model, encoder, dev).accuracy:.3f}, "
                f"{time.monotonic() - begun:.0f} s"
            )


def _make_optimisers(
    model: "LlamaForCausalLM", training: LlmTraining
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices between embedding and head, AdamW for the rest; one rate for both."""
    matrices = [w for w in model.model.layers.parameters() if w.ndim == 2]
    known = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in known]
    # Its steps are as large as those of AdamW, so that one rate serves both.
    muon = torch.optim.Muon(
        matrices, lr=training.learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(
        others, lr=training.learning_rate, weight_decay=0.01, betas=(0.9, 0.98)
    )
    return muon, adamw


def _pace(step: int, training: LlmTraining) -> float:
    """Learning rate as a share of its maximum: linear up, then linear down to a twentieth."""
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    left = (training.num_steps - step) / max(training.num_steps - training.warmup_steps, 1)
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
    questions = prompt_builder(symbols)
    exercises = islice(_exercises(LEARNING_USES, seed), training.num_tokenizer_questions)
    texts = [questions.request(exercise.question).user_message for exercise in exercises]
    for name in read_names():
        texts += [f"[[{form}]] {form}" for form in (name.text, surname_of(name)) if form] * 2
    return train_tokenizer(texts, questions.fixed_part, vocab_size=training.size.vocab_size)


def _save(output: Path, model: "LlamaForCausalLM", tokenizer: "PreTrainedTokenizerFast") -> None:
    """Save everything but the card.

    The weights are rounded to float16, which halves the file; the config says float32, so that a
    processor, which computes float16 slowly if at all, computes in float32.
    """
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    weights = load_file(output / "model.safetensors")
    halved = {name: weight.to(torch.float16) for name, weight in weights.items()}
    save_file(halved, output / "model.safetensors", metadata={"format": "pt"})


def _reload(folder: Path) -> "LlamaForCausalLM":
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def write_card(folder: Path, report: LlmReport, training: LlmTraining) -> None:
    """Write the model card, `README.md`, with the accuracy by label of the saved weights."""
    accuracy = {
        label: (right / total, total) for label, (right, total) in report.pages.by_class.items()
    }
    accuracy["all"] = report.pages.accuracy, report.pages.total
    card = CARD.read_text(encoding="utf-8").format(
        num_parameters=report.num_parameters,
        num_steps=training.num_steps,
        batch_size=training.batch_size,
        num_names=len({name.text for name in read_names()}),
        accuracy=markdown_table(
            {"label": label, "accuracy": f"{share:.3f}", "questions": f"{total:,}"}
            for label, (share, total) in accuracy.items()
        ),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def main() -> None:
    """Train it as the demo's is trained."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0, help="the demo's own is 0")
    options = parser.parse_args()
    report = train_llm(options.output, seed=options.seed)
    print(f"accuracy on questions about the pages {report.pages.accuracy:.3f}; {options.output}")


if __name__ == "__main__":
    main()
