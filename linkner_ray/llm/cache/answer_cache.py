"""Answers that are kept: what was asked once, by whomever, is not asked again.

Every process that asks opens the answer cache for itself. It knows what lay in the folder then and
what it wrote since, and looks at what others wrote before it asks anything new.
"""

import logging
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.errors import BackendError, DataError, StoreError
from linkner_ray.llm.cache.answer_index import AnswerIndex
from linkner_ray.llm.cache.files import CacheFolder, Entry, OtherVersionError, entries_table
from linkner_ray.llm.prompts import Answer

logger = logging.getLogger(__name__)


class AnswerCache:
    """Finds and keeps the answers of one model; safe to be used by several threads at once."""

    def __init__(self, url: str, *, model: str, classes: Sequence[str]) -> None:
        """Open an answer cache and load what it knows of a model.

        Args:
            url: Folder or prefix, local or with a scheme; made when first written to.
            model: `Request.model` of what will be looked up; other models' answers stay on disk.
            classes: `LabelSet.classes`, the order of `Answer.probs`.
        """
        self.counts: Counter[str] = Counter()
        """What was found and done; `describe` of a backend shows it."""

        self._folder = CacheFolder(url)
        self._model = model
        self._classes = tuple(classes)
        self._index = AnswerIndex(classes)
        self._seen: set[str] = set()
        self._waiting: list[Entry] = []
        self._next_number = 0
        self._waiting_lock = threading.Lock()
        self._lock = threading.RLock()
        self.refresh()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def num_bytes(self) -> int:
        """Memory that the answers take, but for those of the last few files."""
        return self._index.num_bytes

    def find(self, keys: Collection[str]) -> dict[str, Answer]:
        """Answers that are known here, by key; source `cache`."""
        with self._lock:
            return self._index.find(keys)

    def refresh(self) -> None:
        """Take note of what others wrote since the last look."""
        with self._lock:
            self._load({})

    def add(self, entries: Iterable[Entry]) -> None:
        """Keep answers; when this returns they are in the folder, or earlier ones to their keys.

        Threads that come at the same time share one file.

        Args:
            entries: None of them FAILED.

        Raises:
            BackendError: If the folder cannot be written.
        """
        with self._waiting_lock:
            self._waiting.extend(entries)
        with self._lock:
            with self._waiting_lock:
                batch, self._waiting = self._waiting, []
            try:
                self._write(batch)
            except (OSError, StoreError) as error:
                with self._waiting_lock:  # other threads' answers must not seem to be kept
                    self._waiting = batch + self._waiting
                raise BackendError(
                    f"answer cache {self._folder.url} cannot be written: {error}; free space, mend "
                    "the permissions, or run without cache.path",
                    retryable=False,
                ) from error

    def _write(self, batch: Sequence[Entry]) -> None:
        """Write what is still new under the next free number.

        Whoever takes a number has read all that came before it, so nobody can be told another
        answer to a key than the one this leaves.
        """
        first: dict[str, Entry] = {}
        for entry in batch:
            first.setdefault(entry.answer.key, entry)
        while True:
            self._load({})
            known = self._index.find(first)
            fresh = [entry for key, entry in first.items() if key not in known]
            if not fresh:
                break
            table = entries_table(fresh, self._classes)
            name = self._folder.append(self._next_number, table)
            if name is not None:
                self._load({name: table})
                self.counts["cache_stored"] += len(fresh)
                break
        self.counts["cache_asked_elsewhere"] += len(known)

    def _load(self, own: Mapping[str, pa.Table]) -> None:
        """Read the files that are new; compacted ones first, then by number.

        Args:
            own: Content of files that this process just wrote.
        """
        while True:
            names, foreign = listing = self._folder.list()
            self._next_number = max(self._next_number, listing.next_number)
            for name in foreign:
                if name not in self._seen:
                    self._seen.add(name)
                    self.counts["cache_files_foreign"] += 1
                    logger.warning(
                        "%s/%s: is no file of an answer cache; ignored", self._folder.url, name
                    )
            tables = []
            try:
                for name in names:
                    if name not in self._seen:
                        tables.append(own[name] if name in own else self._read(name))
                        self._seen.add(name)
            except FileNotFoundError:  # compacted meanwhile: list again
                self._take(tables)
                continue
            self._take(tables)
            return

    def _read(self, name: str) -> pa.Table:
        """Content of a file; nothing if it cannot be trusted."""
        try:
            return self._folder.read(name)
        except OtherVersionError as error:
            self.counts["cache_files_other_version"] += 1
            logger.warning("%s; ignored", error)
        except DataError as error:
            self.counts["cache_files_broken"] += 1
            moved = self._folder.set_aside(name)
            logger.warning("%s; %s", error, "set aside" if moved else "ignored")
        return entries_table([], self._classes)

    def _take(self, tables: Sequence[pa.Table]) -> None:
        """Take over the answers of the model in question."""
        own = [table.filter(pc.equal(table["model"], self._model)) for table in tables]
        own = [table for table in own if table.num_rows]
        if own:
            self._index.add(own)
