import json

import numpy as np
import pytest

from linkner_ray.cli import main
from linkner_ray.config import RecognizeConfig
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.labelled import LabelledSentence, LabelledSpan
from linkner_ray.errors import ConfigError, DataError, StartupError
from linkner_ray.spanner.calibration.recalibration import Recalibration
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.calibration.thresholds import THRESHOLDS, Thresholds
from linkner_ray.spanner.digests import checkpoint_digest
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.predict import Recognizer
from linkner_ray.spanner.self_check import SelfCheck, load_recognizer
from linkner_ray.training.calibrate import calibrate_checkpoint
from linkner_ray.training.dev_set import join, look_at, novelty_of
from tests.spanner import tiny

CORPUS = (
    "Peter B-PER\nBlackburn I-PER\nmet O\nMicrosoft B-ORG\n. O\n\n"
    "Paris B-LOC\n, O\nLondon B-LOC\nand O\nNew B-LOC\nYork I-LOC\n. O\n\n"
)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "dev.conll"
    path.write_text(CORPUS * 40)
    return str(path)


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    tiny.model().save_pretrained(folder)
    (folder / "README.md").write_text("# Card\n\n## Calibration\n\nOld words.\n\n## Limits\n\nx\n")
    return folder


def labelled(tokens, *spans):
    return LabelledSentence(tuple(tokens), tuple(LabelledSpan(*span) for span in spans))


def test_a_checkpoint_is_calibrated_in_place(checkpoint, corpus):
    weights = (checkpoint / "model.safetensors").read_bytes()
    calibrated = calibrate_checkpoint(str(checkpoint), corpus, train=corpus)
    found = calibrated.calibration
    model = SpanNER.from_pretrained(str(checkpoint))
    assert model.calibration == found
    assert found.num_spans > 0
    assert f"F1 on this set is {calibrated.counts.f1:.4f} before" in calibrated.describe()
    assert calibrated.counts.support == 5 * 40
    kept = Thresholds.read(checkpoint)
    assert kept == calibrated.thresholds
    assert kept.num_predicted >= 100
    assert set(kept.estimates) == {"confidence", "entropy", "mc_dropout"}
    assert (checkpoint / "model.safetensors").read_bytes() == weights
    card = (checkpoint / "README.md").read_text()
    assert "Old words" not in card
    assert f"Temperature {found.temperature:.3f}" in card
    assert card.endswith("## Limits\n\nx\n")
    load_recognizer(RecognizeConfig(checkpoint=str(checkpoint)))  # its self-check is of now
    assert SelfCheck.read(checkpoint).bfloat16_distance > 0


def test_thresholds_ask_the_share_of_dev_that_they_name(checkpoint, corpus):
    thresholds = calibrate_checkpoint(str(checkpoint), corpus, train=corpus).thresholds
    model = SpanNER.from_pretrained(str(checkpoint))
    tokens = [one.tokens for one in read_corpus(corpus, label_set=model.label_set).sentences]
    for name, found in thresholds.estimates.items():
        config = RecognizeConfig(uncertainty=name, device="cpu", dtype="float32")
        uncertainty = Recognizer(model, config).candidates(tokens).spans.uncertainty
        # The corpus repeats two sentences, so uncertainties come in large groups of equals.
        for percent, threshold in found.asked.items():
            at_least = (uncertainty >= np.float32(threshold) - 1e-6).mean()
            above = (uncertainty > np.float32(threshold) + 1e-6).mean()
            assert above <= percent / 100 <= at_least + 1e-9, (name, percent)


@pytest.mark.parametrize(
    ("settings", "last"),
    [({}, "mc_dropout"), ({"loss": "evidential", "dropout": 0.0}, "evidential")],
)
def test_every_estimate_is_that_of_its_own_run_from_one_pass(settings, last):
    model = tiny.model(**settings)
    sentences = [["Peter", "Blackburn", "met", "Microsoft", "."], ["in", "New", "York"]]
    model.novelty = novelty_of([labelled(["Peter"], (0, 1, "PER"))])
    model.calibration = Calibration(
        recalibration=Recalibration(
            intercept=-1.0, slope=0.5, strangeness=(0.5, 0.2, 0.1), labels=(0.0,) * 3
        )
    )
    config = RecognizeConfig(device="cpu", dtype="float32")
    passes = []
    with model.encoder.register_forward_hook(lambda *_: passes.append(1)):
        found = Recognizer(model, config).candidates_by_estimate(sentences)
    assert len(passes) == 1  # both sentences fit into a batch
    assert set(found) == {"confidence", "entropy", last}
    for name, table in found.items():
        own = Recognizer(model, config.model_copy(update={"uncertainty": name}))
        expected = own.candidates(sentences)
        np.testing.assert_array_equal(table.predicted, expected.predicted)
        np.testing.assert_array_equal(table.spans.probs, expected.spans.probs)
        np.testing.assert_array_equal(
            table.spans.uncertainty, expected.spans.uncertainty, err_msg=name
        )


def test_thresholds_are_advice_and_no_part_of_the_checkpoints_name(checkpoint, corpus):
    calibrate_checkpoint(str(checkpoint), corpus, train=corpus)
    named = checkpoint_digest(str(checkpoint))
    (checkpoint / THRESHOLDS).unlink()
    assert checkpoint_digest(str(checkpoint)) == named


