"""The folder of all nights: which one is published, and what each says of itself.

A night is a folder of its own, called by its date. `latest` names the published one in a line, so
`cat` can read it. It is written whole and only ever moved to a later night.
"""

import json
from datetime import date
from typing import Any

from linkner_ray.errors import ConfigError
from linkner_ray.runs.folder import as_json
from linkner_ray.storage import Folder

LATEST = "latest"

RECORD = "night.json"
"""What a night says of itself, in its folder; written last but for `latest`."""


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
    """Let `latest` name a night, unless it names that one or a later one already.

    Returns:
        Whether it was moved.
    """
    named = read_latest(nights)
    if named is not None and named >= night:
        return False
    nights.write_whole(LATEST, f"{night.isoformat()}\n".encode())
    return True


def read_record(output: Folder) -> dict[str, Any] | None:
    """What a night said of itself at its end; None if it has not come so far."""
    output.forget_listings()
    if not output.exists(RECORD):
        return None
    record: dict[str, Any] = json.loads(output.read_bytes(RECORD))
    return record


def write_record(output: Folder, record: dict[str, Any]) -> None:
    """Keep what a night says of itself."""
    output.write_whole(RECORD, as_json(record))
