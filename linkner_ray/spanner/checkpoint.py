"""The checkpoint folder: what lies in it, read and written without a pickle.

`config.json` architecture, label set digest, versions; `model.safetensors` weights;
`tokenizer.json`; `encoder/config.json`; `label_set.yaml`; `calibration.json`;
`novelty.safetensors` what training held; `self_check.json` and `self_check.safetensors`, by which
the others are checked; `README.md` the model card.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from tokenizers import Tokenizer

from linkner_ray.config import ModelConfig, Uncertainty
from linkner_ray.config.languages import normalise_languages
from linkner_ray.errors import ConfigError, StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.spanner.calibration.novelty import NOVELTY, NoveltyFeatures
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.calibration.thresholds import THRESHOLDS
from linkner_ray.spanner.subwords import SpecialIds, SubwordEncoder
from linkner_ray.storage import Folder

FORMAT = "linkner-spanner"
FORMAT_VERSION = 2

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
ENCODER_CONFIG = "encoder/config.json"
LABEL_SET = "label_set.yaml"
CALIBRATION = "calibration.json"
MODEL_CARD = "README.md"

DECISIVE_FILES = (CONFIG, WEIGHTS, TOKENIZER, ENCODER_CONFIG, LABEL_SET, CALIBRATION)
"""Files a checkpoint must have; together they decide every prediction."""

OPTIONAL_FILES = (NOVELTY,)
"""Files that decide predictions where they are there; checkpoints of earlier releases lack them."""

SELF_CHECK = "self_check.json"
SELF_CHECK_TENSORS = "self_check.safetensors"

SELF_CHECK_FILES = (SELF_CHECK, SELF_CHECK_TENSORS)
"""Travel with a checkpoint and check it, but decide nothing, so its digest leaves them out."""

ADVICE_FILES = (THRESHOLDS,)
"""Travel with a checkpoint and decide nothing by themselves: a config names what it takes."""

ALL_FILES = (*DECISIVE_FILES, *OPTIONAL_FILES, *SELF_CHECK_FILES, *ADVICE_FILES, MODEL_CARD)
"""Every file that a checkpoint may have; a folder with others is not ours to replace."""

UNFINISHED = "unfinished"
"""Key of `config.json` while a checkpoint is published to a store, which has no rename."""

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
        novelty: What training held; None for a checkpoint of an earlier release.
        languages: Codes of the languages of the training text; None likewise.
    """

    folder: Path
    model: ModelConfig
    loss: Loss
    label_set: LabelSet
    special: SpecialIds
    tokenizer: Tokenizer
    calibration: Calibration
    novelty: NoveltyFeatures | None = None
    languages: tuple[str, ...] | None = None

    def subword_encoder(self) -> SubwordEncoder:
        """Encodes words as the model of this checkpoint reads them."""
        return SubwordEncoder(
            self.tokenizer,
            self.special,
            max_token_subwords=self.model.max_subwords - self.special.count,
        )


def missing_estimates(*, loss: str, dropout: float) -> dict[Uncertainty, str]:
    """Estimates of uncertainty that a checkpoint cannot give, each with why."""
    found: dict[Uncertainty, str] = {}
    if loss != "evidential":
        found["evidential"] = f"the checkpoint was trained with loss = '{loss}'"
    if dropout == 0:
        found["mc_dropout"] = "the checkpoint has dropout 0, so every sample is the same"
    return found


def possible_estimates(*, loss: str, dropout: float) -> tuple[Uncertainty, ...]:
    """Estimates of uncertainty that a checkpoint can give."""
    missing = missing_estimates(loss=loss, dropout=dropout)
    return tuple(name for name in get_args(Uncertainty) if name not in missing)


