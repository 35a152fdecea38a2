"""Where answers come from, behind one protocol."""

from linkner_ray.config import LlmConfig
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends.protocol import Backend

__all__ = ["Backend", "start_backend"]


def start_backend(config: LlmConfig, label_set: LabelSet) -> Backend:
    """Start the backend a config names and see that it answers.

    Args:
        config: The LLM's part of the config; its backend is not "none".
        label_set: Labels the questions will offer.

    Raises:
        StartupError: If it does not come up, or does not answer as it should.
        ConfigError: If the label set has more labels than an answer can tell apart.
    """
    match config.backend:
        case "vllm":
            from linkner_ray.llm.backends.vllm_engine import VllmBackend

            return VllmBackend(config, label_set)
        case "openai":
            from linkner_ray.llm.backends.endpoint import EndpointBackend

            return EndpointBackend(config, label_set)
        case "none":
            raise ValueError("backend 'none' asks nobody; there is nothing to start")
