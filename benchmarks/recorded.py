"""Answers of a recorded LLM for benchmarks that need no engine."""

import pyarrow as pa

from linkner_ray.config import LlmConfig, RoutingConfig
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends import start_backend
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.route_spans import RouteSpans


def with_replay(candidates: pa.Table, path: str, label_set: LabelSet) -> pa.Table:
    """Every candidate put to the recorded LLM."""
    config = LlmConfig(
        backend="replay", model="recorded", replay_path=path, max_context_chars=10_000
    )
    backend = start_backend(config, label_set)
    routed = apply_stage(RouteSpans(RoutingConfig(threshold=0.0)), candidates)
    return apply_stage(ClassifySpans(backend, label_set, config=config), routed)
