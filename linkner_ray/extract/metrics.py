"""Metrics of a run for Prometheus, through Ray's own exporter on each node.

The driver counts a unit when its unit result arrives, so the counters are the sums of the report,
and a task that Ray repeats is not counted twice. Ray's endpoint shows them as
`ray_linkner_..._total`. Values of tags never come from documents, so there are few of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ray.util.metrics import Counter, Gauge, Histogram

from linkner_ray.runs.counters import KINDS, SOURCES, VERDICTS, source_counter
from linkner_ray.runs.folder import UnitResult

UNIT_SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Upper bounds of the histogram of what a unit takes in a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A metric that counts what unit results count."""

    name: str
    description: str
    tag: str
    of: Mapping[str, str]
    """Value of the tag to the counter of a unit result's `counts` or `costs`."""


COUNTED = (
    Counted(
        name="linkner_documents",
        description="Documents of finished units, by status.",
        tag="status",
        of={end: f"documents_{end}" for end in ("entities", "empty", "quarantined")},
    ),
    Counted(
        name="linkner_files_quarantined",
        description="Shards that could not be read to their end.",
        tag="reason",
        of={"unreadable": "files_quarantined"},
    ),
    Counted(
        name="linkner_characters",
        description="Characters of finished units, by place.",
        tag="place",
        of={
            place: f"characters_{place}"
            for place in ("in_sentences", "between_sentences", "quarantined")
        },
    ),
    Counted(
        name="linkner_spans",
        description="Candidates of the local model, by kind.",
        tag="kind",
        of={kind: f"candidates_{kind}" for kind in KINDS},
    ),
    Counted(
        name="linkner_routed",
        description="Candidates asked about, by route.",
        tag="route",
        of={"llm": "routed", "audit": "audited"},
    ),
    Counted(
        name="linkner_verdicts",
        description="Answers on routed candidates, by verdict.",
        tag="verdict",
        of={verdict: f"verdict_{verdict}" for verdict in VERDICTS},
    ),
    Counted(
        name="linkner_questions",
        description="Different questions of each unit, by where the answer came from.",
        tag="answered_by",
        of={
            "llm": "questions_asked",
            "cache": "questions_from_cache",
            "previous": "questions_from_previous",
        },
    ),
    Counted(
        name="linkner_entities",
        description="Entities written, by source.",
        tag="source",
        of={source: source_counter(source) for source in SOURCES},
    ),
)


class RunMetrics:
    """The metrics of one run; made once Ray is up."""

    def __init__(self, *, shards: int) -> None:
        self._waiting, self._done = shards, 0
        self._counters = [
            (counted, Counter(counted.name, counted.description, (counted.tag,)))
            for counted in COUNTED
        ]
        self._shards = Gauge(
            "linkner_shards", "Shards of the run, by whether their last unit is done.", ("state",)
        )
        self._bytes = Counter(
            "linkner_bytes_written", "Bytes of written part files, by folder.", ("folder",)
        )
        self._stage_seconds = Counter(
            "linkner_stage_seconds", "Seconds of all finished units in each stage.", ("stage",)
        )
        self._unit_seconds = Histogram(
            "linkner_unit_seconds",
            "Seconds of a finished unit in each stage.",
            list(UNIT_SECONDS),
            ("stage",),
        )
        self._show_shards()

    def add(self, unit_result: UnitResult) -> None:
        """Count a unit that this run has done."""
        for counted, counter in self._counters:
            for value, name in counted.of.items():
                count = unit_result.counts.get(name, 0) + unit_result.costs.get(name, 0)
                if count:
                    counter.inc(count, {counted.tag: value})
        for stage, seconds in unit_result.seconds.items():
            self._unit_seconds.observe(seconds, {"stage": stage})
            if seconds > 0:
                self._stage_seconds.inc(seconds, {"stage": stage})
        for file in unit_result.files:
            self._bytes.inc(file["size_bytes"], {"folder": file["path"].partition("/")[0]})
        if unit_result.is_last:
            self._waiting, self._done = self._waiting - 1, self._done + 1
            self._show_shards()

    def _show_shards(self) -> None:
        self._shards.set(self._waiting, {"state": "waiting"})
        self._shards.set(self._done, {"state": "done"})


def count_rebuilds() -> Callable[[], None]:
    """Called by an LLM actor when it begins to rebuild its engine."""
    return Counter("linkner_engine_rebuilds", "Engines that died and were built anew.").inc
