"""Where answers come from, behind one protocol."""

from linkner_ray.config import LedgerConfig, LlmConfig
from linkner_ray.errors import StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends.averaging import AveragingBackend
from linkner_ray.llm.backends.protocol import Backend
from linkner_ray.llm.ledger import Ledger

__all__ = ["Backend", "open_ledger", "start_backend"]


def start_backend(
    config: LlmConfig, label_set: LabelSet, ledger: LedgerConfig | None = None
) -> Backend:
    """Start the backend a config names, behind its ledger, and see that it answers.

    Where questions are asked in several orders of their options, it averages the answers.

    Args:
        config: The LLM's part of the config; its backend is not "none".
        label_set: Labels the questions will offer.
        ledger: Where answers are kept, if anywhere.

    Raises:
        StartupError: If it does not come up, or does not answer as it should.
        ConfigError: If the label set has more labels than an answer can tell apart, or what is to
            be replayed cannot be found.
    """
    path = (ledger.path or None) if ledger is not None else None
    if config.backend == "replay":
        return _start_replay(config, label_set, path)
    if path is None:
        return _start_averaging(config, label_set)
    from linkner_ray.llm.backends.ledger_backend import LedgerBackend

    ledger_of_model = open_ledger(
        path, config, label_set
    )  # first: an engine takes minutes to start
    return LedgerBackend(_start_averaging(config, label_set), ledger_of_model)


def _start_averaging(config: LlmConfig, label_set: LabelSet) -> Backend:
    backend = _start_llm(config, label_set)
    return AveragingBackend(backend) if config.option_order == "rotations" else backend


def _start_llm(config: LlmConfig, label_set: LabelSet) -> Backend:
    match config.backend:
        case "vllm":
            from linkner_ray.llm.backends.vllm_engine import VllmBackend

            return VllmBackend(config, label_set)
        case "openai":
            from linkner_ray.llm.backends.endpoint import EndpointBackend

            return EndpointBackend(config, label_set)
        case _:
            raise ValueError(f"backend '{config.backend}' asks nobody; there is nothing to start")


def _start_replay(config: LlmConfig, label_set: LabelSet, path: str | None) -> Backend:
    from linkner_ray.llm.backends import endpoint, vllm_engine
    from linkner_ray.llm.backends.replay import LedgerReplay, RecordedReplay

    if path is None:
        return RecordedReplay(config, label_set)
    return LedgerReplay(
        config,
        label_set,
        ledger=open_ledger(path, config, label_set),
        decodings=(vllm_engine.DECODING, endpoint.DECODING),
    )


def open_ledger(path: str, config: LlmConfig, label_set: LabelSet) -> Ledger:
    """Open a ledger for the answers of a config's model.

    Raises:
        StartupError: If it cannot be read.
    """
    try:
        return Ledger(path, model=config.model, classes=label_set.classes)
    except OSError as error:
        raise StartupError(
            f"ledger {path} cannot be read: {error}; correct ledger.path or its permissions"
        ) from error
