"""Rows of an earlier run's part files, asked for in any order."""

import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Sequence

import pyarrow as pa

from linkner_ray.runs.finished import read_part
from linkner_ray.storage import Folder

_MIN_FREE_SHARE = 0.1
"""Share of the disk that is left free."""

_MAX_MAPPED = 16_384
"""Files that are mapped at once; Linux grants a process 65,530 mappings."""


class PartCache:
    """The part files of a run; each is read at most twice, in whichever order rows are wanted.

    The files that were used last are in memory. A file that was dropped from memory and is wanted
    again goes to a temporary file that is mapped into memory and then unlinked, so the system frees
    it when the process ends, however it ends. Where rows are wanted in the order of the files,
    nothing is written.
    """

    def __init__(self, url: str, *, size: int) -> None:
        self._folder = Folder.at(url)
        self._size = size
        self._tables: OrderedDict[tuple[str, ...], pa.Table] = OrderedDict()
        self._dropped: set[tuple[str, ...]] = set()
        self._mapped: dict[tuple[str, ...], pa.Table] = {}

    def table(self, name: str, columns: Sequence[str]) -> pa.Table:
        """Some columns of a part file.

        Raises:
            DataError: If it is not there or damaged.
        """
        key = (name, *columns)
        if key in self._mapped:
            return self._mapped[key]
        if key not in self._tables:
            table = read_part(self._folder, name, columns)
            if key in self._dropped and self._has_room(table):
                self._mapped[key] = _map(table)
                return self._mapped[key]
            self._tables[key] = table
        self._tables.move_to_end(key)
        while len(self._tables) > self._size:
            dropped, _ = self._tables.popitem(last=False)
            self._dropped.add(dropped)
        return self._tables[key]

    def _has_room(self, table: pa.Table) -> bool:
        disk = shutil.disk_usage(tempfile.gettempdir())
        is_free = disk.free - table.nbytes > _MIN_FREE_SHARE * disk.total
        return is_free and len(self._mapped) < _MAX_MAPPED


def _map(table: pa.Table) -> pa.Table:
    """The same table outside the heap, in a file that has no name any more."""
    with tempfile.NamedTemporaryFile(prefix="linkner-part-") as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        file.flush()
        with pa.memory_map(file.name) as mapped:
            return pa.ipc.open_file(mapped).read_all()
