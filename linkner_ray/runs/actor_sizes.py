"""What one encoder, one engine and one task should hold on the nodes of a cluster."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from linkner_ray.config import ExtractConfig, ResourcesConfig
from linkner_ray.errors import ConfigError
from linkner_ray.runs.cluster_shape import Node
from linkner_ray.runs.packing import ActorSize

SHARED_GPU = 0.5
"""Of an encoder: while one waits for its next unit, the other computes."""

MAX_CHOSEN_THREADS = 8
"""Of a CPU engine whose threads nobody chose; more of them gain little on small batches."""

SHARES_OF_A_THREAD = (0.5, 0.25)
"""CPUs of an actor where a cluster has fewer CPUs than threads, so that these take turns."""

_WAITS = "it waits for answers and computes little"
_NO_GPU = "it has no engine of its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What each actor and task holds, and why."""

    encoder: ActorSize
    engine: ActorSize
    read_cpus: float
    write_cpus: float
    has_engine: bool = True
    engine_name: str = "engines"
    most_engines: int | None = None
    """LLM actors that make sense; None for as many as fit."""

    takes_turns: bool = False
    """Whether actors hold less than the threads they have."""

    why_encoder_cpus: str = ""
    why_encoder_gpus: str = ""
    why_llm_cpus: str = ""
    why_llm_gpus: str = ""
    threads: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def task(self) -> float:
        """CPUs of the larger of the two tasks."""
        return max(self.read_cpus, self.write_cpus)


def sizes_to_try(
    config: ExtractConfig, nodes: Sequence[Node], *, rate_is_known: bool
) -> Iterator[Sizes]:
    """Sizes from the best to what may fit at all.

    Args:
        config: Of the run.
        nodes: Of the cluster.
        rate_is_known: Whether an engine's speed was measured, with the threads of the config.

    Raises:
        ConfigError: If an engine fits no node, or shares a GPU as engines cannot.
    """
    has_gpus = any(node.gpus for node in nodes)
    own_engine = config.llm.backend == "vllm"
    if not has_gpus:
        threads = _engine_threads(config, nodes, rate_is_known=rate_is_known)
        if own_engine:
            _check_cpu_engine(threads[0], config.llm.tensor_parallel_size, nodes)
        for share in (1.0, *SHARES_OF_A_THREAD):
            yield _on_cpus(config, nodes, share=share, engine_threads=threads)
        return
    if own_engine:
        _check_gpu_engine(config, nodes)
    asked = config.resources
    if "encoder_gpus" in asked.model_fields_set:
        yield _on_gpus(config, nodes, encoder_gpus=asked.encoder_gpus)
        return
    yield _on_gpus(config, nodes, encoder_gpus=SHARED_GPU)
    yield _on_gpus(config, nodes, encoder_gpus=0.0)


def engine_gpus(config: ExtractConfig) -> float:
    """GPUs of one engine: what is set, or one for each part of the model."""
    return config.resources.llm_gpus or float(config.llm.tensor_parallel_size)


def _check_cpu_engine(threads: int, parts: int, nodes: Sequence[Node]) -> None:
    """Check that an engine has a core of one node for each of its threads.

    Raises:
        ConfigError: If it does not.
    """
    largest = max(node.cpus for node in nodes)
    if threads * parts > max(1.0, largest):
        raise ConfigError(
            f"an engine lives on one node: llm.num_threads x llm.tensor_parallel_size = "
            f"{threads * parts}, and the largest node has {largest:g} CPUs; lower llm.num_threads"
        )


def _check_gpu_engine(config: ExtractConfig, nodes: Sequence[Node]) -> None:
    """Check that an engine fits a node, and a GPU that it shares.

    Raises:
        ConfigError: If it does not.
    """
    parts = config.llm.tensor_parallel_size
    gpus, largest = engine_gpus(config), max(node.gpus for node in nodes)
    check_engine_gpus(config.resources.model_copy(update={"llm_gpus": gpus}), parts=parts)
    if gpus > largest:
        raise ConfigError(
            f"an engine lives on one node: it needs {gpus:g} GPUs (resources.llm_gpus, or "
            f"llm.tensor_parallel_size = {parts}), and no node has more than {largest}; take "
            "larger nodes, or lower llm.tensor_parallel_size"
        )
    if gpus < 1 and config.llm.gpu_memory_utilization > gpus:
        raise ConfigError(
            f"resources.llm_gpus = {gpus:g} lets several actors share a GPU, and each engine takes "
            f"llm.gpu_memory_utilization = {config.llm.gpu_memory_utilization:g} of its memory; "
            f"set that to at most {gpus:g}"
        )


def check_engine_gpus(resources: ResourcesConfig, *, parts: int) -> None:
    """Check that an engine that works on GPUs gets one for each part of its model.

    Args:
        resources: What the run asks for.
        parts: `llm.tensor_parallel_size`.

    Raises:
        ConfigError: If it does not.
    """
    gpus = resources.llm_gpus
    if parts > 1 and 0 < gpus < parts:
        raise ConfigError(
            f"llm.tensor_parallel_size = {parts} spreads a model over that many GPUs of one node, "
            f"and resources.llm_gpus = {gpus:g}; set resources.llm_gpus={parts}"
        )
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(
            f"resources.llm_gpus = {gpus:g}: Ray gives an actor a part of one GPU or whole ones; "
            f"set {math.ceil(gpus)}"
        )


