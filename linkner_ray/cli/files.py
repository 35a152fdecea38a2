"""Files that a command writes beside its output, checked before its work begins."""

import json
import os
from pathlib import Path

from linkner_ray.errors import ConfigError


def check_writable(*paths: str | None) -> None:
    """Check that files can be written; those that are None were not asked for.

    Raises:
        ConfigError: If one has no folder, is a folder, or may not be written.
    """
    for path in paths:
        if path is None:
            continue
        folder = Path(path).parent
        if Path(path).is_dir():
            raise ConfigError(f"{path}: is a folder; name a file in it")
        if not folder.is_dir():
            raise ConfigError(f"{path}: there is no folder {folder}; make it, or correct the path")
        target = Path(path) if Path(path).exists() else folder
        if not os.access(target, os.W_OK):
            raise ConfigError(
                f"{path}: {target} may not be written by this user; mend its rights, or name "
                "another"
            )


def write_text(path: str | None, text: str) -> None:
    """Write a file, if it was asked for; characters that have no UTF-8 are escaped."""
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | None, tree: object) -> None:
    """Write numbers to a file, if it was asked for."""
    if path is not None:
        write_text(path, json.dumps(tree, indent=2) + "\n")
