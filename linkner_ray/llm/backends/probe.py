"""The questions at a start: whether an LLM answers in the form it is asked for."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from linkner_ray.errors import StartupError
from linkner_ray.labels import NON_ENTITY, LabelSet
from linkner_ray.llm.answers import Answer, Verdict
from linkner_ray.llm.context import Question
from linkner_ray.llm.prompts import PromptBuilder
from linkner_ray.llm.requests import Request

logger = logging.getLogger(__name__)

_SENTENCE = "Ada Lovelace worked for Siemens in London."

_KNOWN = (
    ("Ada Lovelace", {"per", "person", "people"}),
    ("Siemens", {"org", "organization", "organisation", "company", "corporation"}),
    ("London", {"loc", "location", "gpe", "place", "city"}),
)
"""Spans of the sentence, and the ids and names of labels that are right for them."""

_NO_NAME = "worked for"

_LITTLE_MASS = 0.5
"""Probability on the options below which an LLM would rather say something else."""

MIN_ENGINE_MASS = 0.001
"""A model that has to think first, or that does not know the form, leaves the options less; a small
model that answers badly leaves them more."""


class Known(NamedTuple):
    """A question and its right answer."""

    request: Request
    class_id: str


def known_questions(
    label_set: LabelSet, symbols: Sequence[str], *, model: str, decoding: str
) -> list[Known]:
    """Short questions of the usual form: about names whose labels are on offer, and about none."""
    builder = PromptBuilder.for_label_set(label_set, symbols, model=model, decoding=decoding)
    answers = {_NO_NAME: NON_ENTITY}
    for span, names in _KNOWN:
        for label in label_set.labels:
            if names & {label.id.casefold(), label.name.casefold()}:
                answers.setdefault(span, label.id)
    return [
        Known(builder.request(Question(_SENTENCE, start, start + len(span))), class_id)
        for span, class_id in answers.items()
        if (start := _SENTENCE.index(span)) >= 0
    ]


class Findings(NamedTuple):
    """What a start shows of an LLM."""

    mass: float
    """Mean probability on the options, before anything else is ruled out."""

    num_right: int
    num_unreadable: int
    num_asked: int

    @classmethod
    def of(
        cls, known: Sequence[Known], answers: Sequence[Answer], masses: Sequence[float]
    ) -> "Findings":
        """Hold answers against the right ones."""
        given = [
            a.label or (NON_ENTITY if a.verdict is Verdict.NON_ENTITY else "") for a in answers
        ]
        return cls(
            mass=sum(masses) / len(masses),
            num_right=sum(map(str.__eq__, given, (one.class_id for one in known))),
            num_unreadable=sum(answer.verdict is Verdict.UNREADABLE for answer in answers),
            num_asked=len(known),
        )

    def describe(self) -> dict[str, str | int]:
        """For the description of a backend."""
        return {
            "start_option_mass": f"{self.mass:.3g}",
            "start_right": f"{self.num_right} of {self.num_asked}",
        }

    def check(self, who: str, *, min_mass: float) -> None:
        """Say what was found, and refuse an LLM that cannot answer; a bad one may.

        Raises:
            StartupError: If most answers could not be read, or nearly nothing lies on the options.
        """
        log = logger.info if self.mass >= _LITTLE_MASS else logger.warning
        log(
            "%s puts a probability of %.3g on the options it is offered, and is right in %d of %d "
            "questions whose answers are known",
            who, self.mass, self.num_right, self.num_asked,
        )  # fmt: skip
        if 2 * self.num_unreadable > self.num_asked or self.mass < min_mass:
            raise StartupError(
                f"{who} cannot answer in the form it is asked for: {self.num_unreadable} of "
                f"{self.num_asked} answers to first questions are none of the options, and a "
                f"probability of {self.mass:.3g} lies on them. A model that thinks before it "
                "answers has to be served with thinking off; otherwise choose an "
                "instruction-tuned model"
            )
