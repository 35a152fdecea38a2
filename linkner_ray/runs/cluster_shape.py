"""A cluster in words: how many nodes of which kind, such as `4x cpus=16,gpus=1`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from linkner_ray.errors import ConfigError

SYNTAX = "[COUNTx] cpus=NUMBER[,gpus=NUMBER], such as 'cpus=64,gpus=8' or '4x cpus=16,gpus=1'"

_KIND = re.compile(r"(?:(\d+)\s*x\s*)?([a-z]+=[^,\s]+(?:\s*,\s*[a-z]+=[^,\s]+)*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Node:
    """What one node offers, as Ray counts it."""

    cpus: float
    gpus: int = 0

    def resources(self) -> dict[str, float]:
        """In Ray's own words, as `ray.nodes` gives them."""
        return {"CPU": self.cpus, **({"GPU": float(self.gpus)} if self.gpus else {})}


def parse_cluster(texts: Sequence[str]) -> list[Node]:
    """The nodes of a cluster.

    Args:
        texts: One for each kind of node, in the form of `SYNTAX`.

    Raises:
        ConfigError: If a text is not of that form, or there is no CPU in the whole cluster.
    """
    nodes = [node for text in texts for node in _parse_kind(text)]
    if not sum(node.cpus for node in nodes):
        raise ConfigError(f"--cluster {' '.join(texts)}: there is no CPU to read documents with")
    return nodes


def _parse_kind(text: str) -> list[Node]:
    match = _KIND.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"--cluster '{text}' cannot be read; it is {SYNTAX}")
    count = int(match[1] or 1)
    amounts = {}
    for part in match[2].split(","):
        name, _, value = part.strip().partition("=")
        amounts[name.lower()] = _number(value, text)
    unknown = sorted(amounts.keys() - {"cpus", "gpus"})
    if unknown or "cpus" not in amounts:
        what = f"unknown {', '.join(unknown)}" if unknown else "no cpus"
        raise ConfigError(f"--cluster '{text}': {what}; it is {SYNTAX}")
    gpus = amounts.get("gpus", 0.0)
    if not count or gpus != int(gpus):
        what = "a node has whole GPUs" if count else "there are no nodes"
        raise ConfigError(f"--cluster '{text}': {what}; it is {SYNTAX}")
    return [Node(amounts["cpus"], int(gpus))] * count


def _number(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise ConfigError(
            f"--cluster '{text}': {value} is no number of CPUs or GPUs; it is {SYNTAX}"
        )
    return number
