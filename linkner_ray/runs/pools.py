"""Pools for a cluster: how many encoders and engines, and what each of them holds.

Rules, each of which an error names:

- An engine lives on one node (`llm.tensor_parallel_size` GPUs of it, or that many times
  `llm.num_threads` CPUs). Ray gives an actor the resources of a single node.
- All actors and one task fit at the same time, wherever Ray put the actors. Actors start first and
  keep their CPUs; with none left to read with, a run waits for ever (ray-project/ray#44687). So of
  every node with CPUs one task's are left free: some node then always has room for one.
- Engines are of fixed number, since one takes minutes to load. Encoders come and go.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from linkner_ray.config import ExtractConfig
from linkner_ray.errors import ConfigError
from linkner_ray.runs.actor_sizes import Sizes, sizes_to_try
from linkner_ray.runs.cluster_shape import Node
from linkner_ray.runs.packing import TOLERANCE, ActorSize, num_beside_engines, num_guaranteed

MAX_FIRST_ENCODERS = 32
"""Encoders of a start; more come as they are needed."""

MAX_CONCURRENT_UNITS = 64

SPARE = 1.25
"""Encoders for each that the engines can follow, so that these never wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What was measured on a sample; times are of one actor."""

    documents: int
    """Of the whole input."""

    documents_per_s: float
    """That one encoder recognizes."""

    questions_per_document: float
    """That have to be asked."""

    requests_per_s: float | None
    """That one engine answers; None if nobody measured it."""

    split_s: float
    """CPU seconds in which the text of a document is split into sentences and words."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A number of a plan."""

    value: float
    why: str


