"""A request to the LLM: what it says, word by word, and the name that its words give it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from linkner_ray.labels import NON_ENTITY
from linkner_ray.llm.context import Question

SPAN_OPEN, SPAN_CLOSE = "[[", "]]"
"""Marks around the span in question; no text from `render_context` contains them."""


class Demonstration(NamedTuple):
    """A question with its right answer."""

    question: Question
    class_id: str
    """Label id, or `labels.NON_ENTITY`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that can change the LLM's reply, and nothing else."""

    model: str
    revision: str | None
    fixed_part: str
    """Instructions and options; the words are ours and those of the label set."""

    fixed_demonstrations: str = ""
    """Demonstrations that most requests share; the words are those of a corpus."""

    near_demonstrations: str = ""
    """Demonstrations chosen for this question; the words are those of a corpus."""

    demonstrations: tuple[tuple[Demonstration, ...], tuple[Demonstration, ...]] = ((), ())
    """What the two parts above show, for writing the same request in another form."""

    question: Question
    options: tuple[tuple[str, str], ...]
    """Symbol and class id of each option, in the order they are offered."""

    classes: tuple[str, ...] = ()
    """Class ids in the order of `LabelSet.classes`, in which an answer has its probabilities; by
    default non-entity, then the labels as they are offered."""

    decoding: str
    """How the reply is produced, such as "one of the symbols, most probable"."""

    @property
    def messages(self) -> tuple[tuple[str, str], ...]:
        """Role and content of each chat message."""
        system = "\n\n".join(filter(None, (self.fixed_part, self.fixed_demonstrations)))
        return (("system", system), ("user", self.user_message))

    @property
    def user_message(self) -> str:
        """The question, which comes after the fixed part."""
        return "\n\n".join(filter(None, (self.near_demonstrations, render_question(self.question))))

    @property
    def class_order(self) -> tuple[str, ...]:
        """Class ids in the order in which an answer has its probabilities."""
        return self.classes or _offered_classes(self.options)

    @property
    def key(self) -> str:
        """Name of this request: equal for two requests only if any reply to one suits the other.

        The prefix names the recipe, so a later change of recipe cannot match an older name.
        """
        content: tuple[object, ...] = (
            self.model, self.revision, self.messages, self.options, self.decoding,
        )  # fmt: skip
        if self.class_order != _offered_classes(self.options):
            content += self.class_order
        canonical = json.dumps(content, separators=(",", ":"))
        return "k1:" + hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _offered_classes(options: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    labels = (class_id for _, class_id in options if class_id != NON_ENTITY)
    return (NON_ENTITY, *labels)


def render_question(question: Question) -> str:
    """Ask about a span: its text, then the marked span alone.

    Spans of one sentence have the text in common, so an engine that caches what prompts begin with
    computes it once. Where the words of the span stand in several places of the text, the one meant
    is marked there too.

    A single bracket of the text that touches a mark is set apart from it by a space, so that the
    marks are the only double brackets and their place is beyond doubt.
    """
    context, start, end = question
    span = question.span
    marked = (
        f"{SPAN_OPEN}{' ' if span.startswith('[') else ''}{span}"
        f"{' ' if span.endswith(']') else ''}{SPAN_CLOSE}"
    )
    if context.find(span, context.find(span) + 1) >= 0:
        before, after = context[:start], context[end:]
        before += " " if before.endswith("[") else ""
        after = f" {after}" if after.startswith("]") else after
        context = f"{before}{marked}{after}"
    return f"Text:\n{context}\n\nWhat is {marked} in this text?"
