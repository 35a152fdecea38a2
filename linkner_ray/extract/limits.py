"""The limits of `errors`, compared with the counters of a run."""

import logging
from collections.abc import Mapping, Sequence

from linkner_ray.config import ErrorsConfig
from linkner_ray.config.languages import UNDETERMINED, parse_language
from linkner_ray.errors import StartupError, counted
from linkner_ray.runs.counters import (
    LANGUAGE_COUNTER,
    answers_problem,
    by_reason,
    num_asked,
    num_failed,
    num_unreadable,
)
from linkner_ray.stages.unit import NOT_FINITE

logger = logging.getLogger(__name__)

FINITE_DOCUMENTS = 1000
"""Documents from which on a share of broken ones stops a run before its end."""

LANGUAGE_DOCUMENTS = 1000
"""Documents after which a run in progress says that most are in other languages."""

_LISTED_LANGUAGES = 5


def check_finite(totals: Mapping[str, int], limits: ErrorsConfig, *, has_ended: bool) -> None:
    """Check that the local model computes numbers.

    If it does not, the model or the machine is at fault, not the input, and the run need not go on.
    Before the end a share of few documents does not count.

    Raises:
        StartupError: If it does not for too many documents.
    """
    documents, lost = totals.get("documents_read", 0), totals.get(f"quarantine_{NOT_FINITE}", 0)
    is_enough = has_ended or documents >= FINITE_DOCUMENTS
    if is_enough and lost > limits.max_share * documents:
        raise StartupError(
            f"the local model computed no number (NaN or infinity) for {lost} of {documents} "
            f"documents, over errors.max_share = {limits.max_share:g}; set "
            "recognize.dtype=float32 or take another checkpoint, and another output.path; with a "
            "larger errors.max_share the same command leaves them in quarantine and goes on"
        )


def other_languages(totals: Mapping[str, int], trained: Sequence[str] | None) -> str | None:
    """What to say where most documents are in languages that the checkpoint was not trained on."""
    if trained is None:
        return None
    known = {UNDETERMINED.code, *(parse_language(code).code for code in trained)}
    counts = by_reason(totals, LANGUAGE_COUNTER)
    documents = sum(counts.values())
    others = {code: count for code, count in counts.items() if code not in known}
    if 2 * sum(others.values()) <= documents:
        return None
    shares = [f"{code} {count / documents:.0%}" for code, count in others.items()]
    listed = ", ".join(shares[:_LISTED_LANGUAGES])
    more = ", ..." if len(shares) > _LISTED_LANGUAGES else ""
    return (
        f"{sum(others.values()):,} of {documents:,} documents are in languages that the checkpoint "
        f"was not trained on ({', '.join(trained)}): {listed}{more}; set input.languages="
        f"[{','.join(trained)}] to skip them, or take another checkpoint"
    )


class LanguageWatch:
    """Warns once in a run whose documents are mostly in languages the checkpoint does not know."""

    def __init__(self, trained: Sequence[str] | None) -> None:
        self._trained = trained
        self._has_looked = False

    def look(self, totals: Mapping[str, int], *, has_ended: bool) -> None:
        """Look at the counters so far; before the end, once there are enough documents."""
        if self._has_looked or not (has_ended or totals["documents_read"] >= LANGUAGE_DOCUMENTS):
            return
        self._has_looked = True
        warning = other_languages(totals, self._trained)
        if warning is not None:
            logger.warning("%s", warning)


def problems_of(totals: Mapping[str, int], limits: ErrorsConfig) -> tuple[str, ...]:
    """A sentence for each limit that a finished run has passed."""
    problems = []
    documents = totals["documents_read"]
    quarantined = totals["documents_quarantined"]
    if quarantined > limits.max_share * documents:
        problems.append(
            f"{quarantined} of {counted(documents, 'document')} quarantined, over "
            "errors.max_share = "
            f"{limits.max_share:g}; see `linkner failures list`"
        )
    files = totals["files_quarantined"]
    if files > limits.max_failed_files:
        problems.append(
            f"{counted(files, 'file')} could not be read to the end, over "
            f"errors.max_failed_files = {limits.max_failed_files}; see `linkner failures list`"
        )
    answers = answers_problem(
        num_asked(totals),
        failed=num_failed(totals),
        unreadable=num_unreadable(totals),
        limit=limits.max_failed_answers_share,
    )
    return (*problems, *([answers] if answers else []))
