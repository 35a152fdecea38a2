"""What differs between the entities of two runs, and what can have made it.

Each file is read once: documents go into buckets by their id, and a bucket is compared by itself.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any

from linkner_ray.errors import ConfigError, hide_secrets
from linkner_ray.nightly.diff_rows import (
    NUM_EXAMPLES,
    Change,
    Tally,
    compare_rows,
    lowest,
    read_rows,
)
from linkner_ray.runs.fingerprint import changed_steps
from linkner_ray.runs.finished import FinishedRun, read_part
from linkner_ray.runs.part_work import HERE, Spread, pieces_of
from linkner_ray.storage import Folder

KINDS = ("added", "removed", "relabelled")

CAUSES = ("text", "steps")
"""text: the document is new, gone or edited; steps: its text is the same, so it is one of the steps
that the two runs decide differently, or the last digits of a probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """Counts of what two runs have alike and not, and some of what they do not."""

    before: str
    after: str
    changed: Mapping[str, Sequence[str]]
    """Steps that the two plans decide differently, with the inputs that differ."""

    documents: Counter[str]
    """same_text, other_text, only_before, only_after; and repeated_id, those whose id an earlier
    document of their run has, or is without a partner for that reason."""

    entities: Counter[tuple[str, str, str]]
    """By label, source and what became of them: same or one of `KINDS`. Label and source are the
    later run's, of removed ones the earlier run's."""

    relabelled: Counter[tuple[str, str]]
    """By label before and after."""

    causes: Counter[tuple[str, str]]
    """Changes by cause and kind."""

    examples: tuple[Change, ...]
    """Up to `NUM_EXAMPLES` changes, as evenly over the causes as there are some."""

    def as_json(self) -> dict[str, Any]:
        """All counts, with stable keys."""
        return {
            "before": self.before,
            "after": self.after,
            "changed": self.changed,
            "documents": dict(sorted(self.documents.items())),
            "entities": _tree(self.entities),
            "relabelled": _tree(self.relabelled),
            "causes": _tree(self.causes),
        }


def _tree(counts: Mapping[Any, int]) -> dict[str, Any]:
    """Counts as nested objects, one level for each part of their names."""
    tree: dict[str, Any] = {}
    for names, count in sorted(counts.items()):
        inner = tree
        for name in names[:-1]:
            inner = inner.setdefault(name, {})
        inner[names[-1]] = count
    return tree


def compare_runs(before: str, after: str, *, spread: Spread = HERE) -> Diff:
    """Compare the entities of two finished runs, document by document.

    Documents are matched by `doc_id`; of several with one id the first is matched with the first,
    and what is then left over counts as being in one run alone. Entities of the same text are
    matched by their place; where the text differs, by what they say and how often it was said.

    Raises:
        ConfigError: If one is no finished run, or they wrote tables of different versions.
        DataError: If a file is missing or damaged.
    """
    runs = FinishedRun.open(before), FinishedRun.open(after)
    versions = [run.fingerprint.get("schema_version") for run in runs]
    if versions[0] != versions[1]:
        raise ConfigError(
            f"{before} has tables of version {versions[0]}, {after} of version {versions[1]}; "
            "only runs of one version can be compared: run one of them again"
        )
    return compare_finished(runs, spread=spread)


def compare_finished(runs: tuple[FinishedRun, FinishedRun], *, spread: Spread = HERE) -> Diff:
    """Compare two runs that were opened; see `compare_runs`."""
    pieces = pieces_of(
        [(side, *part) for side, run in enumerate(runs) for part in enumerate(run.parts)]
    )
    read = partial(read_rows, [run.url for run in runs], len(pieces))
    total = Tally()
    for tally in spread.by_bucket(read, compare_rows, pieces):
        total.merge(tally)
    return Diff(
        before=hide_secrets(runs[0].url),
        after=hide_secrets(runs[1].url),
        changed=changed_steps(runs[0].fingerprint, runs[1].fingerprint),
        documents=total.documents,
        entities=total.entities,
        relabelled=total.relabelled,
        causes=total.causes,
        examples=tuple(_with_text(change, runs) for change in _examples(total)),
    )


def name_cause(cause: str, changed: Iterable[str]) -> str:
    """What one of `CAUSES` is called in a report on runs that decide these steps differently."""
    return "text changed" if cause == "text" else f"{', '.join(changed) or 'nothing known'} changed"


def _examples(tally: Tally) -> list[Change]:
    """The same ones each time, those of a cause together."""
    queues = [lowest(tally.drawn[cause]) for cause in CAUSES if cause in tally.drawn]
    in_turn = [change for turn in zip_longest(*queues) for change in turn if change is not None]
    return sorted(in_turn[:NUM_EXAMPLES], key=lambda change: CAUSES.index(change.cause))


def _with_text(change: Change, runs: Sequence[FinishedRun]) -> Change:
    """The change with the text of its document, if that was kept."""
    run = runs[change.place.side]
    if not run.keeps_text:
        return change
    name = f"entities/{run.parts[change.place.file]}"
    text = read_part(Folder.at(run.url), name, ["text"])["text"][change.place.row].as_py()
    return replace(change, text=text)
