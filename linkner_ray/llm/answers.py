"""Answers, and how a reply is read as one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from linkner_ray.labels import NON_ENTITY, LabelSet
from linkner_ray.llm.requests import Request

NON_ENTITY_NAME = "non-entity"
"""What an LLM is told, and may reply, for a span that is no entity."""


class Verdict(StrEnum):
    """What came of asking; fusion treats each one differently and the report counts them."""

    LABEL = "label"
    NON_ENTITY = "non_entity"
    UNREADABLE = "unreadable"  # a reply, but none of the options
    FAILED = "failed"  # no reply after the last try


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The reading of one reply; all but the latency is what `schemas.ANSWER` stores."""

    verdict: Verdict
    label: str | None = None
    """Label id; None unless the verdict is LABEL."""

    probs: tuple[float, ...] | None = None
    """Probability of each class in the order of `LabelSet.classes`, non-entity first; None where
    the backend gives none."""

    key: str
    source: str = "llm"
    """`llm`, or for an answer that was not asked for now `cache` or `previous`, another run."""

    prompt_tokens: int | None = None
    latency_s: float | None = None
    """Seconds from handing the request over to its answer, waiting for its turn included."""

    @classmethod
    def of_class(
        cls,
        class_id: str,
        *,
        key: str,
        probs: tuple[float, ...] | None = None,
        prompt_tokens: int | None = None,
    ) -> Self:
        """The answer that a span is of a class, which may be non-entity."""
        is_entity = class_id != NON_ENTITY
        return cls(
            verdict=Verdict.LABEL if is_entity else Verdict.NON_ENTITY,
            label=class_id if is_entity else None,
            probs=probs,
            key=key,
            prompt_tokens=prompt_tokens,
        )


def read_probs(
    request: Request, weights: Mapping[str, float], *, prompt_tokens: int | None = None
) -> Answer:
    """Read the weight of each symbol as a distribution over the classes.

    Args:
        request: What was asked.
        weights: Symbol to a weight of at least 0; a missing symbol weighs 0. Their sum need not
            be 1, but must be above 0.
        prompt_tokens: Tokens of the rendered prompt.

    Returns:
        The answer of the most probable class; equal classes go to the one offered first. FAILED
        where the weights are no numbers: an LLM that computes NaN has not answered.
    """
    total = sum(weights.get(symbol, 0.0) for symbol, _ in request.options)
    if not math.isfinite(total):
        return Answer(verdict=Verdict.FAILED, key=request.key, prompt_tokens=prompt_tokens)
    probs = {class_id: weights.get(symbol, 0.0) / total for symbol, class_id in request.options}
    best = max(probs, key=probs.__getitem__)
    in_order = tuple(probs[class_id] for class_id in request.class_order)
    return Answer.of_class(best, key=request.key, probs=in_order, prompt_tokens=prompt_tokens)


def read_text(
    request: Request, reply: str, names: Mapping[str, str], *, prompt_tokens: int | None = None
) -> Answer:
    """Read a reply that has no probabilities.

    The whole reply, but for outer punctuation, has to be one symbol, or in any case one of `names`,
    as `class_names` gives them. A name inside a sentence is refused: "not a person" would read as a
    person.

    Returns:
        The answer; UNREADABLE when the reply is none of the options.
    """
    word = reply.strip().strip(" .,:;\"'`*()[]")
    symbols = dict(request.options)
    class_id = symbols.get(reply.strip()) or symbols.get(word) or names.get(word.casefold())
    if class_id is None:
        return Answer(verdict=Verdict.UNREADABLE, key=request.key, prompt_tokens=prompt_tokens)
    return Answer.of_class(class_id, key=request.key, prompt_tokens=prompt_tokens)


def class_names(label_set: LabelSet) -> dict[str, str]:
    """Names and ids under which a written reply may name a class, casefolded, to class ids."""
    names = {NON_ENTITY_NAME: NON_ENTITY, NON_ENTITY.casefold(): NON_ENTITY}
    for label in label_set.labels:
        names[label.id.casefold()] = label.id
    for label in label_set.labels:
        names[label.name.casefold()] = label.id
    return names
