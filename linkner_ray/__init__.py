"""LinkNER on Ray: named-entity recognition over web crawls, with an LLM for the uncertain spans."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linkner_ray.api import LinkNER
    from linkner_ray.reporting.found import Entity

    __version__: str

__all__ = ["Entity", "LinkNER", "__version__"]


def __getattr__(name: str) -> object:
    """Load the Python API when it is asked for: a command that needs no model loads no torch."""
    if name == "__version__":
        from importlib.metadata import version

        return version("linkner-ray")
    if name not in {"Entity", "LinkNER"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from linkner_ray import api

    return getattr(api, name)
