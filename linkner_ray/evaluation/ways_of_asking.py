"""The ways in which an LLM can be asked, and what each takes.

A way is a form of the answers and a kind of demonstrations. The config may leave them open.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import DemonstrationsConfig, LlmConfig, RecognizeConfig
from linkner_ray.errors import ConfigError, StartupError, counted
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends import Backend, open_cache
from linkner_ray.llm.backends.forms import usual_symbols
from linkner_ray.llm.backends.recorder import Recorder
from linkner_ray.llm.demonstrations import Demonstrations
from linkner_ray.llm.span_vectors import is_checkpoint
from linkner_ray.logs.progress import step
from linkner_ray.runs.bill import price_of
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.demonstration_source import load_demonstrations, pin_demonstrations

logger = logging.getLogger(__name__)

ASKED_TOGETHER = 256
"""Candidates, or a sentence's more, whose questions an LLM gets at once."""

CALLS_AT_ONCE = 2
"""So that an engine has questions while the answers to others are kept."""


def ways_of(llm: LlmConfig, recognize: RecognizeConfig, label_set: LabelSet) -> list[LlmConfig]:
    """Every way of asking that a config leaves open.

    Letters and names are tried where a vLLM engine is asked with `llm.answer_form = auto`; all
    kinds of demonstrations where there is a corpus and `llm.demonstrations.kind` is not set. The
    checkpoint says which spans are alike, unless another encoder is named.
    """
    if llm.backend == "replay":
        return [llm]  # answers were recorded in one way
    forms: Sequence[str] = [llm.answer_form]
    if llm.backend == "vllm" and llm.answer_form == "auto":
        forms = [form for form in ("symbol", "name") if _is_offered(llm, form, label_set)]
    shown = llm.demonstrations
    kinds: Sequence[str] = [shown.kind]
    if shown.corpus and "kind" not in shown.model_fields_set:
        kinds = ["none", "random", "nearest"]
    if "encoder" not in shown.model_fields_set and is_checkpoint(recognize.checkpoint):
        shown = shown.model_copy(update={"encoder": recognize.checkpoint})
    return [
        llm.model_copy(
            update={
                "answer_form": form,
                "demonstrations": pin_demonstrations(shown.model_copy(update={"kind": kind})),
            }
        )
        for form, kind in product(forms, kinds)
    ]


def _is_offered(llm: LlmConfig, form: str, label_set: LabelSet) -> bool:
    """Whether there are symbols for all options, as far as is known without a tokenizer."""
    try:
        usual_symbols(llm.model_copy(update={"answer_form": form}), len(label_set.classes))
    except ConfigError:
        return False
    return True


class Cost(NamedTuple):
    """What asking about some documents takes in one way.

    Attributes:
        questions: Distinct ones whose answer is not at hand.
        tokens: Of their prompts.
        tokens_each: Of a prompt, known ones among them.
    """

    questions: int
    tokens: int
    tokens_each: float


