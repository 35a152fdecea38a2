"""The checkpoint folder: what lies in it, read and written without a pickle.

`config.json` architecture, label set digest, versions; `model.safetensors` weights;
`tokenizer.json`; `encoder/config.json`; `label_set.yaml`; `calibration.json`;
`familiarity.safetensors` what training held; `canary.json` and `canary.safetensors`, by which the
others are checked; `README.md` the model card.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import fsspec
import yaml
from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError
from tokenizers import Tokenizer

from linkner_ray.config import ModelConfig
from linkner_ray.errors import ConfigError, StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.spanner.calibration import Calibration
from linkner_ray.spanner.familiarity import FAMILIARITY, Familiarity
from linkner_ray.spanner.subwords import SpecialIds
from linkner_ray.spanner.thresholds import THRESHOLDS

FORMAT = "linkner-spanner"
FORMAT_VERSION = 1

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
ENCODER_CONFIG = "encoder/config.json"
LABEL_SET = "label_set.yaml"
CALIBRATION = "calibration.json"
MODEL_CARD = "README.md"

DECISIVE_FILES = (CONFIG, WEIGHTS, TOKENIZER, ENCODER_CONFIG, LABEL_SET, CALIBRATION)
"""Files a checkpoint must have; together they decide every prediction."""

OPTIONAL_FILES = (FAMILIARITY,)
"""Files that decide predictions where they are there; checkpoints of earlier releases lack them."""

CANARY = "canary.json"
CANARY_TENSORS = "canary.safetensors"

CANARY_FILES = (CANARY, CANARY_TENSORS)
"""Travel with a checkpoint and check it, but decide nothing, so its digest leaves them out."""

ADVICE_FILES = (THRESHOLDS,)
"""Travel with a checkpoint and decide nothing by themselves: a config names what it takes."""

Loss = Literal["cross_entropy", "evidential"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointParts:
    """Everything of a checkpoint but its weights.

    Attributes:
        folder: Local folder it was read from.
        model: Architecture.
        loss: What the weights were trained with; decides how logits become probabilities.
        label_set: Labels, in the order of the classes.
        special: Ids of the tokenizer that are not text.
        tokenizer: Fast tokenizer.
        calibration: What was fitted on dev.
        familiarity: What training held; None for a checkpoint of an earlier release.
    """

    folder: Path
    model: ModelConfig
    loss: Loss
    label_set: LabelSet
    special: SpecialIds
    tokenizer: Tokenizer
    calibration: Calibration
    familiarity: Familiarity | None = None


def library_versions() -> dict[str, str]:
    """Versions found here of the libraries that compute a prediction."""
    return {name: metadata.version(name) for name in ("torch", "transformers", "tokenizers")}


def write_parts(parts: CheckpointParts) -> None:
    """Write every file but the weights, the encoder's config and the model card."""
    folder = parts.folder
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model": parts.model.model_dump(mode="json"),
            "loss": parts.loss,
            "label_set_digest": parts.label_set.digest,
            "special_ids": asdict(parts.special),
            "versions": library_versions(),
        },
    )
    parts.tokenizer.save(str(folder / TOKENIZER))
    labels = yaml.safe_dump(
        parts.label_set.model_dump(mode="json"), sort_keys=False, allow_unicode=True
    )
    (folder / LABEL_SET).write_text(labels, encoding="utf-8")
    _write_json(folder / CALIBRATION, asdict(parts.calibration))
    if parts.familiarity is not None:
        parts.familiarity.write(folder)


