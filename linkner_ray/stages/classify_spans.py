"""Classification: the LLM says what the uncertain spans are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import LlmConfig
from linkner_ray.errors import ContractError
from linkner_ray.labels import LabelSet
from linkner_ray.linking.same_name import share_answers
from linkner_ray.llm.backends import Backend
from linkner_ray.llm.context import AskedSpan, ContextSize, ask_span
from linkner_ray.llm.demonstrations import Demonstrations
from linkner_ray.llm.model_identity import model_revision
from linkner_ray.llm.prompts import Answer, PromptBuilder, Request, Verdict
from linkner_ray.schemas import ANSWER, ASKED_ROUTES, STAGE_COLUMNS, list_offsets, make_lists


class ClassifySpans:
    """`text, sentences, candidates, routes -> answers`: one question for each routed candidate.

    All questions of a table go to the backend at once, in the order of the documents, so that
    neighbours share what an engine has cached. Identical ones are asked once. Where the table has
    `known_answers` of an earlier run, a question with one of their keys is not asked. A candidate
    of route `same_name` gets the answer about its name.
    """

    reads: ClassVar[tuple[str, ...]] = ("text", "sentences", "candidates", "routes")
    adds: ClassVar[tuple[str, ...]] = ("answers",)

    def __init__(
        self,
        backend: Backend | None,
        label_set: LabelSet,
        *,
        config: LlmConfig,
        demonstrations: Demonstrations | None = None,
    ) -> None:
        """Take the backend and prepare what all questions share.

        Args:
            backend: The LLM; None for a run without one, where every route is local.
            label_set: Labels on offer.
            config: Model and revision by which requests are named, and the size of the context.
            demonstrations: Chooses solved questions to show; None to show none.
        """
        self.backend = backend
        self.demonstrations = demonstrations
        self.context_size = ContextSize(config.context_sentences, config.max_context_chars)
        if backend is not None:
            self.prompt_builder = PromptBuilder.for_label_set(
                label_set,
                backend.symbols,
                model=config.model,
                revision=model_revision(config),
                decoding=backend.decoding,
            )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add `answers`, aligned with `candidates`; null where no answer counts.

        Raises:
            BackendError: If the backend cannot answer any more.
            ContractError: If routes and candidates differ in number, or a candidate is routed to
                an LLM that this run does not have.
        """
        routes = batch["routes"].combine_chunks()
        asked = pc.is_in(routes.flatten(), pa.array(ASKED_ROUTES))
        routed = np.flatnonzero(asked.to_numpy(zero_copy_only=False))
        distinct, answer_of = self._ask(list(self._questions(batch, routed)), _known_answers(batch))
        indices = np.zeros(len(routes.flatten()), dtype=np.int64)
        is_local = np.ones(len(indices), dtype=bool)
        indices[routed], is_local[routed] = answer_of, False
        answers = pa.array([asdict(answer) for answer in distinct], type=ANSWER)
        shared = share_answers(batch, answers.take(pa.array(indices, mask=is_local)))
        column = make_lists(shared, list_offsets(routes), STAGE_COLUMNS["answers"])
        return batch.append_column("answers", column)

    def _ask(
        self, questions: Sequence[AskedSpan], known: Mapping[str, Answer]
    ) -> tuple[list[Answer], list[int]]:
        """Ask what differs and is not known, once.

        Returns:
            The answers to distinct questions, and for each question the index of its answer.
        """
        if not questions:
            return [], []
        if self.backend is None:
            raise ContractError(
                f"{len(questions)} candidates are routed to the LLM, but the run has none"
            )
        place_of: dict[AskedSpan, int] = {}
        answer_of = [place_of.setdefault(question, len(place_of)) for question in questions]
        requests = self._requests(list(place_of))
        if not known:
            return self.backend.ask(requests), answer_of
        answers = [known.get(request.key) for request in requests]
        unknown = [r for r, answer in zip(requests, answers, strict=True) if answer is None]
        told = iter(self.backend.ask(unknown) if unknown else ())
        return [answer or next(told) for answer in answers], answer_of

    def _requests(self, questions: Sequence[AskedSpan]) -> list[Request]:
        if self.demonstrations is None:
            return [self.prompt_builder.request(asked.question) for asked in questions]
        shown = self.demonstrations.choose(questions)
        return [
            self.prompt_builder.request(asked.question, fixed=chosen.fixed, near=chosen.near)
            for asked, chosen in zip(questions, shown, strict=True)
        ]

    def _questions(self, batch: pa.Table, routed: np.ndarray) -> Iterator[AskedSpan]:
        """Render the candidates of the given flat indices, in the order of the documents."""
        candidates = batch["candidates"].combine_chunks()
        if len(candidates.flatten()) != len(batch["routes"].combine_chunks().flatten()):
            raise ContractError("ClassifySpans: `routes` is not aligned with `candidates`")
        rows = np.searchsorted(list_offsets(candidates), routed, side="right") - 1
        chosen = candidates.flatten().take(pa.array(routed))
        sentence, start, end = (chosen.field(n).to_pylist() for n in ("sentence", "start", "end"))
        shown_row, text, bounds = -1, "", []
        for place, row in enumerate(rows.tolist()):
            if row != shown_row:
                shown_row, text = row, batch["text"][row].as_py()
                bounds = _sentence_bounds(batch["sentences"][row])
            yield ask_span(
                text,
                bounds,
                index=sentence[place],
                span=(start[place], end[place]),
                size=self.context_size,
            )


def _known_answers(batch: pa.Table) -> dict[str, Answer]:
    """Answers of an earlier run about the documents of a table, by key; source `previous`."""
    if "known_answers" not in batch.column_names:
        return {}
    kept = batch["known_answers"].combine_chunks().flatten().to_pylist()
    return {
        row["key"]: Answer(
            verdict=Verdict(row["verdict"]),
            label=row["label"],
            probs=None if row["probs"] is None else tuple(row["probs"]),
            key=row["key"],
            source="previous",
            prompt_tokens=row["prompt_tokens"],
        )
        for row in kept
    }


def _sentence_bounds(sentences: pa.ListScalar) -> list[tuple[int, int]]:
    """Start and end of each sentence, without touching its tokens."""
    values = sentences.values
    return list(
        zip(values.field("start").to_pylist(), values.field("end").to_pylist(), strict=True)
    )
