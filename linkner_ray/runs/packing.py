"""How many actors of two pools fit on nodes, whatever order Ray places them in.

An actor lives on one node. Ray starts the encoders of a run first and puts them where there is
room, so what is left for engines depends on where they landed. A plan has to hold for the worst of
those places, since an engine without a place waits for ever.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from linkner_ray.runs.cluster_shape import Node

TOLERANCE = 1e-6
"""Of sums of fractions; Ray counts in ten-thousandths."""


@dataclass(frozen=True, slots=True)
class ActorSize:
    """What one actor holds for as long as it lives."""

    cpus: float
    gpus: float = 0.0

    @property
    def per_gpu(self) -> int:
        """Actors of a fraction of a GPU that share one."""
        return math.floor(1 / self.gpus + TOLERANCE)


def num_fitting(node: Node, size: ActorSize, *, beside: int = 0, other: ActorSize) -> int:
    """Actors of one size that fit on a node beside some of another size.

    Args:
        node: The node.
        size: Of the actors to count; more than one GPU is a whole number of them.
        beside: Actors of the other size that are there; they are taken to fit.
        other: Their size. Ray fills a GPU with fractions before it begins the next.
    """
    fits = math.inf
    if size.cpus:
        fits = math.floor((node.cpus - beside * other.cpus) / size.cpus + TOLERANCE)
    if size.gpus:
        whole, part = _free_gpus(node, beside, other)
        if size.gpus >= 1:
            on_gpus = math.floor(whole / size.gpus + TOLERANCE)
        else:
            on_gpus = whole * size.per_gpu + math.floor(part / size.gpus + TOLERANCE)
        fits = min(fits, on_gpus)
    if fits == math.inf:
        raise ValueError("an actor that asks for nothing fits any number of times")
    return max(0, int(fits))


def _free_gpus(node: Node, actors: int, size: ActorSize) -> tuple[int, float]:
    """Whole GPUs that actors leave free on a node, and what is left of the one begun last."""
    if not size.gpus or not actors:
        return node.gpus, 0.0
    if size.gpus >= 1:
        return node.gpus - round(actors * size.gpus), 0.0
    full, begun = divmod(actors, size.per_gpu)
    return node.gpus - full - bool(begun), 1 - begun * size.gpus if begun else 0.0


def num_guaranteed(
    nodes: Sequence[Node], engine: ActorSize, *, encoders: int, encoder: ActorSize
) -> int:
    """Engines that find a place wherever Ray put the encoders before them.

    Args:
        nodes: Of the cluster.
        engine: Size of an engine.
        encoders: Encoder actors that are placed first.
        encoder: Size of one.
    """
    # most_lost[n]: places that n encoders can take from engines, on the nodes seen so far
    most_lost = [0] * (encoders + 1)
    places = 0
    for node in nodes:
        alone = num_fitting(node, engine, other=encoder)
        places += alone
        room = min(encoders, num_fitting(node, encoder, other=engine))
        lost = [
            alone - num_fitting(node, engine, beside=count, other=encoder)
            for count in range(room + 1)
        ]
        if lost[-1]:
            most_lost = [
                max(most_lost[total - here] + lost[here] for here in range(min(room, total) + 1))
                for total in range(encoders + 1)
            ]
    return places - most_lost[-1]


def num_beside_engines(
    nodes: Sequence[Node], encoder: ActorSize, *, engines: int, engine: ActorSize
) -> int:
    """Encoders that fit once the engines are placed, on the nodes that hold fewest of them first.

    Args:
        nodes: Of the cluster.
        encoder: Size of an encoder.
        engines: Engines that run.
        engine: Size of one.
    """
    places = [(num_fitting(node, engine, other=encoder), node) for node in nodes]
    room, waiting = 0, engines
    # Small nodes first leaves large ones whole; nodes without a place for engines cost nothing.
    for place, node in sorted(places, key=lambda pair: (pair[0], pair[1].cpus)):
        here = min(waiting, place)
        waiting -= here
        room += num_fitting(node, encoder, beside=here, other=engine)
    return room