def check_estimate(wanted: Uncertainty, *, loss: str, dropout: float) -> None:
    """Check that a checkpoint can give an estimate.

    Raises:
        ConfigError: If it cannot; says why, and which it can give.
    """
    why = missing_estimates(loss=loss, dropout=dropout).get(wanted)
    if why is not None:
        raise ConfigError(
            f"recognize.uncertainty = '{wanted}': {why}; choose one of "
            f"{', '.join(possible_estimates(loss=loss, dropout=dropout))}"
        )


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
            **({} if parts.languages is None else {"languages": parts.languages}),
            "versions": library_versions(),
        },
    )
    parts.tokenizer.save(str(folder / TOKENIZER))
    labels = yaml.safe_dump(
        parts.label_set.model_dump(mode="json"), sort_keys=False, allow_unicode=True
    )
    (folder / LABEL_SET).write_text(labels, encoding="utf-8")
    _write_json(folder / CALIBRATION, asdict(parts.calibration))
    if parts.novelty is not None:
        parts.novelty.write(folder)


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
            f"{found[1]}; is this the folder of another model, or of an earlier release?"
        )
    languages = config.get("languages")
    try:
        label_set = LabelSet.model_validate(
            yaml.safe_load((folder / LABEL_SET).read_text(encoding="utf-8"))
        )
        parts = CheckpointParts(
            folder=folder,
            model=ModelConfig.model_validate(config["model"]),
            loss=config["loss"],
            label_set=label_set,
            special=SpecialIds.from_json(config["special_ids"]),
            tokenizer=_read_tokenizer(folder / TOKENIZER),
            calibration=Calibration.from_json(read_json(folder / CALIBRATION)),
            novelty=NoveltyFeatures.read(folder),
            languages=None if languages is None else normalise_languages(languages, CONFIG),
        )
    except (KeyError, TypeError, ValueError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartupError(
            f"{folder}: checkpoint files are damaged: {error}; restore them"
        ) from error
    if label_set.digest != config["label_set_digest"]:
        raise StartupError(
            f"{folder / LABEL_SET}: is not the label set the model was trained with (digest "
            f"{label_set.digest}, expected {config['label_set_digest']}); restore the file"
        )
    return parts


def local_checkpoint(path: str) -> Path:
    """A local folder with the files of a checkpoint; downloads it once if it lies elsewhere.

    Raises:
        ConfigError: If there is no such folder.
    """
    folder = Folder.at(path)
    if not path or not folder.is_folder():
        raise ConfigError(
            f"checkpoint '{path}': no such folder; `linkner train` makes one, or correct the path"
        )
    return Path(folder.root) if folder.is_local else _download(folder, path)


def _download(folder: Folder, path: str) -> Path:
    """Fetch the files of a checkpoint to a local folder named by what they are now."""
    cache = Path(tempfile.gettempdir()) / f"linkner-checkpoints-{os.getuid()}"
    versions = _versions(folder)
    content = json.dumps([path, sorted(versions.items())])
    target = cache / hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
    if _is_whole(target, versions):
        return target
    shutil.rmtree(target, ignore_errors=True)  # cleaners of temporary folders take single files
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=cache))
    try:
        for name in versions:
            (staging / name).parent.mkdir(exist_ok=True)
            folder.download(name, staging / name)
        if _is_unfinished(staging) or _versions(folder) != versions:
            raise StartupError(
                f"{path}: is being published, or its publication was cut off; wait for it, or "
                "publish it again"
            )
        staging.rename(target)
    except OSError:
        if not _is_whole(target, versions):  # else another process was quicker
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _is_whole(folder: Path, names: Iterable[str]) -> bool:
    return folder.is_dir() and all((folder / name).is_file() for name in names)


def _versions(folder: Folder) -> dict[str, str]:
    """Which files a checkpoint has on a store, each with what tells its versions apart."""
    folder.forget_listings()
    return {name: folder.version(name) for name in ALL_FILES if folder.exists(name)}


def _is_unfinished(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and UNFINISHED in read_json(folder / CONFIG)


def _read_tokenizer(path: Path) -> Tokenizer:
    text = path.read_text(encoding="utf-8")
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # what tokenizers raises has no narrower type
        raise StartupError(f"{path}: is not a tokenizer: {error}; restore it") from error


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file of a checkpoint.

    Raises:
        StartupError: If it is not a JSON object.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"{path}: is not JSON: {error}; restore it") from error
    if not isinstance(tree, dict):
        raise StartupError(f"{path}: expected an object, found {type(tree).__name__}; restore it")
    return tree


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
