"""Training for real: Ray Train on this machine, a tiny encoder, a corpus learned by heart."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
import yaml
from transformers import BertModel

from linkner_ray.config import TrainConfig
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.errors import ConfigError, DataError, StartupError
from linkner_ray.logs.progress import Step
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.calibration.thresholds import Thresholds
from linkner_ray.spanner.model import SpanNER
from linkner_ray.storage import Folder
from linkner_ray.training.dev_set import novelty_of, thresholds_on
from linkner_ray.training.reports import EpochReport, TrainingResult, TrainingState
from tests.spanner import tiny
from tests.spanner.candidates import candidates_of

ray = pytest.importorskip("ray")

from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError  # noqa: E402
from ray.train.v2._internal.execution.failure_handling.default import (  # noqa: E402
    DefaultFailurePolicy,
)
from ray.train.v2.api.exceptions import ControllerError  # noqa: E402

from linkner_ray.config import RecognizeConfig  # noqa: E402
from linkner_ray.spanner.predict import Recognizer  # noqa: E402
from linkner_ray.spanner.self_check import SelfCheck, load_recognizer, record_self_check  # noqa: E402
from linkner_ray.training import job  # noqa: E402
from linkner_ray.training.content import with_dtype  # noqa: E402
from linkner_ray.training.job import _publish  # noqa: E402
from linkner_ray.training.plan import TrainingPlan, plan_training  # noqa: E402
from linkner_ray.training.progress import look  # noqa: E402
from linkner_ray.training.steps import BUFFER_SENTENCES, steps_per_epoch  # noqa: E402

# Ray warns about its own internals.
pytestmark = pytest.mark.filterwarnings("ignore")

EPOCHS = 24  # twice what one worker needs to learn the corpus by heart
REPORT = EpochReport(epoch=1, loss=0.5, f1=0.8, precision=0.8, recall=0.8, steps=4, seconds=2.0)


@pytest.fixture
def config(tmp_path):
    """Twelve sentences, of which one holds an entity wider than the model looks."""
    entries = [
        {"context": tiny.LINES[0], "span_posLabel": {"0;0": "ORG"}},
        {"context": tiny.LINES[1], "span_posLabel": {"0;1": "PER", "3;4": "PER", "6;6": "LOC"}},
        {"context": tiny.LINES[2], "span_posLabel": {"0;0": "LOC", "2;2": "LOC", "4;5": "LOC"}},
        {"context": tiny.LINES[3], "span_posLabel": {"0;4": "PER", "6;7": "ORG"}},
    ]
    for name, content in (("train", entries * 3), ("dev", entries)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    labels = tmp_path / "labels.yaml"
    labels.write_text(yaml.safe_dump(tiny.LABELS.model_dump(mode="json")))
    return TrainConfig.model_validate(
        {
            "corpus": {
                "train": str(tmp_path / "train.json"),
                "dev": str(tmp_path / "dev.json"),
                "label_set": str(labels),
            },
            "model": {
                "encoder": tiny.save_bert(tmp_path / "encoder"),
                "max_width": 4,
                "head_width": 16,
                "max_subwords": 64,
                "window_overlap": 16,
            },
            "training": {
                "epochs": EPOCHS,
                "batch_size": 4,
                "patience": EPOCHS,
                "encoder_learning_rate": 3e-3,
                "head_learning_rate": 1e-2,
                "average_decay": 0.5,  # of 72 steps in all, a long average would lag behind
                "dtype": "float32",
            },
            "output": {
                "checkpoint": str(tmp_path / "checkpoint"),
                "storage": str(tmp_path / "storage"),
                "run_name": "tiny",
            },
            "workers": {"cpus": 0.5, "num_threads": 1},
        }
    )


def changed(config, **sections):
    """The config with some values of some sections replaced."""
    tree = config.model_dump(mode="json")
    for name, values in sections.items():
        tree[name].update(values)
    return TrainConfig.model_validate(tree)


def train(config):
    return job.train(plan_training(config))


def assert_learned(result, config):
    assert [report.epoch for report in result.epochs] == list(range(1, EPOCHS + 1))
    assert result.epochs[-1].loss < 0.5 * result.epochs[0].loss
    assert (result.train_sentences, result.dev_sentences) == (12, 4)
    assert (result.train_unreachable, result.dev_unreachable) == (3, 1)
    assert result.best.f1 == max(report.f1 for report in result.epochs)
    model = SpanNER.from_pretrained(config.output.checkpoint)
    assert model.languages == ("en",)
    assert model.calibration == result.calibration
    recognizer = Recognizer(model, RecognizeConfig(max_near_misses=0))
    [found] = candidates_of(recognizer, [tiny.LINES[1].split()])
    assert (0, 2, "PER") in {(one.start_token, one.end_token, one.label) for one in found}


def assert_published(result, config):
    assert_learned(result, config)
    # 12 sentences, 4 in a step over all workers: 3 steps in each epoch
    assert result.steps == 3 * EPOCHS
    checkpoint = Path(config.output.checkpoint)
    card = (checkpoint / "README.md").read_text()
    assert "train entities wider than the model looks | 3 |" in card
    names = {path.name for path in checkpoint.iterdir()}
    assert not names & {"optimizer.safetensors", "training_state.json", "trained.safetensors"}
    self_check = SelfCheck.read(checkpoint)
    assert self_check.sentences == tuple(tuple(line.split()[:16]) for line in tiny.LINES)
    load_recognizer(RecognizeConfig(checkpoint=config.output.checkpoint))


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize("num_workers", [1, 2])
def test_training_learns_and_publishes_a_checkpoint(config, num_workers):
    config = changed(config, workers={"num_workers": num_workers})
    assert_published(train(config), config)


@pytest.mark.ray
@pytest.mark.usefixtures("two_cpus")
def test_a_killed_worker_goes_on_where_it_was_and_both_learn(config, tmp_path):
    config = changed(config, workers={"num_workers": 2})
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, config)
        before = first_state(tmp_path / "storage" / "tiny")
        time.sleep(1.0)  # the controller looks every 0.2 s; what it has not seen does not count
        killed = kill_worker()
        result = training.result(300)
    assert killed
    # Seconds are measured: an epoch trained anew would have others.
    assert result.epochs[: before.epoch] == before.reports
    assert_published(result, config)


def first_state(run):
    for _ in range(3000):
        for path in sorted(run.glob("checkpoint_*/training_state.json")):
            try:
                return TrainingState.read(path.parent)
            except (OSError, json.JSONDecodeError):  # being written, or just replaced
                continue
        time.sleep(0.05)
    raise AssertionError("no checkpoint appeared")


def kill_worker():
    """Kill the training worker of this process's own Ray."""
    for process in psutil.Process().children(recursive=True):
        try:
            is_worker = any("RayTrainWorker" in part for part in process.cmdline())
        except psutil.NoSuchProcess:  # ended meanwhile, or a zombie of another test
            continue
        if is_worker:
            process.send_signal(signal.SIGKILL)
            return True
    return False


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.usefixtures("two_cpus")
def test_a_finished_run_under_the_same_name_is_not_trained_again(config):
    config = changed(config, training={"epochs": 2})
    first = train(config)
    assert train(config) == first


