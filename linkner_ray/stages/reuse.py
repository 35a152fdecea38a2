"""What another run knows of a text is reused, so that it need not be found out again."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.runs.finished import PartCache
from linkner_ray.runs.previous import NEW_TEXT, REDONE_PREFIX, REUSED, PreviousRun
from linkner_ray.runs.row_index import Place, document_digest
from linkner_ray.schemas import STAGE_COLUMNS

_COUNTS = b"linkner.reuse_counters"
"""Where a table carries what was reused, in the metadata of its schema."""

_CACHED_FILES = 4
"""Tables of candidates at hand at once, megabytes each; a unit reads each file once."""

_CACHED_DIGESTS = 1024
"""Columns of digests at hand at once: documents of a unit may come from many files in turn."""

_COLUMN_OF = {"sentences": "sentences", "candidates": "candidates", "known_answers": "answers"}
"""Columns that are added, and those of the earlier run that they come from."""


def reuse_counters(table: pa.Table) -> dict[str, int]:
    """Counters of what `ReuseDocuments` did for a unit; none where it was not at work."""
    found: dict[str, int] = json.loads((table.schema.metadata or {}).get(_COUNTS, b"{}"))
    return found


class ReuseDocuments:
    """`text -> sentences, candidates, known_answers`: of another run, null where it knows none.

    A document is known by the digest of its text, whatever its id, row or shard. Later stages do
    the rows that are null. Where a step before the candidates changed, only answers are reused:
    the same question may come up again. An answer that failed is asked for again.
    """

    reads: ClassVar[tuple[str, ...]] = ("text",)
    adds: ClassVar[tuple[str, ...]] = tuple(_COLUMN_OF)

    def __init__(self, previous: PreviousRun) -> None:
        """Take the run; its files are read as they are needed."""
        self._previous = previous
        self._files = PartCache(previous.url, size=_CACHED_FILES)
        self._digests = PartCache(previous.url, size=_CACHED_DIGESTS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add what is known, and count the documents by what becomes of them.

        Raises:
            DataError: If a file of the other run is missing or damaged.
        """
        places = self._places(batch["text"].to_pylist())
        known = [place for place in places if place is not None]
        obstacle = self._previous.obstacle
        columns = self._columns(places)
        if obstacle is not None:
            for name in ("sentences", "candidates"):
                columns[name] = pa.nulls(len(places), STAGE_COLUMNS[name])
        counts = Counter({REUSED: 0, f"{REDONE_PREFIX}{NEW_TEXT}": len(places) - len(known)})
        counts[REUSED if obstacle is None else f"{REDONE_PREFIX}{obstacle}"] += len(known)
        counts["candidates_reused"] = len(columns["candidates"].flatten())
        for name, column in columns.items():
            batch = batch.append_column(name, column)
        metadata = {**(batch.schema.metadata or {}), _COUNTS: json.dumps(counts).encode()}
        return batch.replace_schema_metadata(metadata)

    def _places(self, texts: Sequence[str]) -> list[Place | None]:
        """Where each text lies in the other run."""
        digests = [document_digest(text) for text in texts]
        words = np.array([int(digest[:16], 16) for digest in digests], np.uint64)
        found = self._previous.index.find(words)
        return [
            next((place for place in places if self._digest_at(place) == digest), None)
            for digest, places in zip(digests, found, strict=True)
        ]

    def _digest_at(self, place: Place) -> str:
        name = f"entities/{self._previous.parts[place.file]}"
        return str(self._digests.table(name, ["doc_digest"])["doc_digest"][place.row].as_py())

    def _columns(self, places: Sequence[Place | None]) -> dict[str, Any]:
        """The columns to add, aligned with the places."""
        rows_of: dict[int, list[int]] = defaultdict(list)
        for row, place in enumerate(places):
            if place is not None:
                rows_of[place.file].append(row)
        order = np.full(len(places), -1, np.int64)
        pieces: dict[str, list[pa.Array]] = {name: [] for name in _COLUMN_OF}
        filled = 0
        for file, rows in sorted(rows_of.items()):
            table = self._files.table(
                f"candidates/{self._previous.parts[file]}", list(_COLUMN_OF.values())
            )
            taken = table.take(pa.array([place.row for r in rows if (place := places[r])]))
            for name, column in _COLUMN_OF.items():
                pieces[name].append(taken[column].combine_chunks().cast(STAGE_COLUMNS[name]))
            order[rows] = np.arange(filled, filled + len(rows))
            filled += len(rows)
        pieces["known_answers"] = [_with_answer(piece) for piece in pieces["known_answers"]]
        indices = pa.array(order, mask=order < 0)
        return {
            name: pa.chunked_array(arrays, STAGE_COLUMNS[name]).combine_chunks().take(indices)
            for name, arrays in pieces.items()
        }


def _with_answer(answers: pa.ListArray) -> pa.ListArray:
    """Lists without the candidates that were not asked about, or got no answer."""
    flat = answers.flatten()
    is_kept = pc.fill_null(pc.not_equal(flat.field("verdict"), "failed"), fill_value=False)
    kept = is_kept.to_numpy(zero_copy_only=False)
    offsets = pc.subtract(answers.offsets, answers.offsets[0]).to_numpy()
    before = np.concatenate([[0], np.cumsum(kept)])
    return pa.ListArray.from_arrays(
        pa.array(before[offsets], pa.int32()), flat.filter(is_kept), type=answers.type
    )
