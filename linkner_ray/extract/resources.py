"""The check, before anything starts, that a run fits the cluster."""

import math
from collections.abc import Mapping, Sequence

from linkner_ray.config import LlmConfig, ResourcesConfig
from linkner_ray.errors import ConfigError

TOLERANCE = 1e-6
"""Of sums of fractions; Ray counts in ten-thousandths."""


def without_idle_gpus(resources: ResourcesConfig, llm: LlmConfig) -> ResourcesConfig:
    """What a run takes: a replay computes nothing, whatever the engine it stands for took."""
    return resources.model_copy(update={"llm_gpus": 0.0}) if llm.backend == "replay" else resources


def check_resources(
    resources: ResourcesConfig,
    *,
    has_llm: bool,
    nodes: Sequence[Mapping[str, float]],
) -> None:
    """Check that all actors and one task fit the cluster at the same time, each on one node.

    Ray starts actors first and lets them hold their CPUs; if nothing is left for a reading task, a
    run waits for ever (ray-project/ray#44687). A node is given by its logical resources, such as
    `{"CPU": 2.0}`.

    Raises:
        ConfigError: If the run would hang; says what is asked, what is there and what to lower.
    """
    pools = [("encoder", resources.encoder_actors, resources.encoder_cpus, resources.encoder_gpus)]
    if has_llm:
        pools.append(("llm", resources.llm_actors, resources.llm_cpus, resources.llm_gpus))
    task = max(resources.read_cpus, resources.write_cpus)
    asked = {
        "CPU": sum(count * cpus for _, count, cpus, _ in pools) + task,
        "GPU": sum(count * gpus for _, count, _, gpus in pools),
    }
    for kind, amount in asked.items():
        there = sum(node.get(kind, 0.0) for node in nodes)
        if amount > there + TOLERANCE:
            parts = ", ".join(f"{count} {name} actors" for name, count, _, _ in pools)
            raise ConfigError(
                f"the run needs {amount:g} {kind}s at once ({parts}"
                f"{f' and one task of {task:g}' if kind == 'CPU' else ''}), the cluster has "
                f"{there:g}; lower resources.*_actors or resources.*_{kind.lower()}s"
            )
    for name, count, cpus, gpus in pools:
        if not cpus and not gpus:
            continue
        fitting = num_fitting(nodes, cpus, gpus)
        if not fitting:
            raise ConfigError(
                f"no node can hold one {name} actor of {cpus:g} CPUs and {gpus:g} GPUs; nodes "
                f"have {[dict(node) for node in nodes]}; lower resources.{name}_cpus or "
                f"resources.{name}_gpus"
            )
        if fitting < count:
            raise ConfigError(
                f"{count} {name} actors of {cpus:g} CPUs and {gpus:g} GPUs each are asked for, "
                f"and the nodes hold {fitting}: an actor never spans nodes. Lower "
                f"resources.{name}_actors, or what one of them holds"
            )


def num_fitting(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> int:
    """Actors that fit empty nodes, since none spans two; CPUs or GPUs of an actor are not 0."""
    return sum(_num_on_node(node, cpus, gpus) for node in nodes)


def _num_on_node(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    fits = []
    if cpus:
        fits.append(math.floor(node.get("CPU", 0.0) / cpus + TOLERANCE))
    if gpus >= 1:
        fits.append(math.floor(node.get("GPU", 0.0) / gpus + TOLERANCE))
    elif gpus:
        # Ray never splits an actor's fraction over two GPUs.
        fits.append(int(node.get("GPU", 0.0)) * math.floor(1 / gpus + TOLERANCE))
    return min(fits)