def test_what_is_published_keeps_thresholds_if_dev_is_large_enough(config, tmp_path, caplog):
    model = tiny.model(max_width=4)
    model.novelty = novelty_of([])
    model.save_pretrained(tmp_path / "epoch")
    record_self_check(model, [tiny.LINES[0].split()]).write(tmp_path / "epoch")
    dev = read_corpus(config.corpus.dev, label_set=tiny.LABELS)
    result = TrainingResult(
        checkpoint=config.output.checkpoint, run_name="tiny", best=REPORT, epochs=(REPORT,),
        calibration=Calibration(), train_sentences=12, dev_sentences=4, train_unreachable=3,
        dev_unreachable=1,
    )  # fmt: skip
    plan = TrainingPlan(config=config, label_set=tiny.LABELS, train=dev, dev=dev)
    publish = partial(_publish, tmp_path / "epoch", result)
    publish(plan)
    assert Thresholds.read(tmp_path / "checkpoint") is None
    assert SelfCheck.read(tmp_path / "checkpoint").bfloat16_distance > 0
    assert "keeps no thresholds: thresholds need at least 100 predicted entities" in caplog.text
    large = replace(dev, sentences=dev.sentences * 20)
    publish(replace(plan, dev=large))
    kept = Thresholds.read(tmp_path / "checkpoint")
    card = (tmp_path / "checkpoint" / "README.md").read_text()
    assert f"| train content | {dev.digest} |" in card
    assert kept == thresholds_on(model, large.sentences)
    assert kept.num_predicted >= 100


@pytest.fixture
def runs(monkeypatch):
    """Names of the runs that would be trained; nothing is."""
    names = []

    def fit(_plan, run_name):
        names.append(run_name)
        raise StartupError("not here")

    monkeypatch.setattr(job, "start_ray", lambda: None)
    node = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}
    monkeypatch.setattr(job.ray, "nodes", lambda: [node, node, {**node, "Alive": False}])
    monkeypatch.setattr(job, "_fit", fit)
    return names


