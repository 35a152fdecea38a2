"""What a person is told of an incremental run: what still holds, and what was redone and why."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from linkner_ray.reporting.visible import make_visible
from linkner_ray.runs.counters import add_counts
from linkner_ray.runs.fingerprint import STEPS
from linkner_ray.runs.folder import Receipt
from linkner_ray.runs.previous import REASONS, REDONE_PREFIX, REUSED, PreviousRun

if TYPE_CHECKING:  # a plan is shown without Ray
    from linkner_ray.extract.job import ExtractionResult

_CONSEQUENCES = {
    "code": "every document is redone; --trust-code if the two find the same",
    "sentences": "every text is split anew, and an encoder runs over it",
    "encoder": "an encoder runs over every document",
    "calibration": "an encoder runs over every document, since other spans are doubted",
    "routing": "candidates are routed anew; no encoder for it",
    "llm": "questions that were not asked so before are asked; no encoder for it",
    "fusion": "entities are fused anew; no encoder for it, and no question",
}


def describe_previous(previous: PreviousRun) -> str:
    """What of an earlier run holds under a plan, before anything starts."""
    index = previous.index
    lines = [
        f"incremental on {previous.url}: {len(index):,} documents in {len(previous.parts):,} "
        f"files, an index of {index.num_bytes:,} bytes in each machine's memory"
    ]
    for step in STEPS:
        facts = previous.changed.get(step)
        if facts is None:
            lines.append(f"  {step:<12} as before")
            continue
        lines.append(f"  {step:<12} changed: {_CONSEQUENCES[step]}")
        lines += [f"    {make_visible(fact, one_line=True)}" for fact in facts]
    redone = "redone, but for the LLM's answers" if previous.obstacle else "reused"
    lines.append(f"  documents whose text is known are {redone}; all others are done anew")
    return "\n".join(lines)


def explain_shards(result: "ExtractionResult", paths: Sequence[str]) -> str:
    """For each shard what was reused, and why the rest was not.

    Args:
        result: Of the run.
        paths: Of all shards, in order.
    """
    receipts_of: dict[str, list[Receipt]] = {path: [] for path in paths}
    for receipt in result.receipts:
        receipts_of[receipt.source].append(receipt)
    return "\n".join(
        f"{path}: {'; '.join(_explain(receipts))}" for path, receipts in receipts_of.items()
    )


def reuse_line(effort: dict[str, int]) -> str:
    """What a run reused and redid, in a line; empty for a run that is not incremental."""
    return ", ".join(_parts(effort))


def _explain(receipts: Sequence[Receipt]) -> Iterator[str]:
    effort: dict[str, int] = {}
    documents = found_done = 0
    for receipt in receipts:
        if not receipt.effort:
            found_done += 1
            continue
        effort = add_counts(effort, receipt.effort)
        counts = receipt.counts
        documents += counts["documents_entities"] + counts["documents_empty"]
    if found_done:
        yield f"{found_done} units found done"
    if found_done < len(receipts):
        yield f"{documents:,} documents: {reuse_line(effort) or 'nothing to do'}"
    questions = {
        "asked": effort.get("questions_asked", 0),
        "from the previous run": effort.get("questions_from_previous", 0),
        "from the ledger": effort.get("questions_from_ledger", 0),
    }
    if any(questions.values()):
        yield "questions: " + ", ".join(f"{n:,} {where}" for where, n in questions.items() if n)


def _parts(effort: dict[str, int]) -> Iterator[str]:
    if REUSED in effort:
        yield f"{effort[REUSED]:,} reused"
    for reason, meaning in REASONS.items():
        count = effort.get(f"{REDONE_PREFIX}{reason}", 0)
        if count:
            yield f"{count:,} redone ({meaning})"
