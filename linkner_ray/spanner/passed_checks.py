"""Self-checks that passed on this machine, remembered so that the next load skips them.

A check is remembered under everything that can change its result: the checkpoint's files, this code
and its libraries, the machine, and how the model is asked. Each has a file in `linkner/self-checks`
of the user's cache folder, or in the folder that `LINKNER_SELF_CHECKS` names; if that is empty,
nothing is remembered. A damaged file or a folder that cannot be written costs only a check.
"""

import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from linkner_ray.config import RecognizeConfig
from linkner_ray.spanner.checkpoint import library_versions
from linkner_ray.spanner.digests import content_digest

logger = logging.getLogger(__name__)

_CODE = Path(__file__).parent

_NUMBER_SETTINGS = ("ATEN_", "CUBLAS_", "DNNL_", "MKL_", "NVIDIA_", "ONEDNN_", "TORCH_")
"""Beginnings of environment variables by which libraries choose how they compute."""


def inputs_of_check(
    folder: Path, files: Sequence[str], config: RecognizeConfig, device: torch.device
) -> dict[str, object]:
    """Everything that can change the result of a self-check; not where the checkpoint lies."""
    present = [name for name in files if (folder / name).is_file()]
    return {
        "files": {name: content_digest(folder / name).hex() for name in present},
        "config": config.model_dump(mode="json", exclude={"checkpoint"}),
        "code": _code_digest(),
        "libraries": {
            **library_versions(),
            **{name: metadata.version(name) for name in ("numpy", "safetensors")},
            "torch": torch.__version__,
        },
        "torch_build": torch.__config__.show(),
        "machine": [platform.node(), platform.machine(), platform.release(), _processor()],
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "settings": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(_NUMBER_SETTINGS)
        },
        "gpu": _gpu(device),
    }


def has_passed(inputs: dict[str, object]) -> bool:
    """Whether a check with these inputs passed on this machine before."""
    path = _path(inputs)
    if path is None:
        return False
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == inputs)
    except (OSError, ValueError):
        return False


def remember_passed(inputs: dict[str, object]) -> None:
    """Remember that a check with these inputs passed, if there is a place for it."""
    path = _path(inputs)
    if path is None:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(inputs, file)
            Path(name).replace(path)
        except OSError:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        logger.info("%s: a passed self-check cannot be remembered: %s", path, error)


def _path(inputs: dict[str, object]) -> Path | None:
    """File of a check; None where nothing is to be remembered, or the user has no home."""
    content = json.dumps(inputs, sort_keys=True).encode()
    name = hashlib.blake2b(content, digest_size=16).hexdigest()
    folder = os.environ.get("LINKNER_SELF_CHECKS")
    if folder == "":
        return None
    if folder is not None:
        return Path(folder) / f"{name}.json"
    try:
        users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return users / "linkner" / "self-checks" / f"{name}.json"


@cache
def _code_digest() -> str:
    """Name of the content of this room's modules, which load and run a model."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(_CODE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(b"%s %d " % (path.name.encode(), len(content)) + content)
    return digest.hexdigest()


def _processor() -> str:
    """Name of the processor as Linux gives it; elsewhere what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _gpu(device: torch.device) -> list[str] | None:
    """Name, capability and number of a GPU, its driver and libraries; None for a CPU."""
    if device.type != "cuda":
        return None
    try:
        driver = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        driver = ""
    return [
        str(torch.cuda.get_device_properties(device)),
        driver,
        str(torch.version.cuda),
        str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        f"TF32 {torch.backends.cuda.matmul.allow_tf32} {torch.backends.cudnn.allow_tf32}",
    ]