@pytest.mark.parametrize(
    ("workers", "fitting"),
    [
        ({"num_workers": 1, "cpus": 6.0}, 0),  # 8 CPUs in all, but no node has six
        ({"num_workers": 4, "cpus": 3.0}, 2),
        ({"num_workers": 3, "cpus": 1.0, "gpus": 1.0}, 2),
    ],
)
def test_workers_that_the_nodes_cannot_hold_are_a_wrong_config(config, runs, workers, fitting):
    config = changed(config, training={"batch_size": 12})
    with pytest.raises(ConfigError, match=f"each, but the nodes hold {fitting} of them"):
        train(changed(config, workers=workers))
    assert not runs
    # What did not begin has not taken the name.
    begin(changed(config, workers={**workers, "num_workers": fitting or 1, "cpus": 1.0}))


def test_workers_that_find_no_room_are_not_started_for_ever(config, monkeypatch):
    made = []

    class Trainer:
        def __init__(self, *_, run_config, **_settings):
            made.append(run_config.failure_config)

        def fit(self):
            return None

    monkeypatch.setattr(job, "_Trainer", Trainer)
    monkeypatch.setattr(job.ray.data, "from_arrow", lambda table: table)
    job._fit(plan_training(config), "tiny")
    policy, error = DefaultFailurePolicy(*made), ControllerError(WorkerGroupStartupTimeoutError(2))
    decisions = [policy.make_decision(error).value for _ in range(job.START_TRIES + 1)]
    assert decisions == ["RETRY"] * job.START_TRIES + ["RAISE"]


def test_the_driver_sees_how_far_its_worker_is(config, tmp_path, monkeypatch):
    seen = Step("steps", 12)

    class Trainer:
        """Runs the worker in this process."""

        def __init__(self, work, *, train_loop_config, datasets, **_settings):
            self.work, self.settings, self.table = work, train_loop_config, datasets["train"]

        def fit(self):
            shard = SimpleNamespace(iter_batches=lambda **_: [self.table])
            monkeypatch.setattr(ray.train, "get_dataset_shard", lambda _: shard)
            settings = ray.cloudpickle.loads(ray.cloudpickle.dumps(self.settings))
            assert self.work(settings) is None
            look(Folder.at(str(tmp_path / "storage" / "tiny")), seen)

    rank = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(job, "_Trainer", Trainer)
    monkeypatch.setattr(ray.data, "from_arrow", lambda table: table)
    monkeypatch.setattr(ray.train, "get_context", lambda: rank)
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: None)
    monkeypatch.setattr(ray.train, "report", lambda *_, **__: None)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(ray.train.torch, "prepare_model", lambda model: model)
    monkeypatch.setattr("linkner_ray.training.progress.INTERVAL_S", 0.0)
    job._fit(plan_training(changed(config, training={"epochs": 4, "patience": 4})), "tiny")
    assert seen.done == seen.total == 12
    assert seen.note == "epoch 4 of 4"
    assert not (tmp_path / "storage" / "tiny" / "_progress.json").exists()


@pytest.mark.usefixtures("runs")
def test_a_training_that_stopped_publishes_nothing(config, tmp_path, monkeypatch):
    stopped = SimpleNamespace(return_value="step 4 of 72 has a loss of nan", checkpoint=object())
    monkeypatch.setattr(job, "_fit", lambda *_: stopped)
    with pytest.raises(StartupError, match=r"'tiny' stopped and nothing is published: step 4 of"):
        train(config)
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.usefixtures("two_cpus")
def test_a_loss_without_a_number_ends_the_training_at_once(config, tmp_path):
    training = {"head_learning_rate": 1e38, "average_decay": 0.0}
    with pytest.raises(StartupError, match=r"nothing is published: step \d of 72 .* loss of nan"):
        train(changed(config, training=training, workers={"num_workers": 2}))
    assert not (tmp_path / "checkpoint").exists()


def begin(config):
    with pytest.raises(StartupError, match="not here"):
        train(config)


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def save_other_encoder(folder):
    encoder = BertModel.from_pretrained(folder)
    with torch.no_grad():
        encoder.embeddings.word_embeddings.weight[7] += 1
    encoder.save_pretrained(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: rewrite(folder / "train.json", '"ORG"', '"LOC"'),
        lambda folder: rewrite(folder / "train.json", "Blackburn", "Brussels"),
        lambda folder: rewrite(folder / "dev.json", '"ORG"', '"LOC"'),
        lambda folder: rewrite(folder / "labels.yaml", "People.", "Persons."),
        lambda folder: save_other_encoder(folder / "encoder"),
    ],
    ids=["labels of train", "sentences of train", "dev", "label set", "encoder"],
)
def test_other_content_under_the_same_paths_is_another_run(config, tmp_path, runs, change):
    unnamed = changed(config, output={"run_name": None})
    begin(unnamed)
    begin(config)
    change(tmp_path)
    begin(unnamed)
    assert len(set(runs)) == 3
    with pytest.raises(ConfigError, match=r"run_name = tiny: .* holds a training of other content"):
        train(config)
    (tmp_path / "storage" / "tiny" / "_training.json").write_text('{"mo')
    with pytest.raises(DataError, match=r"_training.json is damaged, .*another output.run_name"):
        train(config)


