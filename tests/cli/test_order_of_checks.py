"""What is wrong with a command's paths is told before a model library or Ray is imported."""

import json
import subprocess
import sys

import pytest

from linkner_ray.cli import main
from tests.crawl import write_checkpoint, write_parquet

RUN = """
import json, sys
from linkner_ray.cli import main
for command in json.loads(sys.argv[1]):
    code = main(command)
    loaded = [name for name in ("torch", "ray", "matplotlib") if name in sys.modules]
    assert (code, loaded) == (2, []), (command, code, loaded)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_checkpoint(folder / "checkpoint")
    write_parquet(folder / "a.parquet", ["EU rejects German call ."] * 3)
    (folder / "set.conll").write_text("EU B-ORG\n. O\n\n")
    return folder


def test_a_wrong_path_is_told_without_ray_and_without_a_model_library(world):
    run = ["output.path=out", f"recognize.checkpoint={world / 'checkpoint'}", "llm.backend=none"]
    no_input = [*run, f"input.paths=[{world / 'nowhere.parquet'}]"]
    night = ["night.name=2026-11-23", "output.keep_candidates=true"]
    here = [*run, f"input.paths=[{world / 'a.parquet'}]"]
    nowhere, labelled = str(world / "no" / "where"), f"a={world / 'set.conll'}"
    score = ["evaluate", "--output", str(world / "s"), "--checkpoint", str(world / "checkpoint")]
    replay = ["--set", labelled, "llm.backend=replay", "llm.model=x"]
    commands = [
        [*score, "--set", f"a={nowhere}"],
        [*score, "--set", f"{labelled}:auto:nomap"],
        [*score, *replay, f"llm.replay_path={nowhere}"],
        [*score, *replay, f"cache.path={nowhere}"],
        [*score, "--set", labelled, "--dry-run", "routing.never_ask=[NOBODY]"],
        ["extract", *no_input],
        ["extract", *here, f"recognize.checkpoint={nowhere}"],
        ["extract", *here, "llm.backend=replay", "llm.model=x", f"cache.path={nowhere}"],
        ["nightly", *no_input, *night],
        ["estimate", *no_input],
        ["estimate", *here, "--json", nowhere],
        ["preview", *no_input, "--html", str(world / "page.html")],
        ["preview", *here, "--html", nowhere],
        ["preview", *here, f"recognize.checkpoint={nowhere}"],
        ["compare", nowhere, nowhere],
        ["compare", nowhere, nowhere, "--json", nowhere],
        ["diff", nowhere, nowhere, "--html", nowhere],
    ]
    subprocess.run([sys.executable, "-c", RUN, json.dumps(commands)], check=True, timeout=120)


@pytest.mark.parametrize(
    ("name", "message"), [("no/x.json", "there is no folder"), (".", "is a folder; name a file")]
)
def test_a_file_that_cannot_be_written_is_told_first(world, name, message, capsys):
    assert main(["compare", "a", "b", "--json", f"{world}/{name}"]) == 2
    assert message in capsys.readouterr().err
