"""Answers that are kept: a question that was asked once, in any run, is not asked again."""

import logging
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa

from linkner_ray.errors import BackendError, DataError, StoreError
from linkner_ray.llm.cache.answer_index import MAX_SEGMENT_BYTES, AnswerIndex, IndexedFile
from linkner_ray.llm.cache.answer_rows import PACKED_COLUMNS, AnswerArrays
from linkner_ray.llm.cache.files import (
    CacheFolder,
    Entry,
    Listing,
    OtherVersionError,
    entries_table,
)
from linkner_ray.llm.cache.segment import BrokenIndexError
from linkner_ray.llm.prompts import Answer

logger = logging.getLogger(__name__)


class AnswerCache:
    """Finds and keeps the answers of one model; safe to be used by several threads at once.

    Answers are looked up in the node's index. It is brought up to date with the folder when the
    answer cache is opened and before anything new is asked.
    """

    def __init__(self, url: str, *, model: str, classes: Sequence[str]) -> None:
        """Open an answer cache for one `Request.model`; its folder is made when first written to.

        Raises:
            OSError: If the folder cannot be read, or the node's index cannot be written.
        """
        self.counts: Counter[str] = Counter()
        """What was found and done; `describe` of a backend shows it."""

        self._folder = CacheFolder(url)
        self._model = model
        self._classes = tuple(classes)
        self._index = AnswerIndex(self._folder.address, model=model, classes=classes)
        self._reported: set[str] = set()
        self._waiting: list[Entry] = []
        self._waiting_lock = threading.Lock()
        self._lock = threading.RLock()
        self.refresh()

    def __len__(self) -> int:
        with self._lock:
            return len(self._index)

    def find(self, keys: Collection[str]) -> dict[str, Answer]:
        """Answers that are known here, by key; source `cache`."""
        with self._lock:
            try:
                return self._index.find(keys)
            except BrokenIndexError as error:
                self.counts["cache_index_broken"] += 1
                logger.warning("%s; the index is made anew from %s", error, self._folder.url)
                self._index.replace(error.path)
                self._update({})
                return self._index.find(keys)

    def refresh(self) -> None:
        """Take note of what others wrote since the last look."""
        with self._lock:
            self._update({})

    def add(self, entries: Iterable[Entry]) -> None:
        """Keep answers, none of them FAILED; when this returns, they or earlier ones are stored.

        Threads that come at the same time share one file.

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

        The writer of a number has read all files before it, so no process is told another answer
        to a key than the one that this leaves.
        """
        first: dict[str, Entry] = {}
        for entry in batch:
            first.setdefault(entry.answer.key, entry)
        while True:
            listing = self._update({})
            known = self.find(first)
            fresh = [entry for key, entry in first.items() if key not in known]
            if not fresh:
                break
            table = entries_table(fresh, self._classes)
            name = self._folder.append(listing.next_number, table)
            if name is not None:
                self._update({name: table})
                self.counts["cache_stored"] += len(fresh)
                break
        self.counts["cache_asked_elsewhere"] += len(known)

    def _update(self, own: Mapping[str, pa.Table]) -> Listing:
        """Bring the index up to date with the folder and with files this process just wrote."""
        while True:
            listing = self._folder.list()
            self._index.refresh()
            known = self._index.files()
            if {name: file.version for name, file in known.items()} != listing.versions:
                with self._index.alone():
                    self._index.refresh()
                    listing = self._folder.list()  # that of before may be older than the index
                    if not self._take_over(listing, own):
                        continue
            self._report(listing)
            return listing

    def _take_over(self, listing: Listing, own: Mapping[str, pa.Table]) -> bool:
        """Add the files that are new; where one is gone or changed, begin anew.

        Compacted files come first, then the others by number. False if one was compacted meanwhile.
        """
        known = self._index.files()
        if any(listing.versions.get(name) != file.version for name, file in known.items()):
            self._index.clear()
            known = {}
        files: dict[str, IndexedFile] = {}
        answers: list[AnswerArrays] = []
        for name in listing.names:
            if name in known:
                continue
            try:
                file, packed = self._read(name, listing.versions[name], own)
            except FileNotFoundError:  # compacted meanwhile
                self._index.add(files, answers)
                return False
            if file is not None:
                files[name] = file
            answers += packed
            if sum(part.num_bytes for part in answers) > MAX_SEGMENT_BYTES:
                self._index.add(files, answers)
                files, answers = {}, []
        self._index.add(files, answers)
        return True

    def _read(
        self, name: str, version: str, own: Mapping[str, pa.Table]
    ) -> tuple[IndexedFile | None, list[AnswerArrays]]:
        """What the index is to know of a file; none of its answers if it cannot be trusted."""
        try:
            tables = [own[name]] if name in own else self._folder.read(name, PACKED_COLUMNS)
            return IndexedFile(version), self._index.pack(tables)
        except OtherVersionError as error:
            return IndexedFile(version, "cache_files_other_version", str(error)), []
        except DataError as error:
            if not self._folder.set_aside(name, version):
                return IndexedFile(version, "cache_files_broken", str(error)), []
            self._report_one(name, "cache_files_broken", f"{error}; set aside")
            return None, []

    def _report(self, listing: Listing) -> None:
        """Count and name files that are not read, each once in a process."""
        for name in listing.foreign:
            problem = f"{self._folder.url}/{name}: is no file of an answer cache; ignored"
            self._report_one(name, "cache_files_foreign", problem)
        for name, file in self._index.files().items():
            if file.problem:
                self._report_one(name, file.counter, f"{file.problem}; ignored")

    def _report_one(self, name: str, counter: str, problem: str) -> None:
        if name not in self._reported:
            self._reported.add(name)
            self.counts[counter] += 1
            logger.warning("%s", problem)
