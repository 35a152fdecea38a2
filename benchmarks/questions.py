"""Questions for the benchmark of Classification, and random LLMs to put them to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import torch

from benchmarks.workload import read_sentences
from examples.demo.llm_model import LABEL_SET, LlmSize, build_model, prompt_builder
from examples.demo.llm_tokenizer import train_tokenizer
from examples.demo.questions import stream_exercises
from linkner_ray.config import LlmConfig
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.errors import ConfigError
from linkner_ray.labels import LabelSet, load_label_set
from linkner_ray.llm.chat import AnswerSymbols, PromptEncoder
from linkner_ray.llm.prompts import Answer, Request, Verdict, choose_symbols
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.classify_spans import ClassifySpans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SIZES = {
    "small": LlmSize(),  # the demo's
    "big": LlmSize(width=512, num_layers=8, num_heads=8),
}

SHARPNESS = 8.0
"""Factor on what attention layers of a random model give: without it no word of a prompt outweighs
the last token, and every question gets the same answer."""

_TOKENIZER_QUESTIONS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The same questions as a stage and as an engine gets them.

    Attributes:
        documents: With the columns that `ClassifySpans` reads; every candidate is routed.
        label_set: Labels on offer.
        prompts: Token ids of each distinct question, in the order the stage asks them.
        symbol_ids: Token id of each class as a reply: labels, then non-entity.
    """

    documents: pa.Table
    label_set: LabelSet
    prompts: tuple[tuple[int, ...], ...]
    symbol_ids: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(prompt) for prompt in self.prompts)


class _Recorder:
    """A backend that only notes what it is asked, so that no question is rendered twice here."""

    decoding = "benchmark"

    def __init__(self, symbols: AnswerSymbols) -> None:
        self.symbols = symbols.symbols
        self.requests: list[Request] = []

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        self.requests += requests
        return [Answer(verdict=Verdict.FAILED, key=request.key) for request in requests]

    def describe(self) -> dict[str, str | int]:
        return {"backend": "recorder"}

    def close(self) -> None:
        return


def make_questions(
    documents: pa.Table,
    label_set: LabelSet,
    tokenizer: "PreTrainedTokenizerFast",
    *,
    count: int,
) -> Questions:
    """Cut documents to those with about `count` distinct questions, and encode these.

    Args:
        documents: With `sentences`, `candidates` and `routes`.
        label_set: Labels on offer.
        tokenizer: Of the model that will be asked.
        count: The last document that begins below it is the last one kept.
    """
    encoder = PromptEncoder(tokenizer, name="the benchmark's LLM")
    symbols = encoder.choose_symbols(len(label_set.classes))
    config = LlmConfig(backend="vllm", model="benchmark")
    kept, requests = 0, list[Request]()
    for kept in range(1, documents.num_rows + 1):
        recorder = _Recorder(symbols)
        ClassifySpans(recorder, label_set, config=config)(documents.slice(kept - 1, 1))
        requests = list(dict.fromkeys([*requests, *recorder.requests]))
        if len(requests) >= count:
            break
    prompts = [encoder.encode(request.fixed_part, request.user_message) for request in requests]
    return Questions(
        documents=documents.slice(0, kept),
        label_set=label_set,
        prompts=tuple(tuple(prompt) for prompt in prompts),
        symbol_ids=symbols.token_ids,
    )


def load_documents(corpus: str | None, label_set: str | None) -> tuple[pa.Table, LabelSet]:
    """Sentences whose gold spans are asked about, and the labels on offer.

    Args:
        corpus: CoNLL or SpanNER JSON; None for the demo's.
        label_set: Of the corpus; None for CoNLL03's, or the demo's with its corpus.

    Raises:
        ConfigError: If the corpus has no labelled span.
        DataError: If it is malformed or uses a label its label set lacks.
    """
    labels = load_label_set(label_set or (LABEL_SET if corpus is None else "conll03"))
    documents, gold = corpus_documents(read_sentences(corpus, labels), ids_prefix="benchmark")
    if not any(gold):
        raise ConfigError(f"{corpus}: has no labelled span; there is nothing to ask")
    candidates = [
        [
            {
                "sentence": 0, "start": entity.start, "end": entity.end, "label": None,
                "label_probs": None, "uncertainty": 1.0, "kind": "predicted",
            }
            for entity in row
        ]
        for row in gold
    ]  # fmt: skip
    columns = {"candidates": candidates, "routes": [["llm"] * len(row) for row in gold]}
    for name, values in columns.items():
        documents = documents.append_column(name, pa.array(values, type=STAGE_COLUMNS[name]))
    return documents, labels


def save_random_llm(folder: Path, size: LlmSize, *, short_fixed_part: bool) -> int:
    """Save an LLM of the demo's architecture with random weights and a tokenizer of its own.

    Args:
        folder: Made if it is not there.
        size: Of the model.
        short_fixed_part: Whether each line of the fixed part is one token, as in the demo; else
            it takes as many tokens as words and marks, as for an LLM that others trained.

    Returns:
        The number of its weights.
    """
    label_set = load_label_set(LABEL_SET)
    questions = prompt_builder(choose_symbols(len(label_set.classes)))
    exercises = islice(stream_exercises(("train", "llm"), seed=0), _TOKENIZER_QUESTIONS)
    texts = [questions.request(exercise.question).user_message for exercise in exercises]
    known = questions.fixed_part if short_fixed_part else ""
    texts += [questions.fixed_part] * 100
    tokenizer = train_tokenizer(texts, known, vocab_size=size.vocab_size)
    model = build_model(size, tokenizer, seed=0)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(SHARPNESS)
            layer.self_attn.v_proj.weight.mul_(SHARPNESS)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def shared_length(prompts: Iterable[Sequence[int]]) -> int:
    """Tokens that every prompt begins with."""
    columns = zip(*prompts, strict=False)
    return next((place for place, column in enumerate(columns) if len(set(column)) > 1), 0)
