"""Which model it is that answers, as exactly as can be known without asking it.

A name is not enough: the weights in a local folder, or those behind an id of the Hugging Face hub,
can change while the name stays. Every request therefore carries a revision that follows them.
"""

import hashlib
from pathlib import Path

import numpy as np

from linkner_ray.config import CacheConfig, LlmConfig
from linkner_ray.errors import ConfigError
from linkner_ray.llm.cache.files import CacheFolder
from linkner_ray.spanner.pretrained import hub_snapshot, is_commit, is_hub_id, read_model_config
from linkner_ray.storage import read_file

_WHOLE_BYTES = 8 * 2**20
"""Files up to this size are read whole; of larger ones as much is read in samples."""

_SAMPLES = 128


def model_revision(config: LlmConfig) -> str | None:
    """Revision by which requests to a model are named.

    Covered: the content of a local model folder, tokenizer and chat template included (weights by
    samples, so a change of a few numbers between two samples goes unseen); the commit of a model of
    the hub; the dtype, where the config names one (`auto` follows from the model); a recorded file
    to the byte. Of an endpoint, and of a model that an engine reads from an object store, only what
    `llm.revision` says, which is therefore to be changed with the model behind it.

    Not covered, since they move probabilities by rounding alone: the kind of GPU or CPU, the
    release of the engine, how requests are batched, tensor parallelism.
    """
    if config.backend == "openai":
        return config.revision
    if config.replay_path:
        return known_content(config)
    revision = known_content(config) or _named_commit(config) or config.revision
    if config.dtype == "auto":
        return revision
    return f"{revision or ''}:{config.dtype}"


def check_replay_source(llm: LlmConfig, cache: CacheConfig) -> None:
    """Check that what a replay takes its answers from is there.

    Raises:
        ConfigError: If it is not.
    """
    if llm.backend != "replay":
        return
    if llm.replay_path:
        read_recording(llm.replay_path)
    elif not CacheFolder(str(cache.path)).list().names:
        raise ConfigError(
            f"cache.path = {cache.path}: there are no answers here to replay; a run with the LLM "
            "fills it"
        )


def known_content(config: LlmConfig) -> str | None:
    """Name of the content that answers come from, as far as this machine can see it.

    None for a model that is named by an id, and for one that only other machines have.

    Raises:
        ConfigError: If there is no such file to replay.
    """
    if config.replay_path:
        content = read_recording(config.replay_path)
        return f"file-{hashlib.blake2b(content, digest_size=8).hexdigest()}"
    if config.backend == "openai" or not config.model or not Path(config.model).is_dir():
        return None
    return f"folder-{folder_digest(Path(config.model))}"


def with_known_revision(config: LlmConfig) -> LlmConfig:
    """The config with the commit that `model_revision` names requests by as the revision to load.

    An engine may start hours after the first request was named, and the branch of the hub that the
    name stands for may have moved on by then. Only the model's small `config.json` is fetched.

    Raises:
        ConfigError: If neither the hub nor this machine's cache of it knows what an engine is to
            load.
    """
    if config.backend not in {"vllm", "replay"} or not is_hub_id(config.model):
        return config
    if is_commit(config.revision):
        return config
    if config.backend == "vllm":
        snapshot = hub_snapshot(config.model, config.revision)
        if snapshot is None:
            at = "" if config.revision is None else f" at revision '{config.revision}'"
            raise ConfigError(
                f"llm.model = {config.model}{at}: is no folder here, and neither the Hugging Face "
                "hub nor this machine's cache of it says which commit that is; correct the name, "
                "connect to the hub, or set llm.revision to a whole commit"
            )
        return config.model_copy(update={"revision": snapshot.name})
    commit = _hub_commit(config)  # a replay loads no model and asks no hub
    return config.model_copy(update={"revision": commit}) if commit else config


def engine_dtype(config: LlmConfig) -> str:
    """What an engine computes in: a word of the config and the model, not of the machine.

    With `llm.dtype = auto` that is float16 for weights stored so and bfloat16 for all others, as
    vLLM has it on machines that know both. It stays `auto` for a model that cannot be seen here.
    """
    if config.dtype != "auto" or config.backend != "vllm":
        return config.dtype
    folder: Path | None = Path(config.model)
    if is_hub_id(config.model):
        folder = hub_snapshot(config.model, config.revision)
    tree = None if folder is None else read_model_config(folder)
    if tree is None:
        return "auto"
    tree = {**tree, **(tree.get("text_config") or {})}
    stored = tree.get("dtype") or tree.get("torch_dtype")
    return "float16" if stored == "float16" else "bfloat16"


def read_recording(path: str) -> bytes:
    """Content of the file `llm.replay_path`.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        return read_file(path)
    except OSError as error:
        raise ConfigError(
            f"llm.replay_path = {path}: cannot be read: {error}; correct the path"
        ) from error


def folder_digest(folder: Path) -> str:
    """Name of the content of a model folder; cheap, since of large files only samples are read.

    The same files give the same name on every machine: neither times nor the path count.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            digest.update(f"{name.as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(_sample(path))
    return digest.hexdigest()


def _sample(path: Path) -> bytes:
    """Content of a file, or evenly spaced pieces of it from the first byte to the last."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= _WHOLE_BYTES:
            return stream.read()
        length = _WHOLE_BYTES // _SAMPLES
        pieces = []
        for start in np.linspace(0, size - length, _SAMPLES).astype(int).tolist():
            stream.seek(start)
            pieces.append(stream.read(length))
        return b"".join(pieces)


def _named_commit(config: LlmConfig) -> str | None:
    commit = _hub_commit(config)
    return None if commit is None else f"commit-{commit}"


def _hub_commit(config: LlmConfig) -> str | None:
    """Commit of a model of the hub: the revision, or what this machine's cache says it is."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if is_commit(config.revision) and is_hub_id(config.model):
        return config.revision
    try:
        found = try_to_load_from_cache(config.model, "config.json", revision=config.revision)
    except HFValidationError:  # a name that the hub cannot have, such as that of a lost folder
        return None
    return Path(found).parent.name if isinstance(found, str) else None
