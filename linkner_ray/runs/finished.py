"""A finished run, as a later one or a reader finds it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from linkner_ray.errors import ConfigError, DataError
from linkner_ray.runs.folder import RunFolder
from linkner_ray.runs.manifest import MANIFEST, read_manifest
from linkner_ray.runs.part_work import side_by_side
from linkner_ray.runs.row_index import RowIndex
from linkner_ray.storage import Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """What a finished run says of itself."""

    url: str
    fingerprint: Mapping[str, Any]
    """Of its plan."""

    classes: tuple[str, ...]
    """Label ids in the order of their set."""

    config: Mapping[str, Any]
    code: Mapping[str, str]
    """`code_version` of what wrote it."""

    parts: tuple[str, ...]
    """Names of its part files, as they stand in `entities/`."""

    @classmethod
    def open(cls, url: str) -> "FinishedRun":
        """Read what a run left besides its rows.

        Raises:
            ConfigError: If there is no run, or it has not ended.
        """
        folder = Folder.at(url)
        for name, meaning in (
            ("_run.json", "the output of a run"),
            ("_SUCCESS", "finished"),
            (MANIFEST, "whole"),
        ):
            if not folder.exists(name):
                raise ConfigError(
                    f"{url} is not {meaning}: it has no {name}; run it to its end, or name "
                    "the output.path of a run that has ended"
                )
        run = RunFolder(url).known_record()
        return cls(
            url=url,
            fingerprint=run["plan"],
            classes=tuple(label["id"] for label in run["label_set"]["labels"]),
            config=run["config"],
            code=run.get("code", {}),
            parts=read_manifest(folder).parts,
        )

    @property
    def keeps_candidates(self) -> bool:
        """Whether it has the table `candidates/`."""
        return bool(self.config["output"]["keep_candidates"])

    @property
    def keeps_text(self) -> bool:
        """Whether its entities stand beside their text."""
        return bool(self.config["output"]["keep_text"])

    def index(
        self, column: str, to_words: Callable[[pa.ChunkedArray], NDArray[np.uint64]]
    ) -> RowIndex:
        """Find its rows by 64 bits of the values of a column of `entities/`, as of `doc_digest`."""
        folder = Folder.at(self.url)

        def words(part: str) -> NDArray[np.uint64]:
            return to_words(read_part(folder, f"entities/{part}", [column])[column])

        return RowIndex.of(side_by_side(words, self.parts))


def read_part(folder: Folder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Some columns of a part file, by default all.

    Raises:
        DataError: If it is not there or damaged.
    """
    try:
        with folder.open(name) as stream:
            return pq.ParquetFile(stream).read(columns=columns and list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{folder.path(name)} is missing or damaged: {error}; restore it, or run again into "
            "another output.path"
        ) from error
