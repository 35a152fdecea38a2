"""What a run takes for each 1,000 documents, and what that costs."""

from collections.abc import Mapping

from linkner_ray.config import ExtractConfig, LlmConfig
from linkner_ray.runs.counters import TOKENS_COMPUTED


def per_1000_documents(
    costs: Mapping[str, int], *, documents: int, seconds: float, config: ExtractConfig
) -> dict[str, float]:
    """Questions, prompt tokens and seconds of a run for each 1,000 documents, and their price.

    Costs are counters of `count_costs` and `LlmCosts`, summed over the units with these documents.

    Returns:
        Figures by name; none without documents. Without a price there is no `price`, and where the
        engine does not tell what it computed, no `prompt_tokens_computed`.
    """
    if not documents:
        return {}
    tokens = costs["prompt_tokens_asked"]
    figures: dict[str, float] = {"questions": costs["questions_asked"], "prompt_tokens": tokens}
    if TOKENS_COMPUTED in costs:
        figures[TOKENS_COMPUTED] = costs[TOKENS_COMPUTED]
    figures["seconds"] = seconds
    gpu_hours = gpus_of(config) * seconds / 3600
    price = price_of(config.llm, prompt_tokens=tokens, gpu_hours=gpu_hours)
    if price is not None:
        figures["price"] = price
    return {name: 1000 * value / documents for name, value in figures.items()}


def gpus_of(config: ExtractConfig) -> float:
    """GPUs that the actors of a run hold from its start to its end."""
    resources = config.resources
    encoders = resources.encoder_actors * resources.encoder_gpus
    if config.llm.backend in {"replay", "none"}:
        return encoders
    return encoders + resources.llm_actors * resources.llm_gpus


def price_of(llm: LlmConfig, *, prompt_tokens: float, gpu_hours: float) -> float | None:
    """Price of tokens and GPUs together; None where the config names no price."""
    for_tokens, for_hours = llm.price_per_million_tokens, llm.price_per_gpu_hour
    if for_tokens is None and for_hours is None:
        return None
    return (for_tokens or 0.0) * prompt_tokens / 10**6 + (for_hours or 0.0) * gpu_hours
