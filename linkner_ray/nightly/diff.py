"""What differs between the entities of two runs, and what can have made it.

Of the earlier run an index is held, 13 bytes for each document; the rows of both pass by.
"""

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from linkner_ray.errors import ConfigError
from linkner_ray.runs.fingerprint import changed_steps
from linkner_ray.runs.finished import FinishedRun, read_part
from linkner_ray.runs.part_cache import PartCache
from linkner_ray.runs.row_index import Place, RowIndex, name_words
from linkner_ray.storage import Folder

NUM_EXAMPLES = 50

KINDS = ("added", "removed", "relabelled")

CAUSES = ("text", "steps")
"""text: the document is new, gone or edited; steps: its text is the same, so it is one of the steps
that the two runs decide differently, or the last digits of a probability."""

_CACHED_FILES = 8

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An entity that two runs do not have alike."""

    doc_id: str
    url: str | None
    kind: str
    """One of `KINDS`."""

    cause: str
    """One of `CAUSES`."""

    before: Row | None
    """The entity of the earlier run."""

    after: Row | None
    text: str | None = None
    """Of the document that has the entity, the later run's before the earlier one's; None where
    that was not kept."""

    @property
    def entity(self) -> Row:
        """The later run's entity, or the earlier one's where there is no other."""
        return self.after or self.before or {}

    @property
    def seeded_hash(self) -> str:
        """A number that the change draws, the same each time; the lowest become examples."""
        place = f"{self.doc_id}\0{self.kind}\0{self.entity['start']}\0{self.entity['end']}"
        return hashlib.blake2b(place.encode(), digest_size=8).hexdigest()


@dataclass(kw_only=True)
class Diff:
    """Counts of what two runs have alike and not, and some of what they do not."""

    before: str
    after: str
    changed: Mapping[str, Sequence[str]]
    """Steps that the two plans decide differently, with the inputs that differ."""

    documents: Counter[str] = field(default_factory=Counter)
    """same_text, other_text, only_before, only_after; and repeated_id, those whose id an earlier
    document of their run has, or is without a partner for that reason."""

    entities: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By label, source and what became of them: same or one of `KINDS`. Label and source are the
    later run's, of removed ones the earlier run's."""

    relabelled: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By label before and after."""

    causes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Changes by cause and kind."""

    _drawn: dict[str, list[tuple[int, int, Change]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, change: Change) -> None:
        """Count a change, and keep it if its hash is among the lowest of its cause."""
        entity = change.entity
        self.entities[entity["label"], entity["source"], change.kind] += 1
        self.causes[change.cause, change.kind] += 1
        if change.before and change.after:
            self.relabelled[change.before["label"], change.after["label"]] += 1
        drawn = self._drawn[change.cause]
        # The count decides between equal hashes, since changes cannot be compared.
        item = (-int(change.seeded_hash, 16), -sum(self.causes.values()), change)
        push = heapq.heappush if len(drawn) < NUM_EXAMPLES else heapq.heappushpop
        push(drawn, item)

    @property
    def examples(self) -> list[Change]:
        """Up to `NUM_EXAMPLES` changes, as evenly over the causes as there are some."""
        queues = [sorted(self._drawn[c], reverse=True) for c in CAUSES if c in self._drawn]
        longest = max(map(len, queues), default=0)
        chosen = [
            queue[turn][2] for turn in range(longest) for queue in queues if turn < len(queue)
        ]
        return sorted(chosen[:NUM_EXAMPLES], key=lambda change: CAUSES.index(change.cause))

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


def compare_runs(before: str, after: str) -> Diff:
    """Compare the entities of two finished runs, document by document.

    Documents are matched by `doc_id`; of several with one id the first is matched with the first,
    and what is then left over counts as being in one run alone. Entities of the same text are
    matched by their place; where the text differs, by what they say and how often it was said.

    Args:
        before: Folder of the earlier run, local or with a scheme.
        after: Folder of the later one.

    Raises:
        ConfigError: If one is no finished run, or they wrote tables of different versions.
        DataError: If a file is missing or damaged.
    """
    runs = FinishedRun.open(before), FinishedRun.open(after)
    versions = [run.fingerprint.get("schema_version") for run in runs]
    if versions[0] != versions[1]:
        raise ConfigError(
            f"{before} has tables of version {versions[0]}, {after} of version {versions[1]}; "
            "only runs of one version can be compared"
        )
    return _Comparison(*runs).run()


def name_cause(cause: str, changed: Iterable[str]) -> str:
    """What a cause is called in a report.

    Args:
        cause: One of `CAUSES`.
        changed: Steps that the two runs decide differently.
    """
    return "text changed" if cause == "text" else f"{', '.join(changed) or 'nothing known'} changed"


class _Comparison:
    def __init__(self, before: FinishedRun, after: FinishedRun) -> None:
        self.before, self.after = before, after
        changed = changed_steps(before.fingerprint, after.fingerprint)
        self.diff = Diff(before=before.url, after=after.url, changed=changed)
        self.files = PartCache(before.url, size=_CACHED_FILES)

    @cached_property
    def index(self) -> RowIndex:
        return self.before.index("doc_id", name_words)

    def run(self) -> Diff:
        is_matched = np.zeros(len(self.index), np.bool_)
        repeated = self.index.words[1:] == self.index.words[:-1]
        self.diff.documents["repeated_id"] += int(repeated.sum())
        folder = Folder.at(self.after.url)
        for part in self.after.parts:
            table = read_part(folder, f"entities/{part}", _columns(self.after))
            found = self.index.find(name_words(table["doc_id"]))
            rows = table.to_pylist()
            places = [
                self._match(row["doc_id"], candidates, is_matched)
                for row, candidates in zip(rows, found, strict=True)
            ]
            # By file of the earlier run: neighbours are in memory.
            for number in sorted(range(len(rows)), key=lambda n: places[n] or Place(-1, n)):
                place = places[number]
                if place is None:
                    self._only(rows[number], kind="added")
                else:
                    self._both(place, rows[number])
        for file, (first, end) in enumerate(self.index.files()):
            left = np.flatnonzero(~is_matched[first:end]).tolist()
            for row in self._rows_of(file, left):
                self._only(row, kind="removed")
        return self.diff

    def _match(self, doc_id: str, places: Sequence[Place], is_matched: np.ndarray) -> Place | None:
        """The first document of the earlier run with this id that has no partner yet."""
        repeated_id = False
        for place in places:
            position = int(self.index.starts[place.file]) + place.row
            if self._value(place, "doc_id") != doc_id:
                continue
            if not is_matched[position]:
                is_matched[position] = True
                return place
            repeated_id = True
        self.diff.documents["repeated_id"] += repeated_id
        return None

    def _value(self, place: Place, column: str) -> Any:  # noqa: ANN401 - of any column
        name = f"entities/{self.before.parts[place.file]}"
        return self.files.table(name, _columns(self.before))[column][place.row].as_py()

    def _rows_of(self, file: int, rows: Sequence[int]) -> Iterator[Row]:
        if rows:
            name = f"entities/{self.before.parts[file]}"
            yield from self.files.table(name, _columns(self.before)).take(list(rows)).to_pylist()

    def _only(self, row: Row, *, kind: str) -> None:
        """A document that one run alone has."""
        self.diff.documents["only_after" if kind == "added" else "only_before"] += 1
        for entity in row["entities"]:
            before, after = (None, entity) if kind == "added" else (entity, None)
            self._add(kind, "text", before=before, after=after, rows=(row, row))

    def _both(self, place: Place, after: Row) -> None:
        """A document that both runs have."""
        [before] = self._rows_of(place.file, [place.row])
        same_text = before["doc_digest"] == after["doc_digest"]
        self.diff.documents["same_text" if same_text else "other_text"] += 1
        first, second = (_by_key(row["entities"], by_place=same_text) for row in (before, after))
        for key in {**first, **second}:
            old, new = first.get(key), second.get(key)
            if old and new and old["label"] == new["label"]:
                self.diff.entities[new["label"], new["source"], "same"] += 1
                continue
            kind = "relabelled" if old and new else ("added" if new else "removed")
            cause = "steps" if same_text else "text"
            self._add(kind, cause, before=old, after=new, rows=(before, after))

    def _add(
        self,
        kind: str,
        cause: str,
        *,
        before: Row | None,
        after: Row | None,
        rows: tuple[Row, Row],
    ) -> None:
        row = rows[1] if after else rows[0]
        self.diff.add(
            Change(
                doc_id=row["doc_id"],
                url=row["url"],
                kind=kind,
                cause=cause,
                before=before,
                after=after,
                text=row.get("text"),
            )
        )


def _columns(run: FinishedRun) -> list[str]:
    names = ["doc_id", "url", "doc_digest", "entities"]
    return [*names, "text"] if run.keeps_text else names


def _by_key(entities: Sequence[Row], *, by_place: bool) -> dict[tuple[Any, ...], Row]:
    """Entities by what they are matched by."""
    if by_place:
        return {(entity["start"], entity["end"]): entity for entity in entities}
    times: Counter[str] = Counter()
    found = {}
    for entity in entities:
        found[entity["text"], times[entity["text"]]] = entity
        times[entity["text"]] += 1
    return found
