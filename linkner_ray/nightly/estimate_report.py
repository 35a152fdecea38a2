"""The page that `linkner estimate` prints."""

from linkner_ray.config import ExtractConfig
from linkner_ray.errors import counted
from linkner_ray.linking.summary import describe_summary
from linkner_ray.llm.backends.recorder import CHARS_PER_TOKEN
from linkner_ray.nightly.asking_estimate import RoutingEstimate
from linkner_ray.nightly.estimate import RunEstimate
from linkner_ray.reporting.tables import markdown_table


def describe_estimate(estimate: RunEstimate, config: ExtractConfig) -> str:
    """An estimate as Markdown, with what it rests on."""
    lines = [
        f"From {counted(estimate.sampled_documents, 'document')} of {estimate.sampled_shards:,} of "
        f"{counted(estimate.shards, 'shard')}, extrapolated by bytes: "
        f"{counted(estimate.documents, 'document')}, {counted(estimate.characters, 'character')}, "
        f"{counted(estimate.words, 'word')}, {counted(estimate.candidates, 'candidate')}.",
        "",
        f"Encoder: {estimate.words_per_s:,.0f} words a second in this process, "
        f"{_hours(estimate.encoder_hours)} hours for "
        f"{counted(config.resources.encoder_actors, 'actor')} of that speed.",
        "",
        markdown_table(
            {
                **_rule(row, config),
                "routed": f"{row.routed:,}",
                "share": f"{row.routed_share:.1%}",
                **({} if config.routing.per_name is None else {"same name": f"{row.same_name:,}"}),
                "audited": f"{row.audited:,}",
                "asked": f"{row.asked:,}",
                "questions": f"{row.questions:,}",
                "a document": f"{row.questions / max(1, estimate.documents):.1f}",
                "in the answer cache": "-" if row.known is None else f"{row.known:,}",
                "prompt tokens": f"{row.prompt_tokens:,}",
                "LLM hours": _hours(row.llm_hours),
                **({} if row.price is None else {"price": f"{row.price:,.2f}"}),
                **({} if row.dev_f1 is None else {"F1 on dev": f"{100 * row.dev_f1:.2f}"}),
            }
            for row in estimate.rows
        ),
        "",
        *_notes(estimate, config),
    ]
    return "\n".join(lines)


def _rule(row: RoutingEstimate, config: ExtractConfig) -> dict[str, str]:
    """From where a row's candidates are routed."""
    name, value, own = (
        ("threshold", row.threshold, config.routing.threshold)
        if row.min_gain is None
        else ("min_gain", row.min_gain, config.routing.min_gain)
    )
    return {name: f"{value:g}{' (config)' if value == own else ''}"}


def _notes(estimate: RunEstimate, config: ExtractConfig) -> list[str]:
    """What a reader has to know about the numbers."""
    budget = config.routing.budget
    notes = []
    if estimate.link is not None:
        notes.append(describe_summary(config.shown()["routing"]["link"], estimate.link))
        if not estimate.link["asks"]:
            return [f"- {note}" for note in notes]
        notes.append(
            "Routed: candidates of which a question is expected to put at least min_gain entities "
            "right. F1 on dev: what the link expects of dev with as large a share of the "
            "candidates asked about, the most promising first; other text has another F1."
        )
    if config.routing.per_name is not None:
        notes.append(
            f"Same name: further uncertain candidates of the same words in a document, of which "
            f"routing.per_name = {config.routing.per_name} are asked about."
        )
    notes += [
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
            f"LLM hours are those of {counted(config.resources.llm_actors, 'engine')} at "
            f"{estimate.requests_per_s:,.1f} requests a second each."
        )
    return [f"- {note}" for note in notes]


def _hours(hours: float | None) -> str:
    return "-" if hours is None else f"{hours:,.4g}"
