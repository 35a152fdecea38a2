"""Whether a run fits a cluster: the check that comes before anything is started."""

from collections.abc import Sequence

from linkner_ray.config import ResourcesConfig
from linkner_ray.errors import ConfigError
from linkner_ray.runs.cluster_shape import Node
from linkner_ray.runs.packing import ActorSize, num_fitting


def check_resources(
    resources: ResourcesConfig,
    *,
    has_llm: bool,
    nodes: Sequence[dict[str, float]],
) -> None:
    """Check that all actors and one task fit the cluster at the same time, each on one node.

    Ray starts actors first and lets them hold their CPUs; if nothing is left for a reading task,
    a run waits for ever (ray-project/ray#44687).

    Args:
        resources: What the run asks for.
        has_llm: Whether LLM actors are started.
        nodes: Logical resources of each node, such as `{"CPU": 2.0}`.

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
        if amount > there + 1e-6:
            parts = ", ".join(f"{count} {name} actors" for name, count, _, _ in pools)
            raise ConfigError(
                f"the run needs {amount:g} {kind}s at once ({parts}"
                f"{f' and one task of {task:g}' if kind == 'CPU' else ''}), the cluster has "
                f"{there:g}; lower resources.*_actors or resources.*_{kind.lower()}s"
            )
    shapes = [Node(node.get("CPU", 0.0), int(node.get("GPU", 0.0))) for node in nodes]
    for name, count, cpus, gpus in pools:
        size = ActorSize(cpus, gpus)
        if not cpus and not gpus:
            continue
        fitting = sum(num_fitting(node, size, other=size) for node in shapes)
        if not fitting:
            raise ConfigError(
                f"no node can hold one {name} actor of {cpus:g} CPUs and {gpus:g} GPUs; nodes "
                f"have {[dict(node) for node in nodes]}"
            )
        if fitting < count:
            raise ConfigError(
                f"{count} {name} actors of {cpus:g} CPUs and {gpus:g} GPUs each are asked for, "
                f"and the nodes hold {fitting}: an actor never spans nodes. Lower "
                f"resources.{name}_actors, or what one of them holds"
            )
