"""What `linkner plan --cluster` prints: pools that fit a cluster, as YAML, and their hours."""

from collections import Counter
from collections.abc import Sequence

from linkner_ray.config import ExtractConfig
from linkner_ray.planning import RunEstimate, ThresholdEstimate
from linkner_ray.runs.cluster_shape import Node
from linkner_ray.runs.pools import Choice, PoolPlan, Rates


def rates_of(
    estimate: RunEstimate, config: ExtractConfig, *, documents_per_s: float | None
) -> Rates:
    """The rates that pools are planned with.

    Args:
        estimate: From a sample of the input.
        config: Of the run; its threshold and budget say what is asked.
        documents_per_s: What one encoder recognizes on the cluster; None for what it did here.
    """
    documents = estimate.documents
    row = _row(estimate, config)
    words_per_document = estimate.words / documents if documents else 0.0
    here = estimate.words_per_s / words_per_document if words_per_document else 0.0
    return Rates(
        documents=documents,
        documents_per_s=documents_per_s or here,
        questions_per_document=(row.questions - (row.known or 0)) / documents if documents else 0.0,
        requests_per_s=estimate.requests_per_s,
        split_s=estimate.split_s / documents if documents else 0.0,
    )


def describe_pools(plan: PoolPlan, rates: Rates) -> str:
    """A plan of pools as Markdown."""
    return "\n".join(
        [
            f"Pools for {_cluster(plan.nodes)}; paste them into the config:",
            "",
            "```yaml",
            *_yaml(plan),
            "```",
            "",
            "| pool | actors | documents/s | hours | busy |",
            "| --- | ---: | ---: | ---: | ---: |",
            *(
                f"| {pool.name} | {pool.actors} | {pool.documents_per_s:,.4g} | {pool.hours:,.4g} "
                f"| {pool.hours / plan.hours if plan.hours else 0.0:.0%} |"
                for pool in plan.pools
            ),
            "",
            *_notes(plan, rates),
        ]
    )


def _row(estimate: RunEstimate, config: ExtractConfig) -> ThresholdEstimate:
    """What would be asked at the config's own threshold."""
    [row] = [row for row in estimate.rows if row.threshold == config.routing.threshold]
    return row


def _yaml(plan: PoolPlan) -> list[str]:
    """The numbers under their keys, each with its reason above it."""
    lines = ["resources:"]
    for name, choice in plan.resources.items():
        lines += _entry(name, choice)
    for name, choice in plan.threads.items():
        section, _, key = name.partition(".")
        lines += [f"{section}:", *_entry(key, choice)]
    return lines


def _entry(name: str, choice: Choice) -> list[str]:
    return [f"  # {choice.why}", f"  {name}: {choice.value:.6g}"]


def _cluster(nodes: Sequence[Node]) -> str:
    kinds = Counter(nodes)
    return ", ".join(
        f"{count} x {node.cpus:g} CPUs" + (f" {node.gpus} GPUs" if node.gpus else "")
        for node, count in kinds.items()
    )


def _notes(plan: PoolPlan, rates: Rates) -> list[str]:
    """What holds a run up, and what the numbers rest on."""
    slowest = max(plan.pools, key=lambda pool: pool.hours)
    notes = [
        f"{slowest.name} are the bottleneck: {plan.hours:,.4g} hours for {rates.documents:,} "
        "documents, without the time in which nodes and models come up."
        if plan.hours
        else "There is nothing to do.",
        f"One encoder: {rates.documents_per_s:,.4g} documents a second. Measured in this process "
        "unless --documents-per-s says what one does on the cluster.",
    ]
    if "llm_actors" in plan.resources and rates.requests_per_s is None:
        notes.append(
            "The engines' speed is not known, and so neither their hours nor the balance of the "
            "pools: give --requests-per-s, or --measure-llm."
        )
    if rates.split_s:
        notes.append(
            f"Splitting: {1000 * rates.split_s:,.3g} ms of a CPU a document; reading and writing "
            "come on top, as storage lets them."
        )
    return [f"- {note}" for note in notes]