def read_parts(folder: Path) -> CheckpointParts:
    """Read every file but the weights and the encoder's config.

    Raises:
        StartupError: If a file is missing, unreadable, or of another format, naming it.
    """
    missing = [name for name in DECISIVE_FILES if not (folder / name).is_file()]
    if missing:
        raise StartupError(
            f"{folder}: is not a complete checkpoint: {', '.join(missing)} missing; give the "
            "folder that training wrote"
        )
    config = read_json(folder / CONFIG)
    found = (config.get("format"), config.get("format_version"))
    if found != (FORMAT, FORMAT_VERSION):
        raise StartupError(
            f"{folder / CONFIG}: expected format {FORMAT} {FORMAT_VERSION}, found {found[0]} "
            f"{found[1]}; is this the folder of another model?"
        )
    try:
        label_set = LabelSet.model_validate(
            yaml.safe_load((folder / LABEL_SET).read_text(encoding="utf-8"))
        )
        parts = CheckpointParts(
            folder=folder,
            model=ModelConfig.model_validate(config["model"]),
            loss=config["loss"],
            label_set=label_set,
            special=_special_ids(config["special_ids"]),
            tokenizer=_read_tokenizer(folder / TOKENIZER),
            calibration=Calibration.from_json(read_json(folder / CALIBRATION)),
            familiarity=Familiarity.read(folder),
        )
    except (KeyError, TypeError, ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartupError(f"{folder}: checkpoint files are damaged: {error}") from error
    if label_set.digest != config["label_set_digest"]:
        raise StartupError(
            f"{folder / LABEL_SET}: is not the label set the model was trained with (digest "
            f"{label_set.digest}, expected {config['label_set_digest']}); restore the file"
        )
    return parts


def local_checkpoint(path: str) -> Path:
    """A local folder with the files of a checkpoint; downloads it once if it lies elsewhere.

    Args:
        path: Local folder, or a folder with a scheme such as s3://.

    Raises:
        ConfigError: If there is no such folder.
    """
    filesystem, root = fsspec.core.url_to_fs(path)
    if not path or not filesystem.isdir(root):
        raise ConfigError(
            f"checkpoint '{path}': no such folder; train one with jobs/train.py or correct the path"
        )
    if isinstance(filesystem, LocalFileSystem):
        return Path(root)
    return _download(filesystem, root, path)


def checkpoint_digest(path: str) -> str:
    """Name of a checkpoint's content: changes with any file that decides a prediction.

    Args:
        path: As `local_checkpoint` takes it.

    Raises:
        ConfigError: If there is no such folder.
        StartupError: If one of the files is missing.
    """
    folder = local_checkpoint(path)
    present = [name for name in OPTIONAL_FILES if (folder / name).is_file()]
    return _digest_of(folder, (*DECISIVE_FILES, *present))


def encoder_digest(path: str) -> str:
    """Name of what scores spans: weights, tokenizer and architecture, without the calibration.

    Descriptions of labels and versions of libraries are left out, since they move no score.

    Raises:
        ConfigError: If there is no such folder.
        StartupError: If one of the files is missing or damaged.
    """
    folder = local_checkpoint(path)
    config = read_json(folder / CONFIG)
    deciding = [config.get(name) for name in ("model", "loss", "special_ids")]
    return _digest_of(
        folder, (WEIGHTS, TOKENIZER, ENCODER_CONFIG), json.dumps(deciding, sort_keys=True)
    )


def calibration_digest(path: str) -> str:
    """Name of what a checkpoint makes of its scores: temperature, doubt rules and belief.

    Raises:
        ConfigError: If there is no such folder.
        StartupError: If one of the files is missing.
    """
    folder = local_checkpoint(path)
    present = [name for name in OPTIONAL_FILES if (folder / name).is_file()]
    return _digest_of(folder, (CALIBRATION, *present))


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
        raise StartupError(f"{path}: cannot be read: {error.strerror}") from error


@lru_cache(maxsize=64)
def _content_digest(path: Path, *_state: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def publish_checkpoint(folder: Path, path: str) -> None:
    """Copy a finished checkpoint to where it is wanted, replacing what lies there.

    Args:
        folder: Local folder.
        path: Local folder or one with a scheme.
    """
    filesystem, root = fsspec.core.url_to_fs(path)
    if isinstance(filesystem, LocalFileSystem):
        target = Path(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        staging.chmod(0o755)
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
        return
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    for name in names:
        filesystem.put_file(str(folder / name), f"{root}/{name}")


def _download(filesystem: Any, root: str, path: str) -> Path:  # noqa: ANN401 - an fsspec one
    """Fetch the decisive files and the canary to a folder named by what they are now."""
    files = {
        name: f"{root}/{name}"
        for name in (*DECISIVE_FILES, *OPTIONAL_FILES, *CANARY_FILES, *ADVICE_FILES)
    }
    present = {name: remote for name, remote in files.items() if filesystem.isfile(remote)}
    state = json.dumps(
        [path, [[name, filesystem.ukey(remote)] for name, remote in present.items()]]
    )
    cache = Path(tempfile.gettempdir()) / f"linkner-checkpoints-{os.getuid()}"
    target = cache / hashlib.blake2b(state.encode(), digest_size=12).hexdigest()
    if target.is_dir():
        return target
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=cache))
    for name, remote in present.items():
        (staging / name).parent.mkdir(exist_ok=True)
        filesystem.get_file(remote, str(staging / name))
    try:
        staging.rename(target)
    except OSError:  # another process was quicker
        shutil.rmtree(staging)
    return target


def _special_ids(tree: dict[str, Any]) -> SpecialIds:
    return SpecialIds(
        prefix=tuple(tree["prefix"]),
        suffix=tuple(tree["suffix"]),
        pad=tree["pad"],
        fill=tree["fill"],
    )


def _read_tokenizer(path: Path) -> Tokenizer:
    text = path.read_text(encoding="utf-8")
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # what tokenizers raises has no narrower type
        raise StartupError(f"{path}: is not a tokenizer: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file of a checkpoint.

    Raises:
        StartupError: If it is not a JSON object.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"{path}: is not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise StartupError(f"{path}: expected an object, found {type(tree).__name__}")
    return tree


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
