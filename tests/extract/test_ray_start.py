"""A Ray of one's own for each run, and what its console shows, with real processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from linkner_ray.errors import StartupError
from tests.crawl import overrides, write_checkpoint, write_crawl
from tests.spanner import tiny

ray = pytest.importorskip("ray")

from linkner_ray.extract.ray_start import start_ray  # noqa: E402
from linkner_ray.training.job import _Trainer  # noqa: E402

EPOCHS = 6

TRAIN = """
import os, sys
from linkner_ray.cli import main
code = main(sys.argv[1:])
import ray
own = ray.get_runtime_context().gcs_address
told = ray.remote(num_cpus=0)(lambda: os.environ.get("RAY_ADDRESS"))
assert ray.get(told.remote()) == own
sys.exit(code)
"""

EXTRACT = """
import json, sys
from linkner_ray.cli import main
extract = json.loads(sys.argv[1])
codes = [main(extract)]
print("----")

def broken_writer(*arguments, **settings):
    raise ValueError("a worker of the extraction is broken")

import linkner_ray.extract.pipeline
linkner_ray.extract.pipeline._write = broken_writer
codes += [main([*extract, sys.argv[2]])]
assert codes == [0, 4], codes
"""

BROKEN_TRAINING = """
import sys
from linkner_ray.cli import main

def broken_worker(settings):
    raise ValueError("a worker of the training is broken")

import linkner_ray.training.job
linkner_ray.training.job.train_worker = broken_worker
sys.exit(main(sys.argv[1:]))
"""


def start(*command, **environment):
    """A process with a Ray of its own."""
    own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=own | environment,
    )


def write_training(folder: Path) -> list[str]:
    """Command line of a small training."""
    entries = [
        {"context": tiny.LINES[0], "span_posLabel": {"0;0": "ORG"}},
        {"context": tiny.LINES[1], "span_posLabel": {"0;1": "PER", "3;4": "PER", "6;6": "LOC"}},
        {"context": tiny.LINES[2], "span_posLabel": {"0;0": "LOC", "2;2": "LOC", "4;5": "LOC"}},
    ]
    folder.mkdir()
    (folder / "corpus.json").write_text(json.dumps(entries))
    (folder / "labels.yaml").write_text(yaml.safe_dump(tiny.LABELS.model_dump(mode="json")))
    return [
        "train",
        f"corpus.train={folder}/corpus.json",
        f"corpus.dev={folder}/corpus.json",
        f"corpus.label_set={folder}/labels.yaml",
        f"model.encoder={tiny.save_bert(folder / 'encoder')}",
        "model.max_width=4",
        "model.max_subwords=64",
        "model.window_overlap=16",
        "training.batch_size=3",
        f"training.epochs={EPOCHS}",
        f"training.patience={EPOCHS}",
        "workers.cpus=0.5",
        "workers.num_threads=1",
        "workers.max_failures=0",
        f"output.checkpoint={folder}/checkpoint",
        f"output.storage={folder}/storage",
    ]


def folder_of_ray(lines: list[str]) -> Path:
    """Where the console says that Ray's lines are; it says so once."""
    found = [line.partition("own lines: ")[2] for line in lines if "own lines: " in line]
    assert len(found) == 1, lines
    return Path(found[0])


