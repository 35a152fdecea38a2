"""The loop of one rank, without Ray."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from linkner_ray.config import CorpusConfig, TrainConfig, TrainingConfig, TrainOutputConfig
from linkner_ray.corpora.labelled import LabelledSentence, LabelledSpan
from linkner_ray.corpora.tables import corpus_table
from linkner_ray.spanner.fitting import WeightAverage, make_optimizer
from linkner_ray.training import steps, worker
from linkner_ray.training.reports import TrainingState
from tests.spanner import tiny

pytest.importorskip("ray")

SENTENCES = [
    LabelledSentence(tuple(tiny.LINES[1].split()), (LabelledSpan(0, 2, "PER"),)),
    LabelledSentence(tuple(tiny.LINES[2].split()), (LabelledSpan(0, 1, "LOC"),)),
] * 6


@pytest.fixture
def run(monkeypatch):
    """One rank of one: three steps of four sentences in each of two epochs."""
    shard = SimpleNamespace(iter_batches=lambda **_: [corpus_table(SENTENCES)])
    monkeypatch.setattr(steps.ray.train, "get_dataset_shard", lambda _: shard)

    def make(**training):
        training = TrainingConfig(batch_size=4, epochs=2, dtype="float32", **training)
        model = tiny.model()
        return steps.Run(
            config=TrainConfig(
                corpus=CorpusConfig(train="train", dev="dev", label_set="tiny"),
                training=training,
                output=TrainOutputConfig(checkpoint="checkpoint", storage="storage"),
            ),
            label_set=tiny.LABELS, dev=[], dev_tokens=[], self_check=[], model=model,
            average=WeightAverage(model, decay=0.0), parallel=model,
            optimizer=make_optimizer(model, training), rank=0, world=1, steps_per_epoch=3,
            uses_bfloat16=False, tell=lambda *_: None,
        )  # fmt: skip

    return make


def test_an_epoch_whose_numbers_are_numbers_goes_through(run):
    run = run()
    first, second = (steps.train_epoch(run, epoch)[0] for epoch in range(2))
    assert 0 < second < first


def poison(model):
    with torch.no_grad():
        model.head.output.bias[1] = torch.nan


@pytest.mark.parametrize(
    ("epoch", "training", "spoil", "message"),
    [
        # Of six steps none warms up: the rates of the fourth are half of their peaks.
        (1, {"warmup_share": 0.0}, poison, r"step 4 of 6 \(epoch 2\) has a loss of nan and .* norm "
         r"nan, at learning rates of 5e-05 \(encoder\) and 0.0005 \(head\), in float32; lower"),
        (0, {"head_learning_rate": 1e38}, lambda _: None, r"step 2 of 6 \(epoch 1\) has a loss of"),
    ],
    ids=["weights", "learning rate"],
)  # fmt: skip
def test_a_step_without_numbers_stops_training_and_reports_nothing(
    run, monkeypatch, epoch, training, spoil, message
):
    run = run(**training)
    spoil(run.model)
    state = TrainingState(reports=(SimpleNamespace(f1=0.5),) * epoch)
    monkeypatch.setattr(worker, "_start", lambda _: (run, state))
    monkeypatch.setattr(worker, "_report", lambda *_: pytest.fail("an epoch was reported"))
    assert re.match(message, worker.train_worker({}))


def test_what_one_rank_finds_stops_all(run, monkeypatch):
    fine = [torch.tensor([0.5, 1.0])] * 3
    assert steps._read_losses(run(), fine, 0) == [0.5] * 3
    monkeypatch.setattr(steps, "gather", lambda _, own: [own, [(2, float("inf"), 1.0)]])
    with pytest.raises(steps.NotFiniteError, match=r"step 3 of 6 .* loss of inf and .* norm 1,"):
        steps._read_losses(replace(run(), world=2), fine, 0)
