"""Units of work: which part of which shard becomes which output file.

A unit's name is made of everything that decides its content, so a retry writes the same bytes to
the same name, and what is done is known by listing names.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from linkner_ray.errors import hide_secrets

ShardFormat = Literal["parquet", "jsonl", "wet", "warc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input shard as it was when the run was planned."""

    path: str
    format: ShardFormat
    size: int
    version: str
    """Modification time or ETag; another version is another source."""

    @property
    def shown(self) -> str:
        """The path as it is shown and kept, without what is secret in an address."""
        return hide_secrets(self.path)

    def digest(self, plan_digest: str) -> str:
        """Name of this shard under a plan; units of the shard begin with it."""
        content = "\0".join([self.path, str(self.size), self.version, self.format, plan_digest])
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitDocuments:
    """A unit as its reader gives it."""

    first_record: int
    """Index in the shard of the first row or record."""

    num_records: int
    """Records this unit covers: documents, quarantined rows and skipped records together."""

    documents: pa.Table
    """Schema `schemas.DOCUMENTS`."""

    quarantine: pa.Table
    """Schema `schemas.QUARANTINE`."""

    skipped: dict[str, int]
    """Records that are no documents, by reason, such as warcinfo or a non-HTML response."""

    is_last: bool
    """Whether the shard ends with this unit."""

    begins: float = 0.0
    """Share of the shard that lies before this unit; what the unit before it has in `ends`."""

    ends: float = 1.0
    """Share of the shard up to the end of this unit; 1 for the last. Exact in rows of Parquet; of
    a stream, how much of it had been read by then."""


def unit_name(source_digest: str, first_record: int) -> str:
    """Name of a unit: sorts by shard, then by place in it."""
    return f"{source_digest}-{first_record:010d}"