def test_the_same_content_in_another_place_is_the_same_run(config, tmp_path, runs):
    unnamed = changed(config, output={"run_name": None})
    begin(unnamed)
    for name in ("train.json", "dev.json", "encoder"):
        (tmp_path / name).rename(tmp_path / f"moved-{name}")
    begin(
        changed(
            unnamed,
            corpus={name: str(tmp_path / f"moved-{name}.json") for name in ("train", "dev")},
            model={"encoder": str(tmp_path / "moved-encoder")},
            output={"checkpoint": str(tmp_path / "another")},
            workers={"num_threads": 2},
        )
    )
    assert len(runs) == 2
    assert len(set(runs)) == 1


def test_a_folder_of_an_unknown_training_is_not_gone_on_with(config, tmp_path, runs):
    (tmp_path / "storage" / "tiny").mkdir(parents=True)
    (tmp_path / "storage" / "tiny" / "checkpoint_manager_snapshot.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"holds checkpoint_manager_snapshot.json, and no _train"):
        train(config)
    assert not runs


@pytest.mark.parametrize(
    ("num_workers", "batch_size", "error", "message"),
    [
        (3, 4, ConfigError, "batch_size = 4 cannot be shared evenly"),
        (16, 16, DataError, "12 sentences for 16 workers"),
    ],
)
def test_workers_need_equal_shares_of_batches_and_corpus(
    config, num_workers, batch_size, error, message
):
    settings = {"workers": {"num_workers": num_workers}, "training": {"batch_size": batch_size}}
    with pytest.raises(error, match=message):
        plan_training(changed(config, **settings))


def test_an_encoder_that_is_not_there_is_a_wrong_config(config, tmp_path):
    with pytest.raises(ConfigError, match=r"has no config\.json .* found dev\.json"):
        plan_training(changed(config, model={"encoder": str(tmp_path)}))


def test_a_run_is_pinned_to_what_its_names_stand_for_at_the_start(
    config, tmp_path, monkeypatch, runs
):
    hub = tiny.fake_hub(tmp_path / "hub", monkeypatch)
    unnamed = changed(config, model={"encoder": "some/encoder"}, output={"run_name": None})
    assert plan_training(unnamed).config.model.encoder == "some/encoder@" + "a" * 40
    begin(unnamed)
    save_other_encoder(hub / "snapshots" / ("b" * 40))
    (hub / "refs" / "main").write_text("b" * 40)
    begin(unnamed)
    begin(changed(unnamed, model={"encoder": "some/encoder@" + "a" * 40}))
    assert runs[0] == runs[2] != runs[1]


@pytest.mark.parametrize(
    ("gpus", "cpu", "seen", "expected"),
    [
        (0.0, {"avx512_bf16": True}, None, "bfloat16"),
        (0.0, {"avx512_bf16": False}, True, "float32"),
        (1.0, {}, None, "bfloat16"),  # the GPUs are on other machines
        (1.0, {"amx_bf16": True}, False, "float32"),
    ],
)
def test_the_number_format_is_decided_once_and_told_to_all_workers(
    config, monkeypatch, gpus, cpu, seen, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: seen)
    plan = plan_training(changed(config, workers={"gpus": gpus}, training={"dtype": "auto"}))
    assert with_dtype(plan).config.training.dtype == expected
    told = plan_training(changed(config, training={"dtype": "float32"}))
    assert with_dtype(told) is told


def test_machines_of_two_number_formats_do_not_go_on_with_each_others_run(
    config, monkeypatch, runs
):
    config = changed(config, training={"dtype": "auto"})
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda x=native: {"amx_bf16": x})
        begin(changed(config, output={"run_name": None}))
        if native:
            begin(config)
    assert runs[0] != runs[2]
    with pytest.raises(ConfigError, match=r"training.dtype was 'bfloat16', is 'float32'"):
        train(config)


def test_the_state_of_a_run_is_written_and_read(tmp_path):
    state = TrainingState(reports=(REPORT, replace(REPORT, epoch=2, f1=0.7)))
    state.write(tmp_path)
    assert TrainingState.read(tmp_path) == state
    assert (state.epoch, state.stale_epochs) == (2, 1)
    assert TrainingState().stale_epochs == 0


@pytest.mark.parametrize(
    ("sentences", "batch_size", "steps"),
    [(12, 4, 3), (13, 4, 4), (BUFFER_SENTENCES + 1, 32, 513)],
)
def test_steps_of_an_epoch(sentences, batch_size, steps):
    assert steps_per_epoch(sentences, batch_size) == steps