def test_the_command_says_what_changed(checkpoint, corpus, tmp_path, capsys):
    numbers = tmp_path / "numbers.json"
    command = ["calibrate", str(checkpoint), corpus, "--train", corpus, "--json", str(numbers)]
    assert main(command) == 0
    told = capsys.readouterr().out
    kept = Thresholds.read(checkpoint).estimates["confidence"]
    temperature = SpanNER.from_pretrained(str(checkpoint)).calibration.temperature
    assert f"| temperature | 1 | {temperature:.4g} |" in told
    assert f"asked=5% {kept.asked[5]:.3f}" in told
    assert json.loads(numbers.read_text())["calibration"]["temperature"] == temperature


def test_too_small_a_set_is_refused(checkpoint, tmp_path):
    (tmp_path / "small.conll").write_text(CORPUS)
    before = (checkpoint / "calibration.json").read_bytes()
    with pytest.raises(DataError, match="at least 100 predicted entities"):
        calibrate_checkpoint(str(checkpoint), str(tmp_path / "small.conll"))
    assert (checkpoint / "calibration.json").read_bytes() == before


def test_novelty_is_kept_without_the_training_set(checkpoint, corpus):
    calibrate_checkpoint(str(checkpoint), corpus, train=corpus)
    calibrate_checkpoint(str(checkpoint), corpus)
    known = SpanNER.from_pretrained(str(checkpoint)).novelty
    assert known.features([["Paris"], ["Xu"]], ["LOC", "LOC"])[:, 0].tolist() == [0, 1]


def test_what_is_not_there_or_not_labelled_so_is_named(checkpoint, corpus, tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        calibrate_checkpoint(str(tmp_path / "nothing"), corpus)
    (tmp_path / "other.conll").write_text("Paris B-CITY\n\n")
    with pytest.raises(DataError, match="CITY"):
        calibrate_checkpoint(str(checkpoint), str(tmp_path / "other.conll"))


def test_shares_together_are_the_whole():
    model = tiny.model()
    sentences = [
        labelled(["Peter", "met", "Paris"], (0, 1, "PER"), (2, 3, "LOC")),
        labelled(["nothing", "here"]),
        labelled(["New", "York", "."], (0, 2, "LOC")),
    ]
    tokens = [one.tokens for one in sentences]
    counts, whole = join([look_at(model, sentences)], tokens)
    parts = [look_at(model, sentences[:1]), look_at(model, sentences[1:])]
    other_counts, joined = join(parts, tokens)
    assert counts == other_counts
    assert joined.num_gold == whole.num_gold == 3
    for name in ("sentence", "start_token", "end_token"):
        assert np.array_equal(getattr(joined.spans, name), getattr(whole.spans, name))
    assert np.array_equal(joined.gold, whole.gold)
    assert (whole.gold > 0).sum() <= 3


def test_a_model_without_a_number_for_a_sentence_is_not_scored_on_the_others():
    broken = tiny.without_a_number("Obama")
    sentences = [labelled(["Paris"]), labelled(["Obama", "met"], (0, 1, "PER"))]
    assert look_at(broken, sentences[:1]).num_sentences == 1
    with pytest.raises(StartupError, match=r"NaN or an infinity for 1 of 2 .* such as 'Obama met'"):
        look_at(broken, sentences)


def test_a_recalibration_moves_predicted_candidates_and_chooses_none():
    model = tiny.model()
    sentences = tiny.sentences(20)
    plain = Recognizer(model, RecognizeConfig(device="cpu")).candidates(sentences)
    model.calibration = Calibration(
        recalibration=Recalibration(
            intercept=0.0, slope=1.0, strangeness=(-3.0, 0.0, 0.0), labels=(0.0, 0.0, 0.0)
        )
    )
    model.novelty = novelty_of([labelled(["Paris"], (0, 1, "LOC"))])
    recalibrated = Recognizer(model, RecognizeConfig(device="cpu")).candidates(sentences)
    for name in ("sentence", "start_token", "end_token"):
        assert np.array_equal(getattr(plain.spans, name), getattr(recalibrated.spans, name))
    assert np.array_equal(plain.predicted, recalibrated.predicted)
    assert np.array_equal(plain.spans.label, recalibrated.spans.label)
    near_misses = ~plain.predicted
    assert np.array_equal(plain.spans.probs[near_misses], recalibrated.spans.probs[near_misses])
    strange = np.flatnonzero(plain.predicted)
    assert (
        recalibrated.spans.uncertainty[strange] >= plain.spans.uncertainty[strange] - 1e-6
    ).all()
    assert (recalibrated.spans.uncertainty[strange] > plain.spans.uncertainty[strange]).any()
    own = recalibrated.spans.probs[strange, recalibrated.spans.label[strange]]
    assert own == pytest.approx(1 - recalibrated.spans.uncertainty[strange], abs=1e-6)


@pytest.mark.parametrize("uncertainty", ["entropy", "mc_dropout"])
def test_estimates_that_read_probabilities_read_the_recalibrated_ones(uncertainty):
    model = tiny.model()
    config = RecognizeConfig(device="cpu", uncertainty=uncertainty)
    plain = Recognizer(model, config).candidates(tiny.sentences(20))
    model.calibration = Calibration(
        recalibration=Recalibration(
            intercept=-2.0, slope=1.0, strangeness=(0.0, 0.0, 0.0), labels=(0.0,) * 3
        )
    )
    model.novelty = novelty_of([labelled(["Paris"], (0, 1, "LOC"))])
    recalibrated = Recognizer(model, config).candidates(tiny.sentences(20))
    moved = not np.array_equal(plain.spans.uncertainty, recalibrated.spans.uncertainty)
    assert moved == (uncertainty == "entropy")
