"""The example for your own corpus runs as it stands, with a tiny model for a trained one."""

import os
import subprocess
import sys
from pathlib import Path

from tests.crawl import write_checkpoint

ROOT = Path(__file__).parents[2]


def test_every_cell_runs(tmp_path):
    write_checkpoint(tmp_path / "your-corpus" / "checkpoint")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "your_corpus.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "text_index" in done.stdout
    assert "| **micro** |" in done.stdout
