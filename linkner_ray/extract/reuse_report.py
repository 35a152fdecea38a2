"""An incremental run for its user: what was reused, and what was redone and why."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from linkner_ray.errors import counted, hide_secrets
from linkner_ray.reporting.visible import make_visible
from linkner_ray.runs.counters import add_counts
from linkner_ray.runs.fingerprint import STEPS
from linkner_ray.runs.folder import UnitResult
from linkner_ray.runs.previous import REASONS, REDONE_PREFIX, REUSED, PreviousRun

if TYPE_CHECKING:  # a plan is shown without Ray
    from linkner_ray.extract.result import ExtractionResult

_CONSEQUENCES = {
    "code": "every document is redone; --trust-code if the two find the same",
    "sentences": "every text is split anew, and an encoder runs over it",
    "encoder": "an encoder runs over every document",
    "calibration": "an encoder runs over every document, since other spans are near misses",
    "routing": "candidates are routed anew; no encoder for it",
    "llm": "questions that were not asked so before are asked; no encoder for it",
}


def describe_previous(previous: PreviousRun) -> str:
    """Which steps of an earlier run hold under a plan; said before anything starts."""
    index = previous.index
    lines = [
        f"incremental on {hide_secrets(previous.url)}: {counted(len(index), 'document')} in "
        f"{counted(len(previous.parts), 'file')}, an index of {index.num_bytes:,} bytes "
        "in each machine's memory"
    ]
    for step in STEPS:
        differing = previous.changed.get(step)
        if differing is None:
            lines.append(f"  {step:<12} as before")
            continue
        lines.append(f"  {step:<12} changed: {_CONSEQUENCES[step]}")
        lines += [f"    {make_visible(fact, one_line=True)}" for fact in differing]
    redone = "redone, but for the LLM's answers" if previous.obstacle else "reused"
    lines.append(f"  documents whose text is known are {redone}; all others are done anew")
    return "\n".join(lines)


def explain_shards(result: "ExtractionResult", paths: Sequence[str]) -> str:
    """For each shard, in the order of the paths, what was reused, and why the rest was not."""
    unit_results_of: dict[str, list[UnitResult]] = {path: [] for path in paths}
    for unit_result in result.unit_results:
        unit_results_of[unit_result.source].append(unit_result)
    return "\n".join(
        f"{make_visible(path, one_line=True)}: {'; '.join(_explain(unit_results))}"
        for path, unit_results in unit_results_of.items()
    )


def reuse_line(costs: dict[str, int]) -> str:
    """What a run reused and redid, in a line; empty for a run that is not incremental."""
    return ", ".join(_parts(costs))


def _explain(unit_results: Sequence[UnitResult]) -> Iterator[str]:
    costs: dict[str, int] = {}
    documents = found_done = 0
    for unit_result in unit_results:
        if not unit_result.costs:
            found_done += 1
            continue
        add_counts(costs, unit_result.costs)
        counts = unit_result.counts
        documents += counts["documents_entities"] + counts["documents_empty"]
    if found_done:
        yield f"{counted(found_done, 'unit')} found done"
    if found_done < len(unit_results):
        yield f"{counted(documents, 'document')}: {reuse_line(costs) or 'nothing to do'}"
    questions = {
        "asked": costs.get("questions_asked", 0),
        "from the previous run": costs.get("questions_from_previous", 0),
        "from the answer cache": costs.get("questions_from_cache", 0),
    }
    if any(questions.values()):
        yield "questions: " + ", ".join(f"{n:,} {where}" for where, n in questions.items() if n)


def _parts(costs: dict[str, int]) -> Iterator[str]:
    if REUSED in costs:
        yield f"{costs[REUSED]:,} reused"
    for reason, meaning in REASONS.items():
        count = costs.get(f"{REDONE_PREFIX}{reason}", 0)
        if count:
            yield f"{count:,} redone ({meaning})"
