import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.config import TrainingConfig
from linkner_ray.spanner.fitting import (
    Example,
    WeightAverage,
    length_grouped_batches,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    schedule,
    span_loss,
    training_batch,
)
from linkner_ray.spanner.model import SpanNER
from tests.spanner import tiny


@given(st.lists(st.integers(1, 40), max_size=200), st.integers(1, 7), st.integers(0, 5))
def test_batches_hold_every_item_once_in_as_few_as_can_be(lengths, size, seed):
    batches = length_grouped_batches(lengths, size, generator=np.random.default_rng(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == math.ceil(len(lengths) / size)
    again = length_grouped_batches(lengths, size, generator=np.random.default_rng(seed))
    assert batches == again


def test_batches_are_of_like_length_and_in_mixed_order():
    lengths = list(range(1, 41)) * 5
    batches = length_grouped_batches(lengths, 10, generator=np.random.default_rng(0))
    spread = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches]
    assert max(spread) <= 3
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest != sorted(longest, reverse=True)


def test_gold_classes_of_windows_and_of_spans_too_wide():
    model = tiny.model(max_width=2, max_subwords=16, window_overlap=4)
    tokens = ["Paris", "and", "London"] * 8
    spans = [(0, 1, 3), (21, 23, 2), (3, 8, 1)]  # the last is five wide: no place for it
    batch, gold = training_batch(model, [Example(tokens=tokens, spans=spans)])
    assert len(gold) > 1
    answered = gold[batch.span_mask]
    assert sorted(answered[answered > 0].tolist()) == [2, 3]


@pytest.mark.parametrize("loss", ["cross_entropy", "evidential"])
def test_a_few_steps_learn_a_sentence_by_heart(loss):
    model = tiny.model(loss=loss)
    config = TrainingConfig(loss=loss, encoder_learning_rate=1e-3, head_learning_rate=1e-2)
    example = Example(tokens=tiny.LINES[1].split(), spans=[(0, 2, 1), (6, 7, 3)])
    optimizer = make_optimizer(model, config)
    losses = []
    for _ in range(25):
        batch, gold = training_batch(model, [example])
        losses.append(span_loss(model(batch), gold, batch.span_mask, config=config, epoch=0))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("loss", ["cross_entropy", "evidential"])
@pytest.mark.parametrize(
    "spans",
    [
        [],  # non-entities alone
        [(t, t + w, 1) for w in (1, 2, 3, 4) for t in range(10 - w)],  # entities alone
        [(0, 1, 3)],  # one of a hundred
        [(0, 2, 1), (2, 3, 2), (3, 4, 3), (5, 9, 2)],
    ],
    ids=["none", "all", "one", "mixed"],
)
def test_any_mix_of_labels_trains_without_nan(loss, spans):
    model = tiny.model(loss=loss)
    config = TrainingConfig(
        loss=loss, encoder_learning_rate=0.05, head_learning_rate=0.5, non_entity_weight=1e-6
    )
    example = Example(tokens=tiny.LINES[1].split()[:9], spans=spans)
    optimizer = make_optimizer(model, config)
    for step in range(8):
        batch, gold = training_batch(model, [example])
        value = span_loss(model(batch), gold, batch.span_mask, config=config, epoch=step)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        assert torch.isfinite(value)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_encoder_and_head_have_their_own_learning_rates():
    config = TrainingConfig(encoder_learning_rate=1e-4, head_learning_rate=1e-2, weight_decay=0.1)
    optimizer = make_optimizer(tiny.model(), config)
    rates = {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert rates == {(1e-4, 0.1), (1e-4, 0.0), (1e-2, 0.1), (1e-2, 0.0)}


def test_learning_rates_rise_to_the_peak_and_fall_to_zero():
    # two steps up, eight down
    expected = [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0.0]
    assert [schedule(step, 10, warmup_share=0.2) for step in range(11)] == pytest.approx(expected)


def test_the_average_follows_the_weights_and_forgets_the_first():
    model = tiny.model()
    average = WeightAverage(model, decay=0.999)
    bias = model.head.output.bias
    with torch.no_grad():
        bias.fill_(0.0)
    average.model.head.output.bias.fill_(0.0)
    expected = 0.0
    for step in range(1, 41):
        with torch.no_grad():
            bias.fill_(float(step))
        average.update(step)
        if step % 4 == 0:
            # Four steps' decay of (1 + n) / (10 + n), which stays below 0.999 for long.
            kept = ((1 + step) / (10 + step)) ** 4
            expected = kept * expected + (1 - kept) * step
    averaged = average.model.head.output.bias
    torch.testing.assert_close(averaged, torch.full_like(averaged, expected))
    assert 30 < expected < 40
    assert not averaged.requires_grad
    assert bias.requires_grad


def test_without_decay_the_trained_model_is_the_average():
    model = tiny.model()
    average = WeightAverage(model, decay=0.0)
    average.update(4)
    assert average.model is model
    assert model.head.output.bias.requires_grad


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_an_average_goes_on_from_what_was_saved(family, tmp_path):
    model = tiny.model(family)
    model.save_pretrained(tmp_path)
    saved = SpanNER.from_pretrained(str(tmp_path))
    with torch.no_grad():
        saved.head.output.bias.fill_(7.0)
    average = WeightAverage(model, decay=0.5, averaged=saved)
    assert average.model is saved
    average.update(4)
    # The decay of step 4 is 5 / 14, less than 0.5.
    expected = 7.0 * (5 / 14) ** 4 + model.head.output.bias.detach() * (1 - (5 / 14) ** 4)
    torch.testing.assert_close(average.model.head.output.bias, expected)
    for name, weights in model.encoder.named_parameters():  # the average of equal weights
        torch.testing.assert_close(average.model.encoder.get_parameter(name), weights)


def test_an_optimizer_restored_from_tensors_takes_the_same_step():
    def step(model, optimizer):
        torch.manual_seed(5)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape)
        optimizer.step()

    model, twin = tiny.model(), tiny.model()
    optimizer = make_optimizer(model, TrainingConfig())
    step(model, optimizer)
    twin.load_state_dict(model.state_dict())
    restored = make_optimizer(twin, TrainingConfig())
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
    load_optimizer_tensors(restored, saved)
    step(model, optimizer)
    step(twin, restored)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)