@pytest.mark.soak
@pytest.mark.ray
def test_two_trainings_each_on_a_ray_of_its_own_do_not_disturb_each_other(tmp_path):
    trainings = [write_training(tmp_path / name) for name in ("a", "b")]
    runs = [start("-c", TRAIN, *arguments) for arguments in trainings]
    spoken = [run.communicate(timeout=600) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], spoken
    folders = set()
    for folder, (output, errors) in zip(("a", "b"), spoken, strict=True):
        assert f"checkpoint     {tmp_path}/{folder}/checkpoint" in output
        lines = errors.splitlines()
        folders.add(logs := folder_of_ray(lines))
        # Nothing but that, the epochs, how far it is, and what the training itself has to say.
        mine = [line for line in lines if not re.search(r"own lines: |^steps: \d", line)]
        epochs = [line for line in mine if re.search(r"epoch \d of 6: loss", line)]
        assert [re.search(r"epoch (\d)", line)[1] for line in epochs] == list("123456")
        (said,) = [line for line in mine if line not in epochs]
        assert "the checkpoint keeps no thresholds" in said
        everything = "".join(p.read_text(errors="replace") for p in logs.rglob("*.*"))
        assert "Found multiple active Ray instances" not in everything
        assert "PlacementGroupCleaner" not in everything
        assert "Started training worker group" in everything  # of Ray, and kept
    assert len(folders) == 2


@pytest.mark.ray
def test_the_console_has_our_lines_and_every_error(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    crawl = write_crawl(tmp_path / "crawl")
    extraction = ["extract", *overrides(crawl, tmp_path / "out", checkpoint)]
    run = start("-c", EXTRACT, json.dumps(extraction), f"output.path={tmp_path}/other")
    output, errors = run.communicate(timeout=600)
    assert run.returncode == 0, errors
    lines = errors.splitlines()
    folder = folder_of_ray(lines)
    assert re.search(r"documents +33 ", output.partition("----")[0])
    ends = [number for number, line in enumerate(lines) if line.startswith("linkner: ")]
    assert len(ends) == 2  # the folder, and why the second command ended
    quiet = [line for line in lines[: ends[1]] if line != lines[ends[0]]]
    assert len(quiet) == 2, quiet  # one of each command
    assert all("has no self_check.json" in line for line in quiet), quiet
    assert "ValueError: a worker of the extraction is broken" in errors
    kept = "".join(path.read_text(errors="replace") for path in folder.glob("linkner-*.log"))
    assert "core_worker.cc" in kept  # of Ray's C++ in the driver


@pytest.mark.soak
@pytest.mark.ray
def test_the_console_has_the_error_of_a_training_worker(tmp_path):
    run = start("-c", BROKEN_TRAINING, *write_training(tmp_path / "training"))
    _, errors = run.communicate(timeout=600)
    assert run.returncode == 4, errors
    assert "ValueError: a worker of the training is broken" in errors


def test_a_ray_that_does_not_come_up_is_told_in_a_line(monkeypatch):
    def init(**_settings):
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 - as Ray does

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(
        StartupError, match=r"^Ray did not start on this machine in 0 s: The current .* try again"
    ):
        start_ray()
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    with pytest.raises(StartupError, match=r"^RAY_ADDRESS=192.0.2.1:6379: Ray does not answer"):
        start_ray()


@pytest.mark.parametrize(
    ("address", "said", "wanted"),
    [(None, None, "V2"), (None, "RATE_BASED", "RATE_BASED"), ("192.0.2.1:6379", None, None)],
    ids=["own", "own, with another wish", "joined, which may grow"],
)
def test_ray_data_takes_all_cpus_of_a_ray_of_ones_own(monkeypatch, address, said, wanted):
    def init(**_settings):
        raise RuntimeError

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    environment = {"RAY_ADDRESS": address, "RAY_DATA_CLUSTER_AUTOSCALER": said}
    monkeypatch.setattr(
        os, "environ", {name: value for name, value in environment.items() if value}
    )
    with pytest.raises(StartupError):
        start_ray()
    assert os.environ.get("RAY_DATA_CLUSTER_AUTOSCALER") == wanted


@pytest.mark.filterwarnings("ignore")  # Ray warns about its own internals
def test_a_training_asks_no_dashboard_whether_it_lives():
    trainer = _Trainer(lambda: None)
    names = {type(one).__name__ for one in trainer._create_default_callbacks()}
    assert "DatasetsCallback" in names
    assert "PlacementGroupCleanerCallback" not in names