@dataclass(frozen=True, slots=True)
class PoolTime:
    """What a pool can do."""

    name: str
    actors: str
    documents_per_s: float
    hours: float
    """For the whole input, if nothing else held it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """What a run should ask of a cluster."""

    nodes: Sequence[Node]
    resources: Mapping[str, Choice]
    """Keys of `resources`."""

    threads: Mapping[str, Choice]
    """Dotted keys of the threads of an actor, where it works on CPUs."""

    pools: Sequence[PoolTime]
    """All whose speed is known; the one of the most hours holds up the others."""

    @property
    def hours(self) -> float:
        """Of the slowest pool."""
        return max(pool.hours for pool in self.pools)


@dataclass(frozen=True, slots=True)
class _Counts:
    encoders: int
    engines: int
    most_engines: int


def plan_pools(config: ExtractConfig, nodes: Sequence[Node], rates: Rates) -> PoolPlan:
    """Pools that fit a cluster and keep each other busy.

    Args:
        config: Of the run; of its `resources` only what one actor holds is kept, where it is set.
        nodes: Of the cluster.
        rates: Measured on a sample, best on such nodes.

    Raises:
        ConfigError: If no run of this config fits the cluster; names the rule.
    """
    refusal: ConfigError | None = None
    rate_is_known = rates.requests_per_s is not None
    for sizes in sizes_to_try(config, nodes, rate_is_known=rate_is_known):
        try:
            counts = _count(sizes, nodes, rates)
        except ConfigError as error:
            refusal = refusal or error
            continue
        return _plan(config, sizes, counts, nodes, rates)
    if refusal is None:
        raise ValueError("there is always a size to try")
    raise refusal


def _count(sizes: Sizes, nodes: Sequence[Node], rates: Rates) -> _Counts:
    """Encoders and engines.

    Raises:
        ConfigError: If one of each and a task do not fit.
    """
    if _encoders_beside(sizes, nodes, rates, engines=1 if sizes.has_engine else 0) < 1:
        raise ConfigError(_too_small(sizes, nodes))
    if not sizes.has_engine:
        return _Counts(_encoders_beside(sizes, nodes, rates, engines=0), 0, 0)
    most = sizes.most_engines
    if most is None:
        most = num_guaranteed(nodes, sizes.engine, encoders=1, encoder=sizes.encoder)
        left = _free_cpus(sizes, nodes) - sizes.encoder.cpus
        most = min(most, math.floor(left / sizes.engine.cpus + TOLERANCE))
    if most < 1:
        raise ConfigError(
            "the encoder may take the only place of an engine: wherever Ray puts the first "
            f"encoder actor ({_text(sizes.encoder)}), a node must be left that can hold an engine "
            f"({_text(sizes.engine)}); {_cluster(nodes)}. Give the cluster another node, or lower "
            "resources.encoder_gpus"
        )
    engines = 1 if sizes.takes_turns else _balanced(sizes, nodes, rates, most)
    encoders = _encoders_beside(sizes, nodes, rates, engines=engines)
    if sizes.takes_turns:
        encoders = 1
    elif rates.requests_per_s and rates.questions_per_document and rates.documents_per_s:
        followed = engines * rates.requests_per_s / rates.questions_per_document
        encoders = min(encoders, math.ceil(SPARE * followed / rates.documents_per_s))
    return _Counts(max(1, encoders), engines, most)


def _balanced(sizes: Sizes, nodes: Sequence[Node], rates: Rates, most: int) -> int:
    """Engines with which the slower of the two pools is fastest; the fewest of them."""
    if not rates.questions_per_document:
        return 1
    if not rates.requests_per_s or not rates.documents_per_s:
        return max(1, most // 2)
    answered = rates.requests_per_s / rates.questions_per_document

    def speed(engines: int) -> tuple[float, float]:
        encoders = _encoders_beside(sizes, nodes, rates, engines=engines)
        return engines * answered, encoders * rates.documents_per_s

    numbers = range(1, most + 1)
    # More engines answer more and leave room for fewer encoders: the two lines cross once.
    crossing = bisect_left(numbers, True, key=lambda n: speed(n)[0] >= speed(n)[1])
    around = [n for n in (crossing, crossing + 1) if 1 <= n <= most] or [most]
    return max(around, key=lambda n: (min(speed(n)), -n))


def _free_cpus(sizes: Sizes, nodes: Sequence[Node]) -> float:
    """CPUs that actors may hold: all but those of a task on every node."""
    return sum(node.cpus - min(node.cpus, sizes.task) for node in nodes)


def _encoders_beside(sizes: Sizes, nodes: Sequence[Node], rates: Rates, *, engines: int) -> int:
    """The most encoders, with CPUs left to read for them."""
    free = _free_cpus(sizes, nodes) - engines * sizes.engine.cpus
    each = sizes.encoder.cpus
    fits = math.floor(free / each + TOLERANCE)
    # Splitting runs on what nobody holds; beyond the part that is kept free anyway it costs room.
    splitting = rates.documents_per_s * rates.split_s
    kept = sum(node.cpus for node in nodes) - _free_cpus(sizes, nodes)
    if splitting and fits >= 1:
        fits = min(fits, max(1, math.floor((free + kept) / (each + splitting))))
    room = num_beside_engines(nodes, sizes.encoder, engines=engines, engine=sizes.engine)
    return max(0, min(fits, room))


def _plan(
    config: ExtractConfig,
    sizes: Sizes,
    counts: _Counts,
    nodes: Sequence[Node],
    rates: Rates,
) -> PoolPlan:
    first = _first_encoders(sizes, counts, nodes)
    held = counts.encoders * sizes.encoder.cpus + counts.engines * sizes.engine.cpus
    left = sum(node.cpus for node in nodes) - held
    chosen = {
        "read_cpus": Choice(sizes.read_cpus, "a task that reads and splits; not encoder_cpus, or "
                            "Ray would have encoders do it"),
        "write_cpus": Choice(sizes.write_cpus, "a task that writes; it waits for the disk"),
        "encoder_actors": Choice(first, _why_first(counts)),
        "max_encoder_actors": Choice(counts.encoders, _why_encoders(sizes, counts, rates, left)),
        "encoder_cpus": Choice(sizes.encoder.cpus, sizes.why_encoder_cpus),
        "encoder_gpus": Choice(sizes.encoder.gpus, sizes.why_encoder_gpus),
    }  # fmt: skip
    if sizes.has_engine:
        chosen |= {
            "llm_actors": Choice(counts.engines, _why_engines(sizes, counts, rates)),
            "llm_cpus": Choice(sizes.engine.cpus, sizes.why_llm_cpus),
            "llm_gpus": Choice(sizes.engine.gpus, sizes.why_llm_gpus),
            "llm_concurrent_units": _concurrent_units(config, rates),
        }
    return PoolPlan(
        nodes=nodes,
        resources=chosen,
        threads={key: Choice(*pair) for key, pair in sizes.threads.items()},
        pools=_times(sizes, counts, rates, left),
    )


def _first_encoders(sizes: Sizes, counts: _Counts, nodes: Sequence[Node]) -> int:
    """Encoders of the start: as many as leave every engine a place wherever they land."""
    half = min(MAX_FIRST_ENCODERS, math.ceil(counts.encoders / 2))
    if sizes.most_engines is not None or not sizes.has_engine:
        return half
    numbers = range(2, half + 1)
    return 1 + bisect_left(
        numbers,
        True,
        key=lambda n: (
            num_guaranteed(nodes, sizes.engine, encoders=n, encoder=sizes.encoder) < counts.engines
        ),
    )


def _why_first(counts: _Counts) -> str:
    if not counts.engines:
        return "to begin with; the pool grows when units wait"
    return "to begin with: wherever Ray puts them, every engine still finds its place"


def _why_encoders(sizes: Sizes, counts: _Counts, rates: Rates, left: float) -> str:
    reading = f"{left:.4g} CPUs stay for reading and writing"
    if sizes.takes_turns:
        return f"one: the cluster has fewer CPUs than threads; {reading}"
    can_follow = rates.requests_per_s and rates.questions_per_document
    if counts.engines and can_follow and rates.documents_per_s:
        followed = counts.engines * float(rates.requests_per_s or 0) / rates.questions_per_document
        return (
            f"the engines follow {followed / rates.documents_per_s:.3g} encoders, and up to "
            f"{SPARE:g} times that as far as they fit; {reading}"
        )
    return f"what fits beside the engines; {reading}" if counts.engines else reading


def _why_engines(sizes: Sizes, counts: _Counts, rates: Rates) -> str:
    if sizes.most_engines is not None:
        return "one client, which keeps llm.max_in_flight requests under way"
    if sizes.takes_turns:
        return "one: the cluster has fewer CPUs than threads"
    most = f"{counts.most_engines} would fit beside one encoder"
    if not rates.questions_per_document:
        return f"the sample has nothing to ask; {most}"
    if rates.requests_per_s is None:
        return f"half of what fits, since no rate is known; {most}"
    return f"fixed; with these the slower of the two pools is fastest; {most}"


def _concurrent_units(config: ExtractConfig, rates: Rates) -> Choice:
    """Units under way in an engine: as many as fill it twice, so that no unit's tail empties it."""
    at_once = config.llm.max_num_seqs if config.llm.backend == "vllm" else config.llm.max_in_flight
    asked = config.input.unit_documents * rates.questions_per_document
    if not asked:
        return Choice(4, "the sample has nothing to ask")
    wanted = min(MAX_CONCURRENT_UNITS, max(2, math.ceil(2 * at_once / asked)))
    return Choice(
        wanted,
        f"a unit asks about {asked:,.0f} questions, an engine works on {at_once} at once: twice as "
        "many are at hand when a unit ends",
    )


