"""What a run may reuse of an earlier one: by the text of a document, wherever it lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem

from linkner_ray.errors import ConfigError
from linkner_ray.runs.code_version import code_version
from linkner_ray.runs.fingerprint import LOCAL_STEPS, changed_steps
from linkner_ray.runs.finished import FinishedRun
from linkner_ray.runs.row_index import RowIndex, digest_words
from linkner_ray.storage import Folder

REUSED = "documents_reused"
"""Counter of the documents whose sentences and candidates were reused."""

REDONE_PREFIX = "redone_"
"""Counters of the others begin with it, one for each reason."""

NEW_TEXT = "text_new"
"""Why a document is redone whose text the earlier run did not have: it is new or was edited."""

REASONS: Mapping[str, str] = {
    NEW_TEXT: "new or edited text",
    "code": "written by other code",
    "sentences": "text is split otherwise",
    "encoder": "another encoder",
    "calibration": "another calibration",
}
"""What each reason means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousRun:
    """An earlier run, and which of its steps hold under a plan; the workers share it."""

    url: str
    parts: tuple[str, ...]
    index: RowIndex
    """Its documents by the digest of their text."""

    changed: Mapping[str, Sequence[str]]
    """Steps that the two plans decide differently, with the inputs that differ."""

    @property
    def obstacle(self) -> str | None:
        """The first step before the candidates that changed; None if candidates hold."""
        return next((step for step in LOCAL_STEPS if step in self.changed), None)


def open_previous(
    url: str, fingerprint: Mapping[str, Any], *, output: str, trust_code: bool = False
) -> PreviousRun:
    """Compare an earlier run with a plan, and find its documents.

    Args:
        url: Its folder.
        fingerprint: What decides the output of the plan.
        output: Where the plan writes.
        trust_code: Whether what other code found is as good as what this code would find; else
            another version of the package, of Python or of a library holds nothing.

    Raises:
        ConfigError: If there is no such run, it has not ended, it is the plan's own output, it kept
            no candidates, or it wrote other tables than this version.
    """
    if _place(url) == _place(output):
        raise ConfigError(
            f"--incremental {url} is output.path itself; a run goes on by itself where it stopped, "
            "and a new night needs a folder of its own"
        )
    run = FinishedRun.open(url)
    found, wanted = run.fingerprint.get("schema_version"), fingerprint["schema_version"]
    if found != wanted:
        raise ConfigError(
            f"{url} was written in version {found} of the tables, this is version {wanted}; "
            "run without --incremental once"
        )
    if not run.keeps_candidates:
        raise ConfigError(
            f"{url} was run with output.keep_candidates=false, so there is nothing to reuse; "
            "run without --incremental once, with output.keep_candidates=true"
        )
    codes = ({}, {}) if trust_code else (run.code, code_version())
    return PreviousRun(
        url=url,
        parts=run.parts,
        index=run.index("doc_digest", digest_words),
        changed=changed_steps(
            {**run.fingerprint, "code": codes[0]}, {**fingerprint, "code": codes[1]}
        ),
    )


def _place(url: str) -> tuple[AbstractFileSystem, str]:
    """A folder, by whichever name it is called."""
    folder = Folder.at(url)
    root = str(Path(folder.root).resolve()) if folder.is_local else folder.root
    return folder.filesystem, root
