import pytest
import torch

from linkner_ray.config import ModelConfig
from linkner_ray.errors import ConfigError
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.model import SpanNER
from tests.spanner import tiny


def batch_of(model, count=6):
    return model.featurizer.collate(model.featurizer.windows(tiny.sentences(count)))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_saved_model_comes_back_the_same(kind, tmp_path):
    model = tiny.model(kind)
    model.calibration = Calibration(temperature=1.5, num_spans=9, ece_before=0.2, ece_after=0.1)
    model.save_pretrained(tmp_path)
    loaded = SpanNER.from_pretrained(str(tmp_path))
    assert not loaded.training
    assert (loaded.config, loaded.label_set) == (model.config, model.label_set)
    assert (loaded.calibration, loaded.loss) == (model.calibration, model.loss)
    batch = batch_of(model)
    for name, tensor in vars_of(batch_of(loaded)).items():
        assert torch.equal(tensor, getattr(batch, name))
    with torch.no_grad():
        torch.testing.assert_close(loaded(batch), model(batch), rtol=0, atol=0)


def vars_of(batch):
    return {name: getattr(batch, name) for name in type(batch).__slots__}


def test_an_uncased_encoder_tells_case_apart_only_with_morphology():
    cased, lowered = [["Paris", "met", "Obama"]], [["paris", "met", "obama"]]

    def logits(model, sentences):
        with torch.no_grad():
            return model(model.featurizer.collate(model.featurizer.windows(sentences)))

    seeing, blind = tiny.model(), tiny.model(use_morphology=False)
    assert not torch.allclose(logits(seeing, cased), logits(seeing, lowered))
    assert torch.equal(logits(blind, cased), logits(blind, lowered))


def test_a_new_model_adds_nothing_to_the_encoder_input(tmp_path):
    config = ModelConfig(encoder=tiny.save_bert(tmp_path), max_subwords=64, window_overlap=8)
    model = SpanNER.from_encoder(config, tiny.LABELS).eval()
    plain = SpanNER.from_encoder(config.model_copy(update={"use_morphology": False}), tiny.LABELS)
    plain.head = model.head
    batch = batch_of(model)
    with torch.no_grad():
        torch.testing.assert_close(model(batch), plain.eval()(batch))


def test_windows_longer_than_the_encoder_reads_are_refused():
    with pytest.raises(ConfigError, match=r"reads at most 256; set model\.max_subwords=256"):
        tiny.model("bert", max_subwords=257)
    # A RoBERTa of 258 positions keeps two of them for padding.
    with pytest.raises(ConfigError, match="reads at most 256"):
        tiny.model("roberta", max_subwords=257)
    tiny.model("roberta", max_subwords=256)


def test_probabilities_of_a_cross_entropy_model_are_a_tempered_softmax():
    model = tiny.model()
    model.calibration = Calibration(temperature=2.0)
    logits = torch.tensor([2.0, 0.0, 4.0, -2.0])
    torch.testing.assert_close(model.log_probs(logits).exp(), (logits / 2).softmax(-1))
