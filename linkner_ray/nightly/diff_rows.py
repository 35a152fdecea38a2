"""The comparison of two runs' documents, a bucket of ids at a time, anywhere.

A bucket has all documents of both runs whose ids fall into it, so buckets need not know each other.

Letters: N pairs of documents of one id, one of each run.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.runs.finished import read_part
from linkner_ray.runs.part_work import BUCKET
from linkner_ray.runs.row_index import name_words
from linkner_ray.storage import Folder

NUM_EXAMPLES = 50

DOCUMENTS = ("same_text", "other_text", "only_before", "only_after", "repeated_id")

Row = Mapping[str, Any]

_COLUMNS = ("doc_id", "url", "doc_digest", "entities")


class Place(NamedTuple):
    """Where a document lies."""

    side: int
    """0 for the earlier run, 1 for the later one."""

    file: int
    """Index among the run's part files."""

    row: int


_PLACE_COLUMNS = Place._fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An entity that two runs do not have alike."""

    doc_id: str
    url: str | None
    kind: str
    """One of `diff.KINDS`."""

    cause: str
    """One of `diff.CAUSES`."""

    before: Row | None
    """The entity of the earlier run."""

    after: Row | None
    place: Place
    """Of the document that has the entity, the later run's before the earlier one's."""

    text: str | None = None
    """Of that document; None where it was not kept, or not looked up yet."""

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
class Tally:
    """What was counted, and the examples that were drawn; see `diff.Diff`."""

    documents: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(DOCUMENTS, 0)))
    entities: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    relabelled: Counter[tuple[str, str]] = field(default_factory=Counter)
    causes: Counter[tuple[str, str]] = field(default_factory=Counter)
    drawn: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))
    """By cause; at least those with the lowest hashes."""

    def add(self, change: Change) -> None:
        """Count a change, and draw it."""
        entity = change.entity
        self.entities[entity["label"], entity["source"], change.kind] += 1
        self.causes[change.cause, change.kind] += 1
        if change.before and change.after:
            self.relabelled[change.before["label"], change.after["label"]] += 1
        drawn = self.drawn[change.cause]
        drawn.append(change)
        if len(drawn) >= 100 * NUM_EXAMPLES:
            self.drawn[change.cause] = lowest(drawn)

    def merge(self, other: "Tally") -> None:
        """Add what another bucket has."""
        self.documents.update(other.documents)
        self.entities.update(other.entities)
        self.relabelled.update(other.relabelled)
        self.causes.update(other.causes)
        for cause, drawn in other.drawn.items():
            self.drawn[cause] = lowest([*self.drawn[cause], *drawn])


def lowest(changes: Sequence[Change]) -> list[Change]:
    """The `NUM_EXAMPLES` changes with the lowest hashes, in their order."""
    return sorted(changes, key=lambda c: (c.seeded_hash, c.place))[:NUM_EXAMPLES]


def read_rows(
    urls: Sequence[str], num_buckets: int, files: Sequence[tuple[int, int, str]]
) -> pa.Table:
    """Documents of some part files, each with its place and bucket.

    Args:
        urls: Folders of the two runs.
        num_buckets: A document's follows from its id.
        files: Side, index and name of each.
    """
    tables = []
    for side, file, name in files:
        rows = read_part(Folder.at(urls[side]), f"entities/{name}", _COLUMNS)
        buckets = (name_words(rows["doc_id"]) % np.uint64(num_buckets)).astype(np.int32)
        numbers = np.arange(rows.num_rows, dtype=np.int32)
        columns = (buckets, np.full_like(numbers, side), np.full_like(numbers, file), numbers)
        for column, values in zip((BUCKET, *_PLACE_COLUMNS), columns, strict=True):
            rows = rows.append_column(column, pa.array(values))
        tables.append(rows)
    return pa.concat_tables(tables)


def compare_rows(rows: pa.Table) -> Tally:
    """Compare the documents of a bucket."""
    tally = Tally()
    rows = rows.sort_by([(name, "ascending") for name in _PLACE_COLUMNS]).combine_chunks()
    num_before = pc.sum(pc.equal(rows["side"], 0)).as_py()
    before, after = rows.slice(0, num_before), rows.slice(num_before)
    pairs = _pair(rows["doc_id"], num_before, tally.documents)
    for side, kind, table in ((0, "removed", before), (1, "added", after)):
        alone = np.setdiff1d(np.arange(table.num_rows), pairs[side])
        tally.documents["only_before" if side == 0 else "only_after"] += len(alone)
        for row in table.take(alone).to_pylist():
            for entity in row["entities"]:
                pair = (entity, None) if side == 0 else (None, entity)
                tally.add(_change(kind, "text", pair, (row, row)))
    first, second = before.take(pairs[0]), after.take(pairs[1])
    same_text = pc.equal(first["doc_digest"], second["doc_digest"]).to_numpy()
    tally.documents["same_text"] += int(same_text.sum())
    tally.documents["other_text"] += int((~same_text).sum())
    unlike = np.flatnonzero(~(same_text & _have_same_entities(first, second)))
    for both in zip(
        first.take(unlike).to_pylist(),
        second.take(unlike).to_pylist(),
        same_text[unlike].tolist(),
        strict=True,
    ):
        for change in _changes(*both):
            tally.add(change)
    _count_same(after["entities"], tally.entities)
    return tally


def _pair(
    ids: pa.ChunkedArray, num_before: int, documents: Counter[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which row of the earlier run goes with which of the later: the n-th of an id with the n-th.

    Ids that were there before are counted in `documents`. Shape (N,) both.
    """
    codes = ids.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    sides = codes[:num_before], codes[num_before:]
    ranks = _rank_among_equals(sides[0]), _rank_among_equals(sides[1])
    _, in_before, in_after = np.intersect1d(
        sides[0] << 32 | ranks[0], sides[1] << 32 | ranks[1],
        assume_unique=True, return_indices=True,
    )  # fmt: skip
    is_left = np.ones(len(sides[1]), np.bool_)
    is_left[in_after] = False
    was_there = np.isin(sides[1][is_left], sides[0])
    documents["repeated_id"] += int((ranks[0] > 0).sum() + was_there.sum())
    return in_before, in_after


