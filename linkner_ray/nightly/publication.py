"""The folder of all nights: which one is published, and what each says of itself.

A night is a folder of its own, called by its date. `latest` names the published one in a line, so
`cat` can read it. It is written whole and only ever moved to a later night.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from linkner_ray.config import NightlyConfig
from linkner_ray.errors import ConfigError
from linkner_ray.extract.plan import Plan
from linkner_ray.extract.result import find_finished
from linkner_ray.runs.manifest import as_json, read_json
from linkner_ray.storage import Folder

LATEST = "latest"

RECORD = "night.json"
"""What a night says of itself, in its folder; written last but for `latest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightResult:
    """How a night ended."""

    output: str
    """Its folder."""

    record: Mapping[str, Any]
    """What its `night.json` says."""

    has_moved: bool
    """Whether `latest` was moved to it now."""

    did_nothing: bool = False
    """Whether the night had ended well before."""

    problems: tuple[str, ...] = ()
    """Error limits that were passed."""

    alerts: tuple[str, ...] = ()
    """Drift that keeps it from being published."""


def read_latest(nights: Folder) -> date | None:
    """The night that `latest` names; None before the first.

    Raises:
        ConfigError: If it names no date.
    """
    nights.forget_listings()
    if not nights.exists(LATEST):
        return None
    name = nights.read_bytes(LATEST).decode(errors="replace").strip()
    try:
        return date.fromisoformat(name)
    except ValueError as error:
        raise ConfigError(
            f"{nights.path(LATEST)} names '{name}', which is no date; write the date of the night "
            "to build on into it, or remove it to begin anew"
        ) from error


def move_latest(nights: Folder, night: date) -> bool:
    """Let `latest` name a night, unless it names that one or a later one; whether it was moved."""
    named = read_latest(nights)
    if named is not None and named >= night:
        return False
    nights.write_whole(LATEST, f"{night.isoformat()}\n".encode())
    return True


def read_record(output: Folder) -> dict[str, Any] | None:
    """What a night said of itself at its end; None if it has not come so far.

    Raises:
        DataError: If it is damaged.
    """
    output.forget_listings()
    if not output.exists(RECORD):
        return None
    return read_json(output, RECORD, has=("publish",), mend="remove it and start the night again")


def write_record(output: Folder, record: dict[str, Any]) -> None:
    """Keep what a night says of itself."""
    output.write_whole(RECORD, as_json(record))


def find_published(config: NightlyConfig, plan: Plan) -> NightResult | None:
    """The night, if it has ended well and `latest` names it; needs neither Ray nor a model.

    Raises:
        ConfigError: If it is published and its input has changed since, or the folder holds another
            plan's output.
    """
    if read_latest(Folder.at(config.output.path)) != config.night.name:
        return None
    record = read_record(Folder.at(plan.config.output.path))
    return publish_again(config, plan, record, is_done=find_finished(plan) is not None)


def publish_again(
    config: NightlyConfig, plan: Plan, record: dict[str, Any] | None, *, is_done: bool
) -> NightResult:
    """The result of a night whose record says that it is to be published.

    Raises:
        ConfigError: If its input has changed since.
    """
    url = plan.config.output.path
    if not is_done or record is None:
        fault = f"has no {RECORD}" if record is None else "its input has more shards by now"
        raise ConfigError(
            f"{url} is published, and {fault}; a published night stays as it is: put what came "
            "late into the next one"
        )
    has_moved = move_latest(Folder.at(config.output.path), config.night.name)
    return NightResult(output=url, record=record, has_moved=has_moved, did_nothing=not has_moved)
