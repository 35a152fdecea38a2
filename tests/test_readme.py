"""README.md and the pages that go on from it: every command runs as printed, in their order."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import s3fs

from tests.cluster.repository import ROOT, copy_checkout

NAMES = ("quickstart", "pandas", "labels", "linking", "evaluation", "nightly", "extraction")
PAGES = ("README.md", *(f"docs/{name}.md" for name in NAMES))
"""Each goes on with the files of those before it."""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

INTERPRETERS = {
    "python": "python - <<'PYTHON'\n{}PYTHON\n",
    "sql": "python -c 'import duckdb, sys; print(duckdb.sql(sys.stdin.read()))' <<\"SQL\"\n{}SQL\n",
}

# What a user of S3 has there already.
UPLOAD = """python - <<'PYTHON'
import fsspec
s3 = fsspec.filesystem("s3")
s3.put("$WORLD/crawl/", "s3://crawl/2026-11-23/", recursive=True)
s3.put("checkpoints/mine/", "s3://models/spanner/", recursive=True)
PYTHON
"""


# A new cluster takes jobs when its agent is up, on a busy machine later than `ray` waits for it.
PATIENT_RAY = """ray() {
  for attempt in 1 2 3 4 5; do
    command ray "$@" 2> .cache/ray-errors && return
    grep -q "No available agent" .cache/ray-errors || break
  done
  cat .cache/ray-errors >&2
  return 1
}
"""


def script() -> str:
    """The blocks of all pages as one script of bash, but for `make test`, which runs this."""
    parts = ["set -eux -o pipefail\n", PATIENT_RAY]
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            language, block = match.groups()
            if language == "text":
                continue
            block = re.sub(r"^make test\b.*\n", "", block, flags=re.M)
            if "s3://" in block:
                parts.append(UPLOAD.replace("'PYTHON'", "PYTHON"))
            line = text.count("\n", 0, match.start()) + 1
            printed = INTERPRETERS[language].replace("{}", block) if language != "bash" else block
            parts.append(f": {page}:{line}\n{printed}")
    return "\n".join(parts)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page):
    languages = {match[1] for match in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8"))}
    assert languages <= {"bash", "python", "sql", "text"}


def test_all_commands_are_a_script_that_bash_can_read():
    done = subprocess.run(
        ["bash", "-n"], input=script(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert script().count("linkner ") > 30


def test_readme_can_be_read_in_ten_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that were started with this folder in their environment, such as those of Ray."""
    return [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get("RAY_TMPDIR") == str(folder)
    ]


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.vllm
@pytest.mark.usefixtures("s3")
def test_every_command_runs_as_printed(tmp_path):
    if not list(Path(sys.prefix).glob(".installed-*")):
        pytest.skip("README's commands want the environment that `make setup` makes")
    checkout = tmp_path / "checkout"
    # Ray's sockets want a short path.
    ray_folder = Path(tempfile.mkdtemp(dir="/tmp"))
    copy_checkout(checkout)
    (checkout / ".venv").symlink_to(sys.prefix)
    files = s3fs.S3FileSystem()
    for bucket in ("crawl", "models", "entities"):
        files.mkdir(bucket)
    environment = {**os.environ, "RAY_TMPDIR": str(ray_folder), "HF_HUB_OFFLINE": "1"}
    for name in ("RAY_ADDRESS", "PYTHONPATH"):
        environment.pop(name, None)
    try:
        with (tmp_path / "printed").open("w") as printed:
            done = subprocess.run(
                ["bash", "-c", script()],
                cwd=checkout,
                env=environment,
                stdout=printed,
                stderr=subprocess.STDOUT,
                check=False,
            )
    finally:
        for process in processes_of(ray_folder):
            process.send_signal(signal.SIGKILL)
    text = (tmp_path / "printed").read_text()
    assert done.returncode == 0, text[-4000:]
    assert "Traceback" not in text
