"""What is wrong with a command is told before a model library or Ray is imported."""

import json
import subprocess
import sys

import pytest

from linkner_ray.cli import main
from tests.crawl import write_checkpoint, write_parquet

RUN = """
import contextlib, io, json, sys
from linkner_ray.cli import main
for command, message in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(command)
    loaded = [name for name in ("torch", "ray", "matplotlib") if name in sys.modules]
    assert (code, loaded, message in said.getvalue()) == (2, [], True), (command, said.getvalue())
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_checkpoint(folder / "checkpoint")
    write_parquet(folder / "a.parquet", ["EU rejects German call ."] * 3)
    (folder / "set.conll").write_text("EU B-ORG\n. O\n\n")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "_run.json").write_text('{"pl')
    return folder


def test_what_is_wrong_is_told_without_ray_and_without_a_model_library(world):
    checkpoint, file, labelled = (str(world / n) for n in ("checkpoint", "a.parquet", "set.conll"))
    damaged, nowhere = str(world / "damaged"), str(world / "no" / "where")
    to = f"output.path={world / 'out'}"
    run = [to, f"recognize.checkpoint={checkpoint}", "llm.backend=none"]
    here, no_input = [*run, f"input.paths=[{file}]"], [*run, f"input.paths=[{nowhere}]"]
    night = ["night.name=2026-11-23", "output.keep_candidates=true"]
    openai = ["llm.backend=openai", "llm.model=x", "llm.base_url=http://127.0.0.1:9/v1"]
    replay = ["llm.backend=replay", "llm.model=x"]
    score = ["evaluate", "--output", str(world / "s"), "--checkpoint", checkpoint]
    scored = [*score, "--set", f"a={labelled}"]
    train = [
        "train", f"corpus.train={labelled}", f"corpus.dev={labelled}", "corpus.label_set=conll03",
        f"output.checkpoint={world / 'new'}", f"output.storage={world / 'storage'}",
    ]  # fmt: skip
    is_file = "is a file; name a folder"
    commands = [
        ([*score, "--set", f"a={nowhere}"], nowhere),
        ([*scored[:-1], f"a={labelled}:auto:nomap"], "nomap"),
        ([*scored, *replay, f"llm.replay_path={nowhere}"], nowhere),
        ([*scored, *replay, f"cache.path={nowhere}"], "no answers here to replay"),
        ([*scored, *openai, f"cache.path={file}"], is_file),
        ([*scored, f"output.path={file}"], is_file),
        ([*scored, "recognize.uncertainty=evidential"], "trained with loss = 'cross_entropy'"),
        ([*scored, "--dry-run", "routing.never_ask=[NOBODY]"], "NOBODY"),
        (["extract", *no_input], "matches nothing"),
        (["extract", *here, "input.text_column=body"], "no column 'body'"),
        (["extract", *here, "recognize.checkpoint="], "recognize.checkpoint is not set"),
        (["extract", *here, f"recognize.checkpoint={nowhere}"], "no such folder"),
        (["extract", *here, *replay, f"cache.path={nowhere}"], "no answers here to replay"),
        (["extract", *here, *openai, f"cache.path={file}"], is_file),
        (["extract", *here, *openai, "llm.base_url=host:8000"], "'host:8000' is no web address"),
        (["extract", *here, "recognize.uncertainty=evidential"], "choose one of confidence"),
        (["extract", *here, f"output.path={file}"], is_file),
        (["extract", *here, f"output.path={file}/out"], is_file),
        (["extract", *here, "output.path="], "output.path: expected text, found ''"),
        (["extract", *here, "output.path=s4://bucket/out"], "Protocol not known: s4"),
        (["extract", *here, f"output.path={damaged}"], "_run.json is damaged"),
        (["nightly", *no_input, *night], "matches nothing"),
        (["estimate", *no_input], "matches nothing"),
        (["estimate", *here, "--json", nowhere], "there is no folder"),
        (["estimate", *here, "--measure-llm"], "and llm.backend = none"),
        (["estimate", *here, *openai, "--measure-llm", "--requests-per-s", "3"], "give one of"),
        (["preview", *here, "--llm", "--html", str(world / "page.html")], "llm.backend = none"),
        (["preview", *no_input, "--html", str(world / "page.html")], "matches nothing"),
        (["preview", *here, "--html", nowhere], "there is no folder"),
        (["preview", *here, f"recognize.checkpoint={nowhere}"], "no such folder"),
        (["predict", nowhere, "Obama"], "no such folder"),
        ([*train, f"output.checkpoint={file}"], is_file),
        ([*train, f"output.storage={file}"], is_file),
        (["compare", nowhere, nowhere], nowhere),
        (["compare", nowhere, nowhere, "--json", nowhere], "there is no folder"),
        (["diff", nowhere, nowhere, "--html", nowhere], "there is no folder"),
        (["show", damaged, "--doc", "x"], "_run.json is damaged"),
        (["failures", "list", damaged], "_run.json is damaged"),
        (["failures", "requeue", file], "it has no _run.json"),
    ]
    subprocess.run([sys.executable, "-c", RUN, json.dumps(commands)], check=True, timeout=120)


@pytest.mark.parametrize(
    ("name", "message"), [("no/x.json", "there is no folder"), (".", "is a folder; name a file")]
)
def test_a_file_that_cannot_be_written_is_told_first(world, name, message, capsys):
    assert main(["compare", "a", "b", "--json", f"{world}/{name}"]) == 2
    assert message in capsys.readouterr().err


def test_a_library_that_ends_the_process_with_a_message_is_no_success(monkeypatch):
    monkeypatch.setattr("linkner_ray.cli.app.app", lambda **_: sys.exit("no memory left"))
    with pytest.raises(SystemExit, match="no memory left"):
        main(["extract"])
