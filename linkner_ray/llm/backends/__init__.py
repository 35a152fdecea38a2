"""Where answers come from, behind one protocol."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from linkner_ray.config import CacheConfig, LlmConfig
from linkner_ray.errors import StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends.protocol import Backend
from linkner_ray.llm.cache.answer_cache import AnswerCache

if TYPE_CHECKING:
    from linkner_ray.llm.backends.endpoint import EndpointBackend
    from linkner_ray.llm.backends.vllm_engine import VllmBackend

__all__ = ["Backend", "open_cache", "start_backend"]


def start_backend(
    config: LlmConfig,
    label_set: LabelSet,
    cache: CacheConfig | None = None,
    *,
    on_rebuild: Callable[[], None] = lambda: None,
) -> Backend:
    """Make the backend a config names, and see that it answers, or put it behind its answer cache.

    Behind an answer cache an engine starts, and an endpoint is asked whether it answers, with the
    first question that the answer cache does not know: a run that asks nothing new needs neither.
    What can be wrong without them, such as a tokenizer, is found here all the same.

    Raises:
        StartupError: If it does not come up, or does not answer as it should.
        ConfigError: If the label set has more labels than an answer can tell apart, or what is to
            be replayed cannot be found.
    """
    path = (cache.path or None) if cache is not None else None
    if config.backend == "replay":
        return _start_replay(config, label_set, path)
    asked = _llm(config, label_set, on_rebuild)
    if path is None:
        asked.start()
        return asked
    from linkner_ray.llm.backends.cache_backend import CacheBackend

    return CacheBackend(asked, open_cache(path, config, label_set))


def _llm(
    config: LlmConfig, label_set: LabelSet, on_rebuild: Callable[[], None]
) -> "VllmBackend | EndpointBackend":
    match config.backend:
        case "vllm":
            from linkner_ray.llm.backends.vllm_engine import VllmBackend

            return VllmBackend(config, label_set, on_rebuild=on_rebuild)
        case "openai":
            from linkner_ray.llm.backends.endpoint import EndpointBackend

            return EndpointBackend(config, label_set)
        case _:
            raise ValueError(f"backend '{config.backend}' asks nobody; there is nothing to start")


def _start_replay(config: LlmConfig, label_set: LabelSet, path: str | None) -> Backend:
    from linkner_ray.llm.backends.replay import CacheReplay, RecordedReplay

    if path is None:
        return RecordedReplay(config, label_set)
    return CacheReplay(config, label_set, cache=open_cache(path, config, label_set))


def open_cache(path: str, config: LlmConfig, label_set: LabelSet) -> AnswerCache:
    """Open an answer cache for the answers of a config's model.

    Raises:
        StartupError: If it cannot be read.
    """
    try:
        return AnswerCache(path, model=config.model, classes=label_set.classes)
    except OSError as error:
        raise StartupError(
            f"answer cache {path} cannot be read: {error}; correct cache.path or its permissions"
        ) from error