def _rank_among_equals(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal ones stand before each."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    ranks = np.empty_like(codes)
    ranks[order] = np.arange(len(codes)) - np.searchsorted(ordered, ordered)
    return ranks


def _have_same_entities(first: pa.Table, second: pa.Table) -> NDArray[np.bool_]:
    """Whether two documents have the same labels at the same places. Shape (N,)."""
    lengths = [pc.list_value_length(table["entities"]).to_numpy() for table in (first, second)]
    is_same = lengths[0] == lengths[1]
    alike = np.flatnonzero(is_same)
    flat = [pc.list_flatten(table.take(alike)["entities"]) for table in (first, second)]
    differ = np.zeros(len(flat[0]), np.bool_)
    for name in ("start", "end", "label"):
        values = [pc.struct_field(entities, name) for entities in flat]
        differ |= pc.not_equal(*values).to_numpy()
    document_of = np.repeat(alike, lengths[0][alike])
    is_same[document_of[differ]] = False
    return is_same


def _count_same(after: pa.ChunkedArray, entities: Counter[tuple[str, str, str]]) -> None:
    """Entities of the later run that were not counted as changed are the same."""
    flat = pc.list_flatten(after)
    columns = {name: pc.struct_field(flat, name) for name in ("label", "source")}
    totals = pa.table(columns).group_by(list(columns)).aggregate([([], "count_all")])
    for row in totals.to_pylist():
        names = row["label"], row["source"]
        changed = entities[(*names, "added")] + entities[(*names, "relabelled")]
        if row["count_all"] > changed:
            entities[(*names, "same")] += row["count_all"] - changed


def _changes(before: Row, after: Row, same_text: bool) -> Iterator[Change]:
    """What a document that both runs have does not have alike."""
    first, second = (_by_key(row["entities"], by_place=same_text) for row in (before, after))
    for key in {**first, **second}:
        old, new = first.get(key), second.get(key)
        if old and new and old["label"] == new["label"]:
            continue
        kind = "relabelled" if old and new else ("added" if new else "removed")
        yield _change(kind, "steps" if same_text else "text", (old, new), (before, after))


def _change(
    kind: str, cause: str, entities: tuple[Row | None, Row | None], rows: tuple[Row, Row]
) -> Change:
    before, after = entities
    row = rows[1] if after else rows[0]
    return Change(
        doc_id=row["doc_id"],
        url=row["url"],
        kind=kind,
        cause=cause,
        before=before,
        after=after,
        place=Place(*(row[name] for name in _PLACE_COLUMNS)),
    )


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
