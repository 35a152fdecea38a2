"""Reuse of the sentences, candidates and answers of an earlier run."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.runs.part_cache import PartCache
from linkner_ray.runs.previous import NEW_TEXT, REDONE_PREFIX, REUSED, PreviousRun
from linkner_ray.runs.row_index import Place, document_digest
from linkner_ray.schemas import STAGE_COLUMNS, list_offsets, make_lists, offsets_of

_CACHED_FILES = 4
"""Tables of candidates kept in memory, megabytes each; a unit reads each file once."""

_CACHED_DIGESTS = 1024
"""Columns of digests kept in memory: documents of a unit may come from many files in turn."""

_COLUMN_OF = {"sentences": "sentences", "candidates": "candidates", "known_answers": "answers"}
"""Columns that are added, and those of the earlier run that they come from."""


class ReuseDocuments:
    """`text -> sentences, candidates, known_answers`: of an earlier run; null for a new text.

    A document is found by the digest of its text, whatever its id, row or shard. Later stages fill
    the nulls. Where a step before the candidates changed, only answers are reused, since the same
    question may be asked again. A failed answer is not reused.
    """

    reads: ClassVar[tuple[str, ...]] = ("text",)
    adds: ClassVar[tuple[str, ...]] = tuple(_COLUMN_OF)

    def __init__(self, previous: PreviousRun) -> None:
        """Take the run; its files are read as they are needed."""
        self._previous = previous
        self._files = PartCache(previous.url, size=_CACHED_FILES)
        self._digests = PartCache(previous.url, size=_CACHED_DIGESTS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add what is known.

        Raises:
            DataError: If a file of the other run is missing or damaged.
        """
        places = self._places(batch["text"].to_pylist())
        columns = self._columns(places)
        if self._previous.obstacle is not None:
            for name in ("sentences", "candidates"):
                columns[name] = pa.nulls(len(places), STAGE_COLUMNS[name])
        for name, column in columns.items():
            batch = batch.append_column(name, column)
        return batch

    def counters(self, table: pa.Table) -> dict[str, int]:
        """Counters of what was reused for a unit.

        Args:
            table: As the stage gave it, before later stages fill its nulls.
        """
        known = table.num_rows - table["known_answers"].null_count
        reused = table.num_rows - table["candidates"].null_count
        counts = {REUSED: reused, f"{REDONE_PREFIX}{NEW_TEXT}": table.num_rows - known}
        if self._previous.obstacle is not None:
            counts[f"{REDONE_PREFIX}{self._previous.obstacle}"] = known
        return {**counts, "candidates_reused": len(pc.list_flatten(table["candidates"]))}

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
    """Answers without those that are null, failed or unreadable."""
    flat = answers.flatten()
    is_kept = pc.is_in(flat.field("verdict"), pa.array(["label", "non_entity"]))
    kept = is_kept.to_numpy(zero_copy_only=False)
    kept_before = offsets_of(kept)
    return make_lists(flat.filter(is_kept), kept_before[list_offsets(answers)], answers.type)