def _times(sizes: Sizes, counts: _Counts, rates: Rates, left: float) -> list[PoolTime]:
    speeds = [("encoders", f"{counts.encoders}", counts.encoders * rates.documents_per_s)]
    if counts.engines and rates.requests_per_s and rates.questions_per_document:
        answered = counts.engines * rates.requests_per_s / rates.questions_per_document
        speeds.append((sizes.engine_name, f"{counts.engines}", answered))
    if rates.split_s:
        speeds.append(("splitting", f"{left:.4g} CPUs", left / rates.split_s))
    return [
        PoolTime(name, actors, speed, rates.documents / speed / 3600 if speed else 0.0)
        for name, actors, speed in speeds
    ]


def _too_small(sizes: Sizes, nodes: Sequence[Node]) -> str:
    parts = [f"one encoder actor of {_text(sizes.encoder)}"]
    if sizes.has_engine:
        parts.append(f"one llm actor of {_text(sizes.engine)}")
    return (
        f"{', '.join(parts)} and a task of {sizes.task:g} CPUs on every node do not fit together; "
        f"{_cluster(nodes)}. Ray starts actors first and they keep what they hold, so a run "
        "without CPUs for a task would wait for ever: take larger nodes, or set smaller "
        "resources.encoder_cpus, resources.encoder_gpus or resources.llm_cpus"
    )


def _text(size: ActorSize) -> str:
    return f"{size.cpus:g} CPUs" + (f" and {size.gpus:g} GPUs" if size.gpus else "")


def _cluster(nodes: Sequence[Node]) -> str:
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return f"the cluster has {cpus:g} CPUs and {gpus} GPUs on {len(nodes)} nodes"
