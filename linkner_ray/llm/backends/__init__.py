"""Where answers come from, behind one protocol."""

from linkner_ray.config import LlmConfig
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends.averaging import AveragingBackend
from linkner_ray.llm.backends.protocol import Backend

__all__ = ["Backend", "start_backend"]


def start_backend(config: LlmConfig, label_set: LabelSet) -> Backend:
    """Start the backend a config names and see that it answers.

    Where questions are asked in several orders of their options, it averages the answers.

    Args:
        config: The LLM's part of the config; its backend is not "none".
        label_set: Labels the questions will offer.

    Raises:
        StartupError: If it does not come up, or does not answer as it should.
        ConfigError: If the label set has more labels than an answer can tell apart.
    """
    backend = _start(config, label_set)
    return AveragingBackend(backend) if config.option_order == "rotations" else backend


def _start(config: LlmConfig, label_set: LabelSet) -> Backend:
    match config.backend:
        case "vllm":
            from linkner_ray.llm.backends.vllm_engine import VllmBackend

            return VllmBackend(config, label_set)
        case "openai":
            from linkner_ray.llm.backends.endpoint import EndpointBackend

            return EndpointBackend(config, label_set)
        case "none":
            raise ValueError("backend 'none' asks nobody; there is nothing to start")
