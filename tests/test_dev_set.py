import numpy as np
import pytest

from linkner_ray.config import RecognizeConfig
from linkner_ray.corpora.labelled import LabelledSentence, LabelledSpan
from linkner_ray.dev_set import calibrate_checkpoint, familiarity_of, join, look_at
from linkner_ray.errors import ConfigError, DataError
from linkner_ray.spanner.belief import Belief
from linkner_ray.spanner.calibration import Calibration
from linkner_ray.spanner.canary import load_recognizer
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.predict import Recognizer
from tests.spanner import tiny

CORPUS = (
    "Peter B-PER\nBlackburn I-PER\nmet O\nMicrosoft B-ORG\n. O\n\n"
    "Paris B-LOC\n, O\nLondon B-LOC\nand O\nNew B-LOC\nYork I-LOC\n. O\n\n"
)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "dev.conll"
    path.write_text(CORPUS)
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
    counts, found = calibrate_checkpoint(str(checkpoint), corpus, train=corpus)
    model = SpanNER.from_pretrained(str(checkpoint))
    assert model.calibration == found
    assert found.num_spans > 0
    assert counts.support == 5
    assert (checkpoint / "model.safetensors").read_bytes() == weights
    card = (checkpoint / "README.md").read_text()
    assert "Old words" not in card
    assert f"Temperature {found.temperature:.3f}" in card
    assert card.endswith("## Limits\n\nx\n")
    load_recognizer(RecognizeConfig(checkpoint=str(checkpoint)))  # its canary is of now


def test_familiarity_is_kept_without_the_training_set(checkpoint, corpus):
    calibrate_checkpoint(str(checkpoint), corpus, train=corpus)
    calibrate_checkpoint(str(checkpoint), corpus)
    known = SpanNER.from_pretrained(str(checkpoint)).familiarity
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


def test_a_belief_moves_predicted_candidates_and_chooses_none():
    model = tiny.model()
    sentences = tiny.sentences(20)
    plain = Recognizer(model, RecognizeConfig(device="cpu")).candidates(sentences)
    model.calibration = Calibration(
        belief=Belief(
            intercept=0.0, slope=1.0, strangeness=(-3.0, 0.0, 0.0), labels=(0.0, 0.0, 0.0)
        )
    )
    model.familiarity = familiarity_of([labelled(["Paris"], (0, 1, "LOC"))])
    believed = Recognizer(model, RecognizeConfig(device="cpu")).candidates(sentences)
    for name in ("sentence", "start_token", "end_token"):
        assert np.array_equal(getattr(plain.spans, name), getattr(believed.spans, name))
    assert np.array_equal(plain.predicted, believed.predicted)
    assert np.array_equal(plain.spans.label, believed.spans.label)
    doubted = ~plain.predicted
    assert np.array_equal(plain.spans.probs[doubted], believed.spans.probs[doubted])
    strange = np.flatnonzero(plain.predicted)
    assert (believed.spans.uncertainty[strange] >= plain.spans.uncertainty[strange] - 1e-6).all()
    assert (believed.spans.uncertainty[strange] > plain.spans.uncertainty[strange]).any()
    own = believed.spans.probs[strange, believed.spans.label[strange]]
    assert own == pytest.approx(1 - believed.spans.uncertainty[strange], abs=1e-6)


@pytest.mark.parametrize("uncertainty", ["entropy", "margin", "energy", "mc_dropout"])
def test_estimates_that_read_probabilities_read_the_believed_ones(uncertainty):
    model = tiny.model()
    config = RecognizeConfig(device="cpu", uncertainty=uncertainty)
    plain = Recognizer(model, config).candidates(tiny.sentences(20))
    model.calibration = Calibration(
        belief=Belief(intercept=-2.0, slope=1.0, strangeness=(0.0, 0.0, 0.0), labels=(0.0,) * 3)
    )
    model.familiarity = familiarity_of([labelled(["Paris"], (0, 1, "LOC"))])
    believed = Recognizer(model, config).candidates(tiny.sentences(20))
    moved = not np.array_equal(plain.spans.uncertainty, believed.spans.uncertainty)
    assert moved == (uncertainty in ("entropy", "margin"))