def _tasks(nodes: Sequence[Node], *, encoder_cpus: float) -> tuple[float, float]:
    """CPUs of a reading and of a writing task: close to what they use where there are enough."""
    read, write = (0.9, 0.5) if min(n.cpus for n in nodes if n.cpus) >= 4 else (0.4, 0.3)
    return (read if read != encoder_cpus else read - 0.05), write


def _on_cpus(
    config: ExtractConfig, nodes: Sequence[Node], *, share: float, engine_threads: tuple[int, str]
) -> Sizes:
    """Sizes where everything works on CPUs; each thread of an actor has `share` of one."""
    encoder_threads = config.recognize.num_threads or 1
    backend = config.llm.backend
    own_engine = backend == "vllm"
    engine = engine_threads[0] * config.llm.tensor_parallel_size * share if own_engine else 0.25
    encoder = encoder_threads * share
    read, write = _tasks(nodes, encoder_cpus=encoder)
    threads = {"recognize.num_threads": (encoder_threads, "as many as it holds CPUs")}
    if own_engine:
        threads["llm.num_threads"] = engine_threads
    turns = share < 1
    held = "less than its threads, which take turns" if turns else "one for each of its threads"
    return Sizes(
        encoder=ActorSize(encoder),
        engine=ActorSize(engine),
        read_cpus=read,
        write_cpus=write,
        has_engine=backend != "none",
        engine_name="engines" if own_engine else "LLM clients",
        most_engines=None if own_engine else 1,
        takes_turns=turns,
        why_encoder_cpus=held,
        why_encoder_gpus="the cluster has none",
        why_llm_cpus=f"{held}; engines of a node take cores of their own" if own_engine else _WAITS,
        why_llm_gpus="the cluster has none" if own_engine else _NO_GPU,
        threads=threads,
    )


def _on_gpus(config: ExtractConfig, nodes: Sequence[Node], *, encoder_gpus: float) -> Sizes:
    """Sizes where engines, and encoders if they get a part of one, work on GPUs."""
    asked = config.resources
    backend = config.llm.backend
    own_engine = backend == "vllm"
    gpus = engine_gpus(config) if own_engine else 0.0
    # Actors hold up to half of the CPUs that come with a GPU, so GPUs and not CPUs limit them.
    half = min((node.cpus - 1) / node.gpus for node in nodes if node.gpus) / 2
    llm_cpus = _between(0.01, half * gpus, 2 * gpus) if own_engine else 0.25
    why_llm_cpus = "from what comes with its GPUs, so that CPUs do not limit the pool"
    if own_engine and "llm_cpus" in asked.model_fields_set and asked.llm_cpus:
        llm_cpus, why_llm_cpus = asked.llm_cpus, "as set in the config"
    encoder_cpus = float(config.recognize.num_threads or 1)
    threads = {}
    if encoder_gpus:
        encoder_cpus = _between(0.01, half * encoder_gpus, 1.0)
        if "encoder_cpus" in asked.model_fields_set and asked.encoder_cpus:
            encoder_cpus = asked.encoder_cpus
    else:
        threads["recognize.num_threads"] = (int(encoder_cpus), "as many as it holds CPUs")
    read, write = _tasks(nodes, encoder_cpus=encoder_cpus)
    return Sizes(
        encoder=ActorSize(encoder_cpus, encoder_gpus),
        engine=ActorSize(llm_cpus, gpus),
        read_cpus=read,
        write_cpus=write,
        has_engine=backend != "none",
        engine_name="engines" if own_engine else "LLM clients",
        most_engines=None if own_engine else 1,
        why_encoder_cpus="beside its part of a GPU" if encoder_gpus else "one for each thread",
        why_encoder_gpus=_why_encoder_gpus(asked, encoder_gpus),
        why_llm_cpus=why_llm_cpus if own_engine else _WAITS,
        why_llm_gpus=f"llm.tensor_parallel_size = {config.llm.tensor_parallel_size}; an actor's "
        "GPUs are all of one node"
        if own_engine
        else _NO_GPU,
        threads=threads,
    )


def _why_encoder_gpus(asked: ResourcesConfig, encoder_gpus: float) -> str:
    if "encoder_gpus" in asked.model_fields_set:
        return "as set in the config"
    if encoder_gpus:
        return "two share a GPU: one computes while the other waits for its next unit"
    return "none: with a part of a GPU, an encoder could take the only place of an engine"


def _engine_threads(
    config: ExtractConfig, nodes: Sequence[Node], *, rate_is_known: bool
) -> tuple[int, str]:
    """CPU threads of one engine, and why."""
    if rate_is_known or "num_threads" in config.llm.model_fields_set:
        return config.llm.num_threads, "as in the config, where the measured rate holds"
    smallest = min(node.cpus for node in nodes if node.cpus)
    chosen = max(1, min(MAX_CHOSEN_THREADS, int(smallest // 4)))
    return chosen, "a quarter of the smallest node; measure the rate with as many"


def _between(least: float, value: float, most: float) -> float:
    """A value held between two others, in hundredths, rounded down."""
    return max(least, min(most, math.floor(100 * value) / 100))
