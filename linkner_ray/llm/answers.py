"""Answers, and how a reply is read as one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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
    return Answer(
        verdict=Verdict.NON_ENTITY if best == NON_ENTITY else Verdict.LABEL,
        label=None if best == NON_ENTITY else best,
        probs=tuple(probs[class_id] for class_id in request.class_order),
        key=request.key,
        prompt_tokens=prompt_tokens,
    )


def read_text(
    request: Request, reply: str, names: Mapping[str, str], *, prompt_tokens: int | None = None
) -> Answer:
    """Read a reply that has no probabilities.

    The whole reply, but for outer punctuation, has to be one symbol, or one name or id of a class
    in any case. A name inside a sentence is refused: "not a person" would read as a person.

    Args:
        request: What was asked.
        reply: Text the LLM returned.
        names: Names and ids of classes, casefolded, to class ids, as `class_names` gives them.
        prompt_tokens: Tokens of the rendered prompt.

    Returns:
        The answer; UNREADABLE when the reply is none of the options.
    """
    word = reply.strip().strip(" .,:;\"'`*()[]")
    symbols = dict(request.options)
    class_id = symbols.get(reply.strip()) or symbols.get(word) or names.get(word.casefold())
    if class_id is None:
        verdict, label = Verdict.UNREADABLE, None
    elif class_id == NON_ENTITY:
        verdict, label = Verdict.NON_ENTITY, None
    else:
        verdict, label = Verdict.LABEL, class_id
    return Answer(verdict=verdict, label=label, key=request.key, prompt_tokens=prompt_tokens)


def class_names(label_set: LabelSet) -> dict[str, str]:
    """Names and ids under which a written reply may name a class, casefolded, to class ids."""
    names = {NON_ENTITY_NAME: NON_ENTITY, NON_ENTITY.casefold(): NON_ENTITY}
    for label in label_set.labels:
        names[label.id.casefold()] = label.id
    for label in label_set.labels:
        names[label.name.casefold()] = label.id
    return names
