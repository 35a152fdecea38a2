"""Counters of a run: what came in, what became of it, and the check that the two agree.

Counters are derived from a unit's tables alone, so a unit that is done again counts the same.
Every counter is a sum, so the counters of units add up to those of a run. Three open sets of names
appear as they occur: `records_skipped_<reason>`, `quarantine_<reason>` and
`documents_language_<code>`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.errors import ContractError
from linkner_ray.labels import NON_ENTITY
from linkner_ray.schemas import LLM_ROUTES
from linkner_ray.unread import count_unread

UNCERTAINTY_BINS = 20
"""Bins of equal width over [0, 1]; 1 itself falls into the last."""

KINDS = ("predicted", "near_miss")
SOURCES = ("local", "llm", "same_name")
VERDICTS = ("label", "non_entity", "unreadable", "failed")
AUDIT_OUTCOMES = ("agree", "disagree", "unreadable", "failed")

ROUTE_COUNTERS = {
    "local": "stayed_local",
    "llm": "routed",
    "audit": "audited",
    "over_budget": "over_budget",
    "same_name": "same_name",
}
"""Counter of the candidates of each of `schemas.ROUTES`."""


def label_counter(label: str) -> str:
    """Counter of the entities of one label."""
    return f"entities_{label}"


def source_counter(source: str) -> str:
    """Counter of the entities of one source."""
    return f"entities_source_{source}"


def label_source_counter(label: str, source: str) -> str:
    """Counter of the entities of one label and source."""
    return f"source_{source}_{label}"


SKIPPED_COUNTER = "records_skipped_"
LANGUAGE_COUNTER = "documents_language_"
"""How the counters of documents by language begin; an ISO 639 code follows."""

SKIPPED_LANGUAGE = "language_"
"""How the reasons begin for which records in other languages are skipped; the code follows."""


def uncertainty_counter(kind: str, index: int) -> str:
    """Counter of the candidates of one kind in one uncertainty bin."""
    return f"uncertainty_{kind}_bin_{index:02d}"


def audit_counter(outcome: str, label: str) -> str:
    """Counter of the audited candidates of one local label that came out in one way."""
    return f"audit_{outcome}_{label}"


_AUDIT_PREFIXES = tuple(audit_counter(outcome, "") for outcome in AUDIT_OUTCOMES)


def count_unit(
    table: pa.Table, *, output: pa.Table, quarantine: pa.Table, skipped: Mapping[str, int]
) -> dict[str, int]:
    """Counters of one unit of work.

    Args:
        table: Its documents with the columns of all stages.
        output: The rows written for them, schema `schemas.OUTPUT`.
        quarantine: Its quarantined records, schema `schemas.QUARANTINE`.
        skipped: Records that are no documents, by reason.

    Returns:
        Counters by name. `documents_read` and `characters_total` are counted from what came in,
        their parts from what went out. `questions` and `prompt_tokens` count a request once a
        unit, whether it was asked now or its answer was kept. `verdict_...` are those on routed
        candidates, `audit_<outcome>_<label>` those on audited ones, by local label.
        `same_name_undecided` are those of route `same_name` without a readable answer. `flips` are
        entities whose label is not the one predicted locally, `added_by_llm` those not predicted
        at all, `kept_against_llm` those the LLM called non-entity. `dropped_by_llm` are other
        predicted candidates with the verdict non_entity, and `dropped_in_fusion` those that lost
        to an overlapping rival or by a link.
    """
    counts = {
        **_count_documents(table, output=output, quarantine=quarantine),
        **_count_characters(table, quarantine=quarantine),
        **_count_candidates(table),
        **_count_answers(table),
        **_count_entities(output),
        **{f"{SKIPPED_COUNTER}{reason}": count for reason, count in sorted(skipped.items())},
    }
    dropped = _count_refused(table) - counts["kept_against_llm"]
    kept = counts["entities"] - counts["added_by_llm"]
    in_fusion = counts["candidates_predicted"] - dropped - kept
    return {**counts, "dropped_by_llm": dropped, "dropped_in_fusion": in_fusion}


NO_COSTS: Mapping[str, int] = {
    "questions_asked": 0,
    "questions_from_cache": 0,
    "prompt_tokens_asked": 0,
}
"""Of a run that finds every unit done."""


TOKENS_COMPUTED = "prompt_tokens_computed"
"""Prompt tokens that an engine did not read from its prefix cache; an endpoint does not tell."""

_MASS_UNITS, _MASS = "units_after_llm_start", "start_option_mass_ppm"


def count_costs(table: pa.Table) -> dict[str, int]:
    """Counters of what a unit's answers took in this run; they are not the same in every run.

    The sources of the answers are as the backend gave them.

    Returns:
        Counters by name: of the unit's `questions` those that were asked now, the prompt tokens of
        these, those whose answer was in the answer cache or being asked for another unit, and those
        whose answer was reused from a previous run.
    """
    sources, keys, tokens = _fields(table["answers"], ("source", "key", "prompt_tokens"))
    source_of = dict(zip(keys, sources, strict=True))
    tokens_of = dict(zip(keys, tokens, strict=True))
    asked = [key for key, source in source_of.items() if source == "llm"]
    return {
        "questions_asked": len(asked),
        "questions_from_cache": list(source_of.values()).count("cache"),
        "questions_from_previous": list(source_of.values()).count("previous"),
        "prompt_tokens_asked": sum(tokens_of[key] or 0 for key in asked),
    }


class LlmCosts:
    """Counters of what an LLM says of itself, a part for each unit; several threads may count."""

    def __init__(self, describe: Callable[[], Mapping[str, str | int]]) -> None:
        self._describe = describe
        self._computed = 0
        self._lock = Lock()

    def of_unit(self) -> dict[str, int]:
        """Counters of a unit that was just classified.

        Returns:
            1 unit and the millionths of probability that the LLM put on the options at its start;
            and the prompt tokens that were computed since another unit was counted, so that all
            units together have all of them. Nothing where no LLM was started or it does not tell.
        """
        with self._lock:
            said = self._describe()
            counts = {}
            if (mass := said.get("start_option_mass")) is not None:
                counts = {_MASS_UNITS: 1, _MASS: round(float(mass) * 10**6)}
            if (computed := said.get(TOKENS_COMPUTED)) is not None:
                counts[TOKENS_COMPUTED] = int(computed) - self._computed
                self._computed = int(computed)
            return counts


def mean_option_mass(totals: Mapping[str, int]) -> float | None:
    """Probability that the LLM put on the offered options at its start, mean over the units."""
    units = totals.get(_MASS_UNITS, 0)
    return totals[_MASS] / units / 10**6 if units else None


def add_counts(totals: dict[str, int], counts: Mapping[str, int]) -> None:
    """Add the counters of a part to totals, in place: a run adds some 70 for each unit."""
    for name, count in counts.items():
        totals[name] = totals.get(name, 0) + count


def by_reason(totals: Mapping[str, int], prefix: str) -> dict[str, int]:
    """Counters of an open set, without their prefix, the largest first."""
    found = {n.removeprefix(prefix): c for n, c in totals.items() if n.startswith(prefix)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def skipped_languages(totals: Mapping[str, int]) -> dict[str, int]:
    """Records that were skipped for their language, by its code, the largest first."""
    return by_reason(totals, f"{SKIPPED_COUNTER}{SKIPPED_LANGUAGE}")


def routed_share(totals: Mapping[str, int]) -> float:
    """Routed candidates as a share of all candidates, in [0, 1]; 0 where there are none."""
    candidates = totals.get("candidates_predicted", 0) + totals.get("candidates_near_miss", 0)
    return totals["routed"] / candidates if candidates else 0.0


def num_asked(totals: Mapping[str, int]) -> int:
    """Candidates that were asked about: routed and audited ones."""
    return totals["routed"] + totals.get("audited", 0)


def num_failed(totals: Mapping[str, int]) -> int:
    """Candidates that were asked about and got no answer."""
    return _num_of("failed", totals)


def num_unreadable(totals: Mapping[str, int]) -> int:
    """Candidates whose answer names none of the options."""
    return _num_of("unreadable", totals)


def _num_of(verdict: str, totals: Mapping[str, int]) -> int:
    audits = sum(n for name, n in totals.items() if name.startswith(audit_counter(verdict, "")))
    return totals.get(f"verdict_{verdict}", 0) + audits


def answers_problem(asked: int, *, failed: int, unreadable: int, limit: float) -> str | None:
    """What to say where more answers are missing than `errors.max_failed_answers_share` allows."""
    if failed + unreadable <= limit * asked:
        return None
    return (
        f"{failed:,} of {asked:,} spans that were asked about got no answer and {unreadable:,} an "
        f"unreadable one, over errors.max_failed_answers_share = {limit:g}; their local labels "
        "stand"
    )


def check_counters(totals: Mapping[str, int]) -> None:
    """Check that everything that came in is accounted for.

    Raises:
        ContractError: If a total differs from the sum of its parts; names all that do.
    """
    faults = []
    for name, parts in _sums(totals):
        counts = {part: totals.get(part, 0) for part in parts}
        total = sum(counts.values())
        if totals.get(name, 0) != total:
            listed = " + ".join(f"{part} {count}" for part, count in counts.items()) or "no parts"
            faults.append(f"{name} is {totals.get(name, 0)}, but {listed} = {total}")
    if faults:
        raise ContractError(f"the counters of the run do not add up: {'; '.join(faults)}")


def _sums(totals: Mapping[str, int]) -> list[tuple[str, list[str]]]:
    """Names of totals, each with the names of its parts."""
    sources = [source_counter(source) for source in SOURCES]
    labels = [n for n in totals if n.startswith(label_counter("")) and n not in sources]
    characters = [
        f"characters_{part}" for part in ("in_sentences", "between_sentences", "in_blobs")
    ]
    return [
        ("documents_read", [f"documents_{end}" for end in ("entities", "empty", "quarantined")]),
        ("characters_total", [*characters, "characters_quarantined"]),
        ("candidates", [f"candidates_{kind}" for kind in KINDS]),
        ("candidates", list(ROUTE_COUNTERS.values())),
        ("routed", [f"verdict_{verdict}" for verdict in VERDICTS]),
        ("audited", [name for name in totals if name.startswith(_AUDIT_PREFIXES)]),
        ("entities", labels),
        ("entities", sources),
        *(
            (f"candidates_{kind}", [uncertainty_counter(kind, i) for i in range(UNCERTAINTY_BINS)])
            for kind in KINDS
        ),
    ]


def _count_documents(table: pa.Table, *, output: pa.Table, quarantine: pa.Table) -> dict[str, int]:
    files = count_files(quarantine)
    quarantined = len(quarantine) - files
    statuses = Counter(output["status"].to_pylist())
    reasons = Counter(quarantine["reason"].to_pylist())
    return {
        "documents_read": len(table) + quarantined,
        "documents_entities": statuses["entities"],
        "documents_empty": statuses["empty"],
        "documents_quarantined": quarantined,
        "files_quarantined": files,
        **{f"quarantine_{reason}": count for reason, count in sorted(reasons.items())},
    }


def count_files(quarantine: pa.Table) -> int:
    """Quarantined rows that stand for a file from some place on, and not for a document."""
    is_file = pc.and_(pc.is_null(quarantine["record"]), pc.is_null(quarantine["doc_id"]))
    return pc.sum(is_file).as_py() or 0


def _count_characters(table: pa.Table, *, quarantine: pa.Table) -> dict[str, int]:
    """Characters by where they went; outside sentences blank, invisible and those of blobs count.

    A character that should stand in a sentence and does not is thus in no part of the total.
    """
    lost = sum(quarantine["num_chars"].to_pylist())
    texts = table["text"].to_pylist()
    starts, ends = _fields(table["sentences"], ("start", "end"))
    bounds = zip(starts, ends, strict=True)
    blank = in_blobs = 0
    for text, count in zip(texts, _lengths(table["sentences"]), strict=True):
        unread = count_unread(text, list(islice(bounds, count)))
        blank += unread[0]
        in_blobs += unread[1]
    tokens = pc.struct_field(pc.list_flatten(table["sentences"]), "tokens")
    return {
        "characters_total": sum(map(len, texts)) + lost,
        "characters_in_sentences": sum(ends) - sum(starts),
        "characters_between_sentences": blank,
        "characters_in_blobs": in_blobs,
        "characters_quarantined": lost,
        "sentences": len(starts),
        "tokens": sum(_lengths(tokens)),
    }


def _count_candidates(table: pa.Table) -> dict[str, int]:
    kinds, uncertainties = _fields(table["candidates"], ("kind", "uncertainty"))
    bins = Counter(
        (kind, min(int(uncertainty * UNCERTAINTY_BINS), UNCERTAINTY_BINS - 1))
        for kind, uncertainty in zip(kinds, uncertainties, strict=True)
    )
    routes = Counter(pc.list_flatten(table["routes"]).to_pylist())
    return {
        "candidates": len(kinds),
        **{f"candidates_{kind}": kinds.count(kind) for kind in KINDS},
        **{name: routes[route] for route, name in ROUTE_COUNTERS.items()},
        **{
            uncertainty_counter(kind, index): bins[kind, index]
            for kind in KINDS
            for index in range(UNCERTAINTY_BINS)
        },
    }


def _count_answers(table: pa.Table) -> dict[str, int]:
    verdicts, keys, tokens = _fields(table["answers"], ("verdict", "key", "prompt_tokens"))
    routes = pc.list_flatten(table["routes"]).to_pylist()
    routed = Counter(v for v, route in zip(verdicts, routes, strict=True) if route == "llm")
    tokens_of = {key: count or 0 for key, count in zip(keys, tokens, strict=True)}
    return {
        "questions": len({key for key in keys if key is not None}),
        **{f"verdict_{verdict}": routed[verdict] for verdict in VERDICTS},
        "same_name_undecided": sum(
            route == "same_name" and verdict in ("unreadable", "failed")
            for verdict, route in zip(verdicts, routes, strict=True)
        ),
        "prompt_tokens": sum(tokens_of.values()),
        **_count_audits(table, routes),
    }


def _count_audits(table: pa.Table, routes: Sequence[str]) -> dict[str, int]:
    """Audited candidates by outcome and local label."""
    if "audit" not in routes:
        return {}
    [local_labels] = _fields(table["candidates"], ("label",))
    verdicts, llm_labels = _fields(table["answers"], ("verdict", "label"))
    counts: Counter[str] = Counter()
    for route, local, verdict, label in zip(
        routes, local_labels, verdicts, llm_labels, strict=True
    ):
        if route == "audit":
            outcome = "agree" if label == local else "disagree"
            outcome = verdict if verdict in ("unreadable", "failed") else outcome
            counts[audit_counter(outcome, local)] += 1
    return dict(sorted(counts.items()))


def _count_refused(table: pa.Table) -> int:
    """Predicted candidates that the LLM decided and called non-entity."""
    [kinds] = _fields(table["candidates"], ("kind",))
    [verdicts] = _fields(table["answers"], ("verdict",))
    routes = pc.list_flatten(table["routes"]).to_pylist()
    judged = Counter(zip(kinds, routes, verdicts, strict=True))
    return sum(judged["predicted", route, "non_entity"] for route in LLM_ROUTES)


def _count_entities(output: pa.Table) -> dict[str, int]:
    labels, sources, local_labels, llm_labels = _fields(
        output["entities"], ("label", "source", "local_label", "llm_label")
    )
    by_label = sorted(Counter(labels).items())
    by_both = sorted(Counter(zip(labels, sources, strict=True)).items())
    return {
        "entities": len(labels),
        **{label_counter(label): count for label, count in by_label},
        **{source_counter(source): sources.count(source) for source in SOURCES},
        **{label_source_counter(*both): count for both, count in by_both},
        "flips": sum(
            local is not None and local != label
            for label, local in zip(labels, local_labels, strict=True)
        ),
        "added_by_llm": local_labels.count(None),
        "kept_against_llm": llm_labels.count(NON_ENTITY),
    }


def _fields(lists: pa.ChunkedArray, names: Sequence[str]) -> list[list[Any]]:
    """Values of some fields of a list of structs, over all rows; None where the struct is null."""
    flat = pc.list_flatten(lists)
    return [pc.struct_field(flat, name).to_pylist() for name in names]


def _lengths(lists: pa.ChunkedArray) -> list[int]:
    """Number of items of each list."""
    return pc.list_value_length(lists).to_pylist()
