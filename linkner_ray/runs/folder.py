"""The folder of a run: what is finished, what the run was, and the marks that it is complete."""

import hashlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from linkner_ray.errors import ConfigError, ContractError, DataError
from linkner_ray.runs.packed_counts import PackedCounts
from linkner_ray.storage import Folder

RECEIPT_KEY = b"linkner.receipt"
"""Where a part file carries its receipt, in the metadata of its schema."""

FOOTER_THREADS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one unit became; stored in its part file, so a resumed run reads it back."""

    unit: str
    source: str
    """Path of the shard."""

    first_record: int
    num_records: int
    is_last: bool
    counts: Mapping[str, int]
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds in each stage; empty when read back, since files hold nothing that varies."""

    effort: Mapping[str, int] = field(default_factory=dict)
    """Counters of `accounts.count_effort`; empty when read back, for the same reason."""

    @property
    def source_digest(self) -> str:
        """Name of the shard under the run's plan."""
        return self.unit.rpartition("-")[0]

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """A receipt as it was sent or stored, in little memory: a driver holds all of a run."""
        packed = {
            name: PackedCounts(facts[name])
            for name in ("counts", "seconds", "effort")
            if name in facts
        }
        return cls(**{**facts, **packed, "source": sys.intern(facts["source"])})

    def to_metadata(self) -> dict[bytes, bytes]:
        """As the metadata of a part file's schema."""
        facts = {
            "unit": self.unit,
            "source": self.source,
            "first_record": self.first_record,
            "num_records": self.num_records,
            "is_last": self.is_last,
            "counts": dict(sorted(self.counts.items())),
        }
        return {RECEIPT_KEY: json.dumps(facts, sort_keys=True).encode()}


class RunFolder:
    """Output of a run: `entities/`, `_quarantine/`, `_run.json`, `_manifest.json`, `_SUCCESS`."""

    def __init__(self, url: str) -> None:
        """Open an output folder; nothing is written yet."""
        self.url = url
        self.folder = Folder.at(url)

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write `_run.json`, or check that the folder belongs to this very run.

        Args:
            facts: `plan` is what decides the output and must be the same when a run goes on;
                the rest is kept for readers.

        Raises:
            ConfigError: If the folder holds another run's output; names what differs.
        """
        if self.folder.exists("_run.json"):
            previous = json.loads(self.folder.read_bytes("_run.json"))
            current = json.loads(json.dumps(facts))
            differences = _differences(previous["plan"], current["plan"])
            if differences:
                raise ConfigError(
                    f"{self.url} holds the output of another run: {'; '.join(differences)}. "
                    "Choose another output.path, or remove the folder"
                )
        elif self.folder.names("entities", "part-*.parquet"):
            raise ConfigError(
                f"{self.url}/entities holds part files but {self.url}/_run.json is missing; "
                "choose another output.path"
            )
        else:
            self.folder.write_whole("_run.json", _as_json(facts))

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended and `_SUCCESS` stands."""
        return self.folder.exists("_SUCCESS")

    def receipts(self) -> list[Receipt]:
        """Receipts of all finished units, read from the footers of their files."""
        names = self.folder.names("entities", "part-*.parquet")
        with ThreadPoolExecutor(FOOTER_THREADS) as pool:
            return list(pool.map(self._read_receipt, names))

    def _read_receipt(self, name: str) -> Receipt:
        try:
            with self.folder.open(f"entities/{name}") as stream:
                metadata = pq.read_schema(stream).metadata or {}
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{self.url}/entities/{name} is damaged ({error}); remove it and run again"
            ) from error
        if RECEIPT_KEY not in metadata:
            raise ContractError(f"{self.url}/entities/{name} carries no receipt; remove it")
        return Receipt.from_facts(json.loads(metadata[RECEIPT_KEY]))

    def commit(
        self,
        receipt: Receipt,
        *,
        entities: pa.Table,
        quarantine: pa.Table,
        candidates: pa.Table | None,
    ) -> None:
        """Write the files of a unit; the entities come last, since they say that it is done."""
        name = f"part-{receipt.unit}.parquet"
        if quarantine.num_rows:
            self.folder.write_whole(f"_quarantine/{name}", parquet_bytes(quarantine))
        if candidates is not None:
            self.folder.write_whole(f"candidates/{name}", parquet_bytes(candidates))
        marked = entities.replace_schema_metadata(receipt.to_metadata())
        self.folder.write_whole(f"entities/{name}", parquet_bytes(marked))

    def finish(self, receipts: Sequence[Receipt], facts: Mapping[str, Any]) -> None:
        """Write `_manifest.json`, the list of files that count, then `_SUCCESS`."""
        files = [
            {
                "path": f"entities/part-{receipt.unit}.parquet",
                "source": receipt.source,
                "rows": receipt.counts["documents_entities"] + receipt.counts["documents_empty"],
            }
            for receipt in sorted(receipts, key=lambda receipt: receipt.unit)
        ]
        self.folder.write_whole("_manifest.json", _as_json({**facts, "files": files}))
        self.folder.write_whole("_SUCCESS", b"")


def plan_digest(facts: Mapping[str, Any]) -> str:
    """Name of what decides a run's output."""
    canonical = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file; equal tables give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, compression="zstd", write_statistics=True)
    return sink.getvalue()


def _as_json(facts: Mapping[str, Any]) -> bytes:
    return (json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _differences(previous: Any, current: Any, name: str = "") -> list[str]:  # noqa: ANN401
    """Dotted names at which two JSON trees differ, with both values."""
    if isinstance(previous, dict) and isinstance(current, dict):
        lines = []
        for key in sorted({*previous, *current}):
            dotted = f"{name}.{key}" if name else key
            lines += _differences(previous.get(key), current.get(key), dotted)
        return lines
    return [] if previous == current else [f"{name} was {previous!r}, is {current!r}"]
