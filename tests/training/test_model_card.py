from linkner_ray.config import CorpusConfig, TrainConfig, TrainOutputConfig
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.training.model_card import model_card
from tests.spanner import tiny

CONFIG = TrainConfig(
    corpus=CorpusConfig(train="train.conll", dev="dev.conll", label_set="tiny"),
    output=TrainOutputConfig(checkpoint="out", storage="storage"),
)
BEST = {"epoch": 2, "f1": 0.91234, "precision": 0.9, "recall": 0.925}


def card(calibration):
    return model_card(
        CONFIG, tiny.LABELS, calibration=calibration, best=BEST, counters={"steps": 1200}
    )


def test_a_card_keeps_no_secret_of_an_address():
    secret = CONFIG.corpus.model_copy(update={"train": "https://me:word@host/train.conll"})
    config = CONFIG.model_copy(update={"corpus": secret})
    text = model_card(config, tiny.LABELS, calibration=Calibration(), best=BEST, counters={})
    assert "| train | `https://***@host/train.conll` |" in text


def test_a_card_names_data_scores_and_limits():
    text = card(Calibration(temperature=1.25, num_spans=99, ece_before=0.03, ece_after=0.01))
    assert "`train.conll`" in text
    assert "F1 0.9123" in text
    assert "| steps | 1,200 |" in text
    assert "at most 10 tokens" in text
    assert "Temperature 1.250" in text
    assert "- `LOC` location: Places." in text


def test_a_card_says_so_where_nothing_was_calibrated():
    assert "not calibrated" in card(Calibration())


def test_a_card_gives_reliability_and_candidate_recall():
    calibration = Calibration(
        temperature=1.25, num_spans=99, ece_before=0.03, ece_after=0.01, ece_held_out=0.0123,
        brier=0.0456, near_miss_floor=0.02, max_near_misses=2, certain_confidence=0.99,
        candidate_recall=0.987, extra_share=0.25,
    )  # fmt: skip
    text = card(calibration)
    for part in ("0.0123 for each half", "Brier score 0.0456", "0.02 or more", "0.9870", "0.250"):
        assert part in text
