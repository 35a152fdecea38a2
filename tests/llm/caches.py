"""Answers to keep, and a store to keep them in."""

from datetime import UTC, datetime, timedelta

from linkner_ray.labels import Label, LabelSet
from linkner_ray.llm.cache.files import Entry
from linkner_ray.llm.prompts import Answer, Verdict

LABELS = LabelSet(
    name="two",
    labels=(
        Label(id="PER", name="person", description="Names of people."),
        Label(id="ORG", name="organization", description="Names of groups."),
    ),
)
CLASSES = LABELS.classes
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def key(number: int) -> str:
    """Name of a request."""
    return f"k1:{number:032x}"


def entry(number: int, *, score: float = 0.5, model: str = "some-llm", day: int = 0) -> Entry:
    """A label with its probabilities; `score` is the one of PER."""
    answer = Answer(
        verdict=Verdict.LABEL,
        label="PER",
        probs=(0.0, score, 1.0 - score),
        key=key(number),
        prompt_tokens=number % 100,
        latency_s=0.25,
    )
    return Entry(answer=answer, model=model, revision=None, time=EPOCH + timedelta(days=day))


def unsure(number: int) -> Entry:
    """An answer that could not be read."""
    answer = Answer(verdict=Verdict.UNREADABLE, key=key(number))
    return Entry(answer=answer, model="some-llm", revision="r1", time=EPOCH)
