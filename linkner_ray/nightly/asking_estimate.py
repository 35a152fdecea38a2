"""What a run would ask under one config of routing, from a sample of its input."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import ExtractConfig
from linkner_ray.linking.link import Link
from linkner_ray.readers.sampling import ShardSample
from linkner_ray.runs.bill import price_of
from linkner_ray.schemas import ASKED_ROUTES
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.route_spans import RouteSpans

IsKnown = Callable[[Sequence[str]], Sequence[bool]]
"""Whether the replies to requests of these keys are at hand already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingEstimate:
    """What a run at one threshold or least gain would ask; counts are of the whole input."""

    threshold: float | None
    """Uncertainty from which a candidate is routed; None for a run with a link."""

    min_gain: float | None
    """Expected gain from which a candidate is routed; None for a run without a link."""

    routed: int
    """Candidates from there up, at most `routing.per_name` of the same words in a document."""

    same_name: int
    """The others of the same words, which the answers decide."""

    audited: int
    routed_share: float
    """Routed candidates as a share of all, in [0, 1]."""

    asked: int
    """Routed and audited candidates as far as `routing.budget` goes."""

    questions: int
    """Distinct questions among the asked; those in the sample of one shard are told apart."""

    known: int | None
    """Questions whose reply is at hand; None without an answer cache."""

    prompt_tokens: int
    """Of the questions whose reply is not at hand."""

    llm_hours: float | None
    """Hours of all engines at work together; None without a rate."""

    price: float | None
    """Of the prompt tokens and of the engines' GPUs; None if the config names no price, or one of
    GPUs whose hours are not known."""

    dev_f1: float | None
    """F1 on dev, in [0, 1], with this share of the candidates decided; audits do not count.
    None without a link."""


def estimate_row(
    samples: Sequence[ShardSample],
    config: ExtractConfig,
    link: Link | None,
    *,
    requests_per_s: float | None,
    is_known: IsKnown | None,
) -> RoutingEstimate:
    """What would be asked under a config."""
    route = RouteSpans(
        config.routing.model_copy(update={"budget": None}),
        has_llm=link is None or link.asks,
        link=link,
    )
    candidates = routed = audited = same_name = questions = known = tokens = 0.0
    for sample in samples:
        table = apply_stage(route, sample.table.drop_columns(["routes"]))
        routes = table["routes"].combine_chunks().flatten()
        answers = table["answers"].combine_chunks().flatten()
        asked = answers.filter(pc.is_in(routes, pa.array(ASKED_ROUTES)))
        tokens_of = dict(
            zip(
                asked.field("key").to_pylist(),
                asked.field("prompt_tokens").to_pylist(),
                strict=True,
            )
        )
        at_hand = np.zeros(len(tokens_of), dtype=bool)
        if is_known is not None and tokens_of:
            at_hand = np.asarray(is_known(list(tokens_of)), dtype=bool)
        candidates += sample.weight * len(routes)
        found = Counter(routes.to_pylist())
        routed += sample.weight * found["llm"]
        audited += sample.weight * found["audit"]
        same_name += sample.weight * found["same_name"]
        questions += sample.weight * len(tokens_of)
        known += sample.weight * int(at_hand.sum())
        tokens += sample.weight * float(np.array(list(tokens_of.values()))[~at_hand].sum())
    wanted = routed + audited
    within = min(_budget(config, candidates), wanted)
    part = within / wanted if wanted else 0.0
    to_ask = part * (questions - known)
    actors = config.resources.llm_actors
    hours = to_ask / requests_per_s / actors / 3600 if requests_per_s else None
    decided = max(within - audited, 0.0) * (routed + same_name) / routed if routed else 0.0
    return RoutingEstimate(
        threshold=config.routing.threshold if link is None else None,
        min_gain=None if link is None else config.routing.min_gain,
        routed=round(routed),
        same_name=round(same_name),
        audited=round(audited),
        routed_share=routed / candidates if candidates else 0.0,
        asked=round(within),
        questions=round(part * questions),
        known=None if is_known is None else round(part * known),
        prompt_tokens=round(part * tokens),
        llm_hours=hours,
        price=_price(config, tokens=part * tokens, llm_hours=hours),
        dev_f1=None if link is None else link.f1_at(decided / max(1.0, candidates)),
    )


def _price(config: ExtractConfig, *, tokens: float, llm_hours: float | None) -> float | None:
    gpus = config.resources.llm_actors * config.resources.llm_gpus
    if llm_hours is None and gpus and config.llm.price_per_gpu_hour is not None:
        return None
    return price_of(config.llm, prompt_tokens=tokens, gpu_hours=gpus * (llm_hours or 0.0))


def _budget(config: ExtractConfig, candidates: float) -> float:
    """Candidates that may be asked about."""
    if config.routing.max_share is not None:
        return float(config.routing.max_share) * candidates
    return math.inf if config.routing.max_calls is None else float(config.routing.max_calls)
