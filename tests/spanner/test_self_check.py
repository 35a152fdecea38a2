import json
import logging
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from linkner_ray.config import RecognizeConfig
from linkner_ray.errors import StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.spanner.checkpoint import (
    SELF_CHECK,
    SELF_CHECK_FILES,
    SELF_CHECK_TENSORS,
    local_checkpoint,
)
from linkner_ray.spanner.digests import checkpoint_digest
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.predict import Recognizer
from linkner_ray.spanner.publishing import publish_checkpoint
from linkner_ray.spanner.self_check import (
    NUM_SENTENCES,
    NUM_TOKENS,
    SelfCheck,
    choose_sentences,
    load_recognizer,
    measure_bfloat16,
    record_self_check,
    run_self_check,
)
from tests.spanner import tiny

CPU = RecognizeConfig(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def self_check():
    return measured(tiny.model(), choose_sentences(tiny.sentences(40)))


def measured(model, sentences):
    return measure_bfloat16(record_self_check(model, sentences), model)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, self_check):
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    tiny.model().save_pretrained(folder)
    self_check.write(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def load(folder, **config):
    return load_recognizer(CPU.model_copy(update={"checkpoint": str(folder), **config}))


def same(one, other):
    return (
        (one.sentences, one.classes, one.versions, one.bfloat16_distance)
        == (other.sentences, other.classes, other.versions, other.bfloat16_distance)
        and np.array_equal(one.subword_ids, other.subword_ids)
        and np.array_equal(one.subword_counts, other.subword_counts)
        and np.array_equal(one.log_probs, other.log_probs)
    )


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16"}, {"uncertainty": "mc_dropout"}])
def test_an_unchanged_checkpoint_passes_without_a_word(saved, caplog, changes):
    load(saved, **changes)
    assert not caplog.records


@pytest.mark.parametrize("loss", ["cross_entropy", "evidential"])
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_other_batches_are_no_difference(kind, loss):
    model = tiny.model(kind, loss=loss)
    self_check = record_self_check(model, tiny.sentences(8))
    run_self_check(
        Recognizer(model, CPU.model_copy(update={"batch_tokens": 64})), self_check, name="x"
    )


def test_every_span_of_the_sentences_is_stored_as_a_distribution(self_check):
    # A sentence of T tokens has min(T, 4) widths, and T - w + 1 spans of width w.
    lengths = [len(sentence) for sentence in self_check.sentences]
    assert len(self_check.log_probs) == sum(max(n - w, 0) for n in lengths for w in range(4))
    assert np.exp(self_check.log_probs).sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert self_check.classes == ("O", "PER", "ORG", "LOC")


def test_recording_writing_and_reading_are_repeatable(saved, self_check, tmp_path):
    again = measured(tiny.model(), self_check.sentences)
    assert same(again, self_check)
    again.write(tmp_path)
    for name in SELF_CHECK_FILES:
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()
    assert same(SelfCheck.read(tmp_path), self_check)


def test_sentences_are_spread_evenly_and_cut():
    corpus = [[str(index)] * 40 for index in range(2 * NUM_SENTENCES)]
    chosen = choose_sentences(corpus)
    assert [sentence[0] for sentence in chosen[:3]] == ["0", "2", "4"]
    assert len(chosen) == NUM_SENTENCES
    assert {len(sentence) for sentence in chosen} == {NUM_TOKENS}
    assert choose_sentences(corpus[:3]) == [sentence[:NUM_TOKENS] for sentence in corpus[:3]]


def test_a_corpus_without_sentences_has_a_self_check_that_says_nothing(tmp_path):
    model = tiny.model()
    record_self_check(model, choose_sentences([])).write(tmp_path)
    run_self_check(Recognizer(model, CPU), SelfCheck.read(tmp_path), name="x")


def test_the_self_check_decides_no_prediction_so_the_digest_leaves_it_out(saved, folder):
    for name in SELF_CHECK_FILES:
        (folder / name).unlink()
    assert checkpoint_digest(str(folder)) == checkpoint_digest(str(saved))


def test_a_checkpoint_without_a_self_check_passes_with_one_warning(folder, caplog):
    for name in SELF_CHECK_FILES:
        (folder / name).unlink()
    load(folder)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "has no self_check.json" in record.getMessage()


def test_a_changed_weight_is_caught_with_both_sets_of_libraries(folder):
    self_check = json.loads((folder / SELF_CHECK).read_text())
    self_check["versions"]["torch"] = "1.13.1"
    (folder / SELF_CHECK).write_text(json.dumps(self_check))
    weights = load_file(folder / "model.safetensors")
    weights["head.output.bias"][1] += 0.1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(StartupError) as caught:
        load(folder)
    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert str(folder) in message
    assert "differ by more than 0.001" in message
    assert f"torch 1.13.1 then and {torch.__version__} now" in message
    assert "delete self_check.json and self_check.safetensors" in message


def test_a_changed_calibration_is_caught(folder):
    (folder / "calibration.json").write_text('{"temperature": 1.5}')
    with pytest.raises(StartupError, match="differ by more than"):
        load(folder)


def test_a_changed_tokenizer_is_caught(folder):
    tree = json.loads((folder / "tokenizer.json").read_text())
    tree["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    with pytest.raises(StartupError, match=r"tokenizer gives other subwords for \d+ of 40"):
        load(folder)


def test_a_label_set_in_another_order_is_caught_though_its_digest_was_mended(folder):
    swapped = LabelSet(name=tiny.LABELS.name, labels=tiny.LABELS.labels[::-1])
    model = SpanNER.from_pretrained(str(folder))
    model.label_set = swapped
    model.save_pretrained(folder)
    with pytest.raises(StartupError, match="were O, PER, ORG, LOC and are O, LOC, ORG, PER"):
        load(folder)


def test_another_maximum_width_is_caught(self_check):
    recognizer = Recognizer(tiny.model(max_width=3), CPU)
    with pytest.raises(StartupError, match=f"to {len(self_check.log_probs)} spans and now"):
        run_self_check(recognizer, self_check, name="x")


def test_a_number_format_that_is_not_the_configured_one_is_caught():
    model = sensitive_model()
    self_check = record_self_check(model, tiny.sentences(40))
    recognizer = Recognizer(model, CPU)
    model.encoder.bfloat16()
    with pytest.raises(StartupError, match="encoder in float32"):
        run_self_check(recognizer, self_check, name="x")


def with_probs(self_check, row, probs):
    log_probs = self_check.log_probs.copy()
    log_probs[row] = np.log(probs)
    return replace(self_check, log_probs=log_probs)


BFLOAT16 = CPU.model_copy(update={"dtype": "bfloat16"})


def test_bfloat16_may_flip_a_near_tie_and_nothing_clearer(self_check):
    recognizer = Recognizer(tiny.model(), BFLOAT16)
    tolerance = self_check.tolerance(torch.bfloat16)
    # As bfloat16 has it, the span whose two best classes are nearest: were they exchanged in
    # float32, rounding could have done it.
    probs = recognizer.spans(self_check.sentences, floor=-1).probs
    second, first = np.partition(probs, -2, axis=1)[:, -2:].T
    row = int(np.argmin(first - second))
    best = probs[row].argsort()[-2:]
    assert first[row] - second[row] < 0.5 * tolerance
    tie = probs[row].copy()
    tie[best] = tie[best][::-1]
    run_self_check(recognizer, with_probs(self_check, row, tie), name="x")
    # Were it a clear lead there, it is another label, though no probability is off by too much.
    clear = probs[row].copy()
    clear[best] += (0.9 * tolerance, -0.9 * tolerance)
    with pytest.raises(StartupError, match=r"probabilities of 0 of .* and 1 labels changed; moved"):
        run_self_check(recognizer, with_probs(self_check, row, clear), name="x")


def sensitive_model():
    """A model that is as sure as trained ones are, and whose bfloat16 is far off."""
    model = tiny.model()
    with torch.no_grad():
        model.head.output.weight *= 20.0
    return model


def test_the_tolerance_of_bfloat16_follows_from_what_it_does_to_the_model(self_check):
    sentences = self_check.sentences
    for make, least, most in ((tiny.model, 0.0, 0.03), (sensitive_model, 0.1, 1.0)):
        found = measured(make(), sentences)
        exact = Recognizer(make(), CPU).spans(sentences, floor=-1).probs
        rounded = Recognizer(make(), BFLOAT16)
        distance = np.abs(exact - rounded.spans(sentences, floor=-1).probs).max()
        assert found.bfloat16_distance == pytest.approx(distance, abs=1e-6)
        assert least < distance < most
        run_self_check(rounded, found, name="x")


@pytest.mark.parametrize(
    ("distance", "tolerance"),
    [(None, 0.1), (0.0, 0.01), (0.031, 0.093), (0.2, 0.6), (0.5, 0.75), (1.0, 1.0)],
)
def test_bfloat16_may_be_three_times_as_far_off_but_not_anywhere(self_check, distance, tolerance):
    changed = replace(self_check, bfloat16_distance=distance)
    assert changed.tolerance(torch.bfloat16) == pytest.approx(tolerance)
    assert changed.tolerance(torch.float32) == 1e-3


def test_an_error_names_the_spans_that_moved_most_first(self_check):
    changed = self_check
    for row, probs in ((3, (0.1, 0.2, 0.3, 0.4)), (0, (0.97, 0.01, 0.01, 0.01))):
        changed = with_probs(changed, row, probs)
    before = np.exp(self_check.log_probs)
    far = {row: np.abs(np.exp(changed.log_probs[row]) - before[row]).max() for row in (0, 3)}
    tokens = self_check.sentences[0]
    widths = [tokens[start : start + width] for start in range(2) for width in range(1, 5)]
    names = {row: " ".join(widths[row]) for row in (0, 3)}
    first, second = sorted(far, key=far.get, reverse=True)
    with pytest.raises(StartupError) as caught:
        run_self_check(Recognizer(tiny.model(), CPU), changed, name="x")
    message = str(caught.value)
    assert "probabilities of 2 of" in message
    assert message.index(f"'{names[first]}' ") < message.index(f"; '{names[second]}' ")
    assert ("'" + names[0] + "' O 0.9700 then and ") in message


def test_a_model_that_gives_no_numbers_is_caught(self_check):
    model = tiny.model()
    with torch.no_grad():
        model.head.output.bias[0] = math.nan
    with pytest.raises(StartupError, match="now gives them to 0"):
        run_self_check(Recognizer(model, CPU), self_check, name="x")


@pytest.mark.parametrize("name", SELF_CHECK_FILES)
def test_half_a_self_check_is_an_error(folder, name):
    (folder / name).unlink()
    with pytest.raises(StartupError, match=f"{name} is missing, half of the self-check"):
        load(folder)


@pytest.mark.parametrize("name", SELF_CHECK_FILES)
def test_a_truncated_self_check_is_an_error(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(StartupError, match="self_check"):
        load(folder)


def test_parts_of_two_self_checks_do_not_pass_for_one(folder, tmp_path):
    record_self_check(tiny.model(), tiny.sentences(3)).write(tmp_path)
    shutil.copy(tmp_path / SELF_CHECK_TENSORS, folder / SELF_CHECK_TENSORS)
    with pytest.raises(StartupError, match="parts do not go together"):
        load(folder)


def test_a_checkpoint_with_a_scheme_brings_its_self_check(folder, caplog):
    url = f"memory://bucket/{folder.parent.name}/self_check"
    publish_checkpoint(folder, url)
    load(url)
    assert not caplog.records
    shutil.rmtree(local_checkpoint(url))
