"""Answers by key, in little memory."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from linkner_ray.llm.cache.files import ENTRIES, key_words, sort_words
from linkner_ray.llm.prompts import Answer, Verdict

_VALUES = ("verdict", "label", "probs", "prompt_tokens")

_MOST_RECENT = 65_536
"""Answers in the dictionary from which on they are merged into the sorted columns."""


class AnswerIndex:
    """Sorted columns of what was there at first, and a dictionary of what came since.

    The first answer to a key is the one that stays.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Begin empty.

        Args:
            classes: `LabelSet.classes`; probabilities come out in this order.
        """
        self._classes = tuple(classes)
        self._recent: dict[str, Answer] = {}
        self._recent_tables: list[pa.Table] = []
        self._high = np.array([], dtype=np.uint64)  # (N,), sorted
        self._low = np.array([], dtype=np.uint64)
        self._values = ENTRIES.empty_table().select(_VALUES)

    def __len__(self) -> int:
        return len(self._high) + len(self._recent)

    @property
    def num_bytes(self) -> int:
        """Memory of the sorted columns."""
        return int(self._high.nbytes + self._low.nbytes + self._values.nbytes)

    def find(self, keys: Collection[str]) -> dict[str, Answer]:
        """The answers there are, by key; source `cache`."""
        found = {key: self._recent[key] for key in keys if key in self._recent}
        others = [key for key in keys if key not in found]
        if others and len(self._high):
            rows = self._rows(others)
            known = np.flatnonzero(rows >= 0)
            values = self._values.take(pa.array(rows[known])).to_pylist()
            for place, value in zip(known.tolist(), values, strict=True):
                answer = self._answer(others[place], value)
                if answer is not None:
                    found[others[place]] = answer
        return found

    def add(self, tables: Sequence[pa.Table]) -> None:
        """Take over the answers whose keys are new.

        Args:
            tables: Schema `ENTRIES`, in the order in which they count.
        """
        rows = pa.concat_tables(tables).select(["key", *_VALUES])
        if rows.num_rows + len(self._recent) > _MOST_RECENT:
            self._merge([*self._recent_tables, rows])
            return
        known = self.find(rows["key"].to_pylist())
        for row in rows.to_pylist():
            answer = self._answer(row["key"], row)
            if answer is not None and answer.key not in known:
                self._recent.setdefault(answer.key, answer)
        self._recent_tables.append(rows)

    def _merge(self, tables: Sequence[pa.Table]) -> None:
        """Sort everything anew; of equal keys the first stays."""
        words = [key_words(table["key"]) for table in tables]
        high = np.concatenate([self._high, *(pair[0] for pair in words)])
        low = np.concatenate([self._low, *(pair[1] for pair in words)])
        values = pa.concat_tables([self._values, *(table.select(_VALUES) for table in tables)])
        order, is_first = sort_words(high, low)
        first = order[is_first]
        self._high, self._low = high[first], low[first]
        self._values = values.take(pa.array(first)).combine_chunks()
        self._recent, self._recent_tables = {}, []

    def _rows(self, keys: Sequence[str]) -> np.ndarray:
        """Row of each key in the sorted columns, -1 where it is not there. Shape (K,)."""
        high, low = key_words(pa.chunked_array([pa.array(keys, pa.string())]))
        left = np.searchsorted(self._high, high, side="left")
        right = np.searchsorted(self._high, high, side="right")
        rows = np.full(len(keys), -1, dtype=np.int64)
        for place in np.flatnonzero(right > left).tolist():
            matches = self._low[left[place] : right[place]] == low[place]
            if matches.any():
                rows[place] = left[place] + int(matches.argmax())
        return rows

    def _answer(self, key: str, value: dict[str, Any]) -> Answer | None:
        """An answer from its row; None if it is about another label set."""
        probs = None
        if value["probs"] is not None:
            by_class = {entry["class"]: entry["prob"] for entry in value["probs"]}
            if by_class.keys() != set(self._classes):
                return None
            probs = tuple(by_class[name] for name in self._classes)
        verdict, label = Verdict(value["verdict"]), value["label"]
        if (label in self._classes[1:]) is not (verdict is Verdict.LABEL):
            return None
        return Answer(
            verdict=verdict,
            label=label,
            probs=probs,
            key=key,
            source="cache",
            prompt_tokens=value["prompt_tokens"],
        )