class Asker:
    """Asks an LLM in several ways; an engine ends before one for another form of answers starts."""

    def __init__(self, chain: Chain) -> None:
        """Start nothing yet.

        Args:
            chain: Says all but the way of asking.
        """
        self._chain = chain
        self._backend: Backend | None = None
        self._form: str | None = None
        self._demonstrations: dict[DemonstrationsConfig, Demonstrations | None] = {}

    @property
    def label_set(self) -> LabelSet:
        """Labels on offer."""
        return self._chain.label_set

    def cost(self, llm: LlmConfig, table: pa.Table) -> Cost:
        """What asking would take; nobody is asked.

        Raises:
            StartupError: If the LLM's tokenizer has no symbols or names of this form.
        """
        recorder = Recorder(llm, self.label_set)
        answers = apply_stage(self._stage(llm, recorder), table)["answers"]
        asked = answers.combine_chunks().flatten()
        keys = asked.field("key").to_pylist()
        tokens = dict(zip(keys, asked.field("prompt_tokens").to_pylist(), strict=True))
        cache, known = self._chain.cache.path, set()
        if cache:
            known = set(open_cache(cache, llm, self.label_set).find(list(tokens)))
        new = [number for key, number in tokens.items() if key not in known]
        each = sum(tokens.values()) / max(1, len(tokens))
        return Cost(questions=len(new), tokens=sum(new), tokens_each=each)

    def ask(self, llm: LlmConfig, table: pa.Table) -> pa.Table:
        """The documents with the answers to their routes; an answer cache keeps them part by part.

        Raises:
            StartupError: If the LLM does not start, or does not answer in this form.
            BackendError: If it can answer no more.
        """
        if self._form != llm.answer_form:
            self.close()
            self._backend = replace(self._chain, llm=llm).start_llm()
            self._form = llm.answer_form
        stage, parts, answered = self._stage(llm, self._backend), list(_parts(table)), []
        sizes = np.cumsum([len(part["routes"].combine_chunks().flatten()) for part in parts])
        with step("questions", int(sizes[-1])) as shown, ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            shown.update(0)
            for done, part in zip(
                sizes.tolist(), pool.map(partial(apply_stage, stage), parts), strict=True
            ):
                answered.append(part)
                shown.update(done)
        return pa.concat_tables(answered).combine_chunks()

    def _stage(self, llm: LlmConfig, backend: Backend | None) -> ClassifySpans:
        wanted = llm.demonstrations
        if wanted not in self._demonstrations:
            self._demonstrations[wanted] = load_demonstrations(llm, self.label_set)
        shown = self._demonstrations[wanted]
        return ClassifySpans(backend, self.label_set, config=llm, demonstrations=shown)

    def close(self) -> None:
        """End the engine that was started last."""
        backend, self._backend, self._form = self._backend, None, None
        if backend is not None:
            backend.close()

    def __enter__(self) -> Self:
        """Nothing more to start."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the engine that was started last."""
        self.close()


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    """Some sentences at a time, in their order."""
    ends = np.cumsum(pc.list_value_length(table["routes"]).to_numpy())
    first = 0
    while first < max(1, table.num_rows):
        before = ends[first - 1] if first else 0
        end = max(first + 1, int(np.searchsorted(ends, before + ASKED_TOGETHER, side="right")))
        yield table.slice(first, end - first)
        first = end


def costs_of(asker: Asker, ways: Sequence[LlmConfig], table: pa.Table) -> dict[LlmConfig, Cost]:
    """What each way takes; a form that the tokenizer has no words for is left out.

    Raises:
        StartupError: If there is none that it has words for.
    """
    costs, failed = {}, None
    for llm in ways:
        try:
            costs[llm] = asker.cost(llm, table)
        except StartupError as error:
            failed = failed or error
            logger.warning("llm.answer_form = %s is left out: %s", llm.answer_form, error)
    if failed is not None and not costs:
        raise failed
    return costs


def describe_costs(
    costs: Mapping[LlmConfig, Cost], table: pa.Table, rest: pa.Table, *, of: int, llm: LlmConfig
) -> str:
    """What is going to be asked, in a line for each step.

    Args:
        costs: What asking about the first documents takes in each way.
        table: The first documents.
        rest: Those that are asked about later, in the best way.
        of: Number of documents there are.
        llm: Names a price, if there is one.
    """
    questions = sum(cost.questions for cost in costs.values())
    tokens = sum(cost.tokens for cost in costs.values())
    sentences = f"{table.num_rows:,} of {counted(of, 'sentence')}"
    lines = [f"{counted(questions, 'question')} about {sentences}"]
    if len(costs) > 1:
        lines[0] += f", in {len(costs)} ways that are compared"
    lines[0] += _bill(llm, tokens)
    if rest.num_rows:
        num = len(rest["candidates"].combine_chunks().flatten())
        most = num * max(cost.tokens_each for cost in costs.values())
        lines.append(
            f"then at most {counted(num, 'question')} about {counted(rest.num_rows, 'sentence')} "
            f"more, in the best way{_bill(llm, most)}"
        )
    return "\n".join(lines)


def _bill(llm: LlmConfig, tokens: float) -> str:
    if llm.backend == "replay":
        return ""
    price = price_of(llm, prompt_tokens=tokens, gpu_hours=0.0)
    return f"; {tokens:,.0f} prompt tokens" + ("" if price is None else f", price {price:,.2f}")
