"""The demo's LLM as a network: its size, its input, and the scores of its answers.

Letters: B questions, T tokens of a question after what all prompts share, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from examples.demo.questions import Exercise, stream_exercises
from linkner_ray.labels import load_label_set
from linkner_ray.llm.chat import PromptEncoder
from linkner_ray.llm.prompts import PromptBuilder

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

LABEL_SET = "demo"
NUM_PAGE_EXERCISES = 2000


@dataclass(frozen=True, kw_only=True)
class LlmSize:
    """Size of the model."""

    vocab_size: int = 6000
    width: int = 128
    num_layers: int = 3
    num_heads: int = 4
    max_positions: int = 2048


class Batch(NamedTuple):
    """Questions after what they share, padded on the right.

    Attributes:
        token_ids: Shape (B, T).
        lengths: Tokens of each question, at least 1. Shape (B,).
        answers: Token id of each right answer. Shape (B,).
    """

    token_ids: Tensor
    lengths: Tensor
    answers: Tensor


@dataclass(frozen=True)
class Scores:
    """Right answers and questions, by class of the right answer."""

    by_class: Mapping[str, tuple[int, int]]

    @property
    def total(self) -> int:
        """Questions."""
        return sum(total for _, total in self.by_class.values())

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return sum(right for right, _ in self.by_class.values()) / self.total


class QuestionEncoder:
    """Turns exercises into token ids, by the same functions as production."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        label_set = load_label_set(LABEL_SET)
        self._prompts = PromptEncoder(tokenizer, name="the demo's LLM")
        symbols = self._prompts.choose_symbols(len(label_set.classes))
        self._prompt_builder = prompt_builder(symbols.symbols)
        self._pad_id = tokenizer.pad_token_id
        self.answer_ids = {
            option.class_id: token_id
            for option, token_id in zip(
                self._prompt_builder.options, symbols.token_ids, strict=True
            )
        }
        """Token id by which each class is named."""

        probes = islice(stream_exercises(("dev",), seed=0), 32)
        self.shared_ids = _common_beginning([self._encode(probe) for probe in probes])
        """What every prompt begins with."""

    def batch(self, exercises: Sequence[Exercise]) -> Batch:
        """Encode exercises."""
        rows = [self._encode(exercise)[len(self.shared_ids) :] for exercise in exercises]
        lengths = torch.tensor([len(row) for row in rows])
        token_ids = torch.full((len(rows), int(lengths.max())), self._pad_id)
        for index, row in enumerate(rows):
            token_ids[index, : len(row)] = torch.tensor(row)
        answers = torch.tensor([self.answer_ids[exercise.class_id] for exercise in exercises])
        return Batch(token_ids, lengths, answers)

    def _encode(self, exercise: Exercise) -> list[int]:
        request = self._prompt_builder.request(exercise.question)
        return self._prompts.encode(request.fixed_part, request.user_message)


def prompt_builder(symbols: Sequence[str]) -> PromptBuilder:
    """Give the questions of the demo's label set behind the symbols of a tokenizer."""
    return PromptBuilder.for_label_set(
        load_label_set(LABEL_SET), symbols, model="demo", decoding="training"
    )


def build_model(
    size: LlmSize, tokenizer: "PreTrainedTokenizerFast", *, seed: int
) -> "LlamaForCausalLM":
    """Make the model with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=3 * size.width,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads,
        num_key_value_heads=size.num_heads,
        max_position_embeddings=size.max_positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]


def answer_logits(model: "LlamaForCausalLM", shared_ids: Sequence[int], batch: Batch) -> Tensor:
    """Score every token as the answer to each question.

    What the prompts share goes through the model once for the batch, with gradients.

    Args:
        model: The LLM.
        shared_ids: What every prompt begins with; P of them.
        batch: The questions.

    Returns:
        Unnormalised scores. Shape (B, V).
    """
    num_questions, num_tokens = batch.token_ids.shape
    shared = model.model(torch.tensor([list(shared_ids)]), use_cache=True)
    cache = shared.past_key_values
    cache.batch_repeat_interleave(num_questions)
    positions = torch.arange(num_tokens)
    seen = torch.ones(num_questions, len(shared_ids), dtype=torch.long)
    mask = torch.cat([seen, (positions < batch.lengths[:, None]).long()], dim=1)  # (B, P + T)
    hidden = model.model(
        batch.token_ids,
        attention_mask=mask,
        position_ids=(positions + len(shared_ids))[None],
        past_key_values=cache,
    ).last_hidden_state
    last = hidden[torch.arange(num_questions), batch.lengths - 1]
    return model.lm_head(last)


def page_exercises() -> list[Exercise]:
    """Questions about sentences of the templates of pages, from which no model has learnt."""
    return list(islice(stream_exercises(("pages",), seed=0), NUM_PAGE_EXERCISES))


def score_answers(
    model: "LlamaForCausalLM", encoder: QuestionEncoder, exercises: Sequence[Exercise]
) -> Scores:
    """Count the questions whose right answer is the most probable of those on offer."""
    allowed = torch.tensor(sorted(encoder.answer_ids.values()))
    by_class = dict.fromkeys(encoder.answer_ids, (0, 0))
    ordered = sorted(exercises, key=lambda exercise: len(exercise.question.context))
    model.train(mode=False)
    for first in range(0, len(ordered), 64):
        asked = ordered[first : first + 64]
        batch = encoder.batch(asked)
        with torch.inference_mode():
            logits = answer_logits(model, encoder.shared_ids, batch)
        is_right = allowed[logits[:, allowed].argmax(dim=1)] == batch.answers
        for exercise, one in zip(asked, is_right.tolist(), strict=True):
            right, total = by_class[exercise.class_id]
            by_class[exercise.class_id] = (right + one, total + 1)
    return Scores({class_id: counts for class_id, counts in by_class.items() if counts[1]})


def _common_beginning(rows: Sequence[Sequence[int]]) -> list[int]:
    """Give the longest list that every row begins with."""
    shared: list[int] = []
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return shared
