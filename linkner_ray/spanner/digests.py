"""Names of what a checkpoint holds: of all of it, of what scores spans, of what dev decided."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from linkner_ray.errors import StartupError
from linkner_ray.spanner.checkpoint import (
    CALIBRATION,
    CONFIG,
    DECISIVE_FILES,
    ENCODER_CONFIG,
    OPTIONAL_FILES,
    TOKENIZER,
    WEIGHTS,
    local_checkpoint,
    read_json,
)


def checkpoint_digest(path: str) -> str:
    """Name of a checkpoint's content: changes with any file that decides a prediction.

    Raises:
        ConfigError: If there is no such folder.
        StartupError: If one of the files is missing or damaged.
    """
    folder = local_checkpoint(path)
    return _digest_of(folder, (*DECISIVE_FILES, *_present(folder, OPTIONAL_FILES)))


def encoder_digest(path: str) -> str:
    """Name of what scores spans: weights, tokenizer and architecture, without the calibration.

    Descriptions of labels and versions of libraries are left out, since they move no score. Raises
    as `checkpoint_digest`.
    """
    folder = local_checkpoint(path)
    config = read_json(folder / CONFIG)
    deciding = [config.get(name) for name in ("model", "loss", "special_ids")]
    return _digest_of(
        folder, (WEIGHTS, TOKENIZER, ENCODER_CONFIG), json.dumps(deciding, sort_keys=True)
    )


def calibration_digest(path: str) -> str:
    """Name of temperature, near-miss rules and recalibration; raises as `checkpoint_digest`."""
    folder = local_checkpoint(path)
    return _digest_of(folder, (CALIBRATION, *_present(folder, OPTIONAL_FILES)))


def _present(folder: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if (folder / name).is_file()]


def _digest_of(folder: Path, names: Sequence[str], more: str = "") -> str:
    digest = hashlib.blake2b(more.encode(), digest_size=8)
    for name in names:
        digest.update(content_digest(folder / name))
    return digest.hexdigest()


def content_digest(path: Path) -> bytes:
    """Name of a file's content; a file that is as it was is read once in a process.

    Raises:
        StartupError: If it cannot be read.
    """
    try:
        found = path.stat()
        return _content_digest(path, found.st_ino, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise StartupError(f"{path}: cannot be read: {error.strerror}; mend its rights") from error


@lru_cache(maxsize=64)
def _content_digest(path: Path, *_state: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
