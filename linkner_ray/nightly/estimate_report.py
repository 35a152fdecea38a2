"""The page that `linkner estimate` prints."""

from linkner_ray.config import ExtractConfig
from linkner_ray.nightly.estimate import CHARS_PER_TOKEN, RunEstimate
from linkner_ray.reporting.tables import markdown_table


def describe_estimate(estimate: RunEstimate, config: ExtractConfig) -> str:
    """An estimate as Markdown, with what it rests on."""
    lines = [
        f"From {estimate.sampled_documents:,} documents of {estimate.sampled_shards:,} of "
        f"{estimate.shards:,} shards, extrapolated by bytes: {estimate.documents:,} documents, "
        f"{estimate.characters:,} characters, {estimate.words:,} words, "
        f"{estimate.candidates:,} candidates.",
        "",
        f"Encoder: {estimate.words_per_s:,.0f} words a second in this process, "
        f"{_hours(estimate.encoder_hours)} hours for {config.resources.encoder_actors} actors of "
        "that speed.",
        "",
        markdown_table(
            {
                "threshold": f"{row.threshold:g}"
                + (" (config)" if row.threshold == config.routing.threshold else ""),
                "routed": f"{row.routed:,}",
                "share": f"{row.routed_share:.1%}",
                "audited": f"{row.audited:,}",
                "asked": f"{row.asked:,}",
                "questions": f"{row.questions:,}",
                "in the answer cache": "-" if row.known is None else f"{row.known:,}",
                "prompt tokens": f"{row.prompt_tokens:,}",
                "LLM hours": _hours(row.llm_hours),
            }
            for row in estimate.rows
        ),
        "",
        *_notes(estimate, config),
    ]
    return "\n".join(lines)


def _notes(estimate: RunEstimate, config: ExtractConfig) -> list[str]:
    """What a reader has to know about the numbers."""
    budget = config.routing.budget
    notes = [
        "Asked: routed and audited"
        + (", as far as they go." if budget is None else f" within routing.budget = '{budget}'.")
        + " Questions: distinct ones within the sample of a shard; a run, which compares whole"
        " units, finds a few more to be the same.",
        "Prompt tokens are counted by the LLM's tokenizer."
        if estimate.tokens_are_exact
        else f"Prompt tokens are characters / {CHARS_PER_TOKEN}, without those of a chat template: "
        "the tokenizer is not at hand (llm.model is no local folder).",
    ]
    if estimate.requests_per_s is None:
        notes.append(
            "LLM hours need a rate: --requests-per-s, routing.requests_per_s, or --measure-llm."
        )
    else:
        notes.append(
            f"LLM hours are those of {config.resources.llm_actors} engines at "
            f"{estimate.requests_per_s:,.1f} requests a second each."
        )
    return [f"- {note}" for note in notes]


def _hours(hours: float | None) -> str:
    return "-" if hours is None else f"{hours:,.4g}"
