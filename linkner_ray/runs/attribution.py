"""Why an entity of two runs differs: by what the runs say of its span and of its rivals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from linkner_ray.runs.facts import changed_steps
from linkner_ray.runs.finished import FinishedRun

CAUSES = ("text", "encoder", "calibration", "llm", "config", "unexplained")
"""text: the document's own; config: sentences, routing or fusion; unexplained: nothing that is
known to differ reaches this span, as with the last digits of a probability."""

_CAUSE_OF_STEP = {
    "code": "unexplained",  # of a diff, which compares plans alone
    "sentences": "config",
    "encoder": "encoder",
    "calibration": "calibration",
    "routing": "config",
    "llm": "llm",
    "fusion": "config",
}

_ROUNDING = 1e-5
"""Difference of two probabilities up to which they count as one, larger than what batches do."""

Span = tuple[int, int]
Row = Mapping[str, Any]


class _Judged(NamedTuple):
    """A candidate of one run, and what became of it."""

    sentence: Span
    label: str
    kind: str
    probs: Sequence[float]
    uncertainty: float
    route: str
    answer: Row | None

    @property
    def is_in_play(self) -> bool:
        """Whether it can become an entity, or displace one."""
        return self.kind == "predicted" or self.route == "llm"

    @property
    def reply(self) -> tuple[str, str | None] | None:
        """What the LLM said."""
        return None if self.answer is None else (self.answer["verdict"], self.answer["label"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Finds the cause of a change among the steps that two runs decide differently.

    With the tables of candidates, the two runs are followed along the pipeline to the first step
    that decides otherwise about the span, else about one that overlaps it; without, the entities
    alone have to tell. Where the encoder changed, what it says is its doing, since a checkpoint
    brings its own calibration.
    """

    changed: Mapping[str, Sequence[str]]
    """Steps that differ, with the facts that do."""

    threshold: float
    """`routing.threshold` of the earlier run."""

    other_llm: bool
    """Whether just one of the two has an LLM."""

    @classmethod
    def between(cls, before: FinishedRun, after: FinishedRun) -> "Attribution":
        """Compare the plans of two runs."""
        backends = [run.config["llm"]["backend"] for run in (before, after)]
        return cls(
            changed=changed_steps(before.facts, after.facts),
            threshold=before.config["routing"]["threshold"],
            other_llm=(backends[0] == "none") is not (backends[1] == "none"),
        )

    def of_entity(self, before: Row | None, after: Row | None) -> str:
        """Cause of a change, from the entity of each run at the span, if it has one."""
        causes = {_CAUSE_OF_STEP[step] for step in self.changed}
        if len(causes) == 1:
            return causes.pop()
        entity = after or before or {}
        order = ["encoder", "calibration", "config", "llm"]
        if before and after:
            if before["local_label"] == after["local_label"]:
                asked_twice = before["llm_label"] and after["llm_label"]
                other_reply = before["llm_label"] != after["llm_label"]
                order = ["llm", "config"] if asked_twice and other_reply else ["config", "llm"]
        elif entity["source"] == "llm":
            order = ["llm", "config", "encoder", "calibration"]
        return next((cause for cause in order if cause in causes), "unexplained")

    def of_span(self, span: Span, before: Row, after: Row) -> str:
        """Cause of a change at a span.

        Args:
            span: Of the entity, half-open code points.
            before: Row of the earlier run's `candidates/`.
            after: The same document's row of the later run.
        """
        first, second = _judged(before), _judged(after)
        spans = [span, *_rivals(span, {*first, *second})]
        for place in spans:
            cause = self._decision(first.get(place), second.get(place), place=place, own=span)
            if cause is not None:
                return cause
        if "fusion" in self.changed:
            return "config"
        for place in spans:
            cause = self._numbers(first.get(place), second.get(place))
            if cause is not None:
                return cause
        return "unexplained"

    def _decision(
        self, first: _Judged | None, second: _Judged | None, *, place: Span, own: Span
    ) -> str | None:
        """Cause of the first decision about a candidate that differs; None where none does."""
        judged = [one for one in (first, second) if one is not None]
        if not judged or (place != own and not any(one.is_in_play for one in judged)):
            return None
        if first is None or second is None:
            return self._local(moved_sentence="sentences" in self.changed)
        if (first.label, first.kind) != (second.label, second.kind):
            return self._local(moved_sentence=first.sentence != second.sentence)
        if first.route != second.route:
            return self._routing(first, second)
        return "llm" if first.reply != second.reply else None

    def _local(self, *, moved_sentence: bool) -> str:
        """Cause of another word of the local model."""
        order = ("sentences", "encoder", "calibration")
        if not moved_sentence:
            order = ("encoder", "calibration", "sentences")
        step = next((step for step in order if step in self.changed), None)
        return "unexplained" if step is None else _CAUSE_OF_STEP[step]

    def _routing(self, first: _Judged, second: _Judged) -> str:
        """Cause of another route: somebody to ask, the rule, or what the rule was applied to."""
        if self.other_llm:
            return "llm"
        if abs(first.uncertainty - second.uncertainty) <= _ROUNDING:
            return "config"  # without another rule it is the budget, spent elsewhere in the unit
        crossed = (first.uncertainty >= self.threshold) is not (
            second.uncertainty >= self.threshold
        )
        if "routing" in self.changed and not crossed:
            return "config"
        return self._local(moved_sentence=False)

    def _numbers(self, first: _Judged | None, second: _Judged | None) -> str | None:
        """Cause of other probabilities under the same decisions."""
        if first is None or second is None:
            return None
        if _differ(first.probs, second.probs):
            return self._local(moved_sentence=False)
        replies = [one.answer and one.answer["probs"] for one in (first, second)]
        if _differ(replies[0] or (), replies[1] or ()):
            return "llm"
        return None


def _judged(row: Row) -> dict[Span, _Judged]:
    """The candidates of a document by their span."""
    bounds = [(sentence["start"], sentence["end"]) for sentence in row["sentences"]]
    return {
        (candidate["start"], candidate["end"]): _Judged(
            sentence=bounds[candidate["sentence"]],
            label=candidate["label"],
            kind=candidate["kind"],
            probs=candidate["label_probs"],
            uncertainty=candidate["uncertainty"],
            route=route,
            answer=answer,
        )
        for candidate, route, answer in zip(
            row["candidates"], row["routes"], row["answers"], strict=True
        )
    }


def _rivals(span: Span, spans: set[Span]) -> Iterator[Span]:
    """Spans that overlap a span, then those that overlap these, and so on."""
    left, edge = spans - {span}, [span]
    while edge:
        near = sorted(s for s in left if any(s[0] < e[1] and e[0] < s[1] for e in edge))
        yield from near
        left -= set(near)
        edge = near


def _differ(first: Sequence[float], second: Sequence[float]) -> bool:
    if len(first) != len(second):
        return True
    return any(abs(a - b) > _ROUNDING for a, b in zip(first, second, strict=True))
