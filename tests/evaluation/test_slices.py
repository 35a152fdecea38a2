"""Parts of a set by hand; each way of cutting accounts for every entity."""

import pyarrow as pa

from linkner_ray.corpora.labelled import LabelledSentence
from linkner_ray.corpora.scores import Counts, score_entities
from linkner_ray.evaluation.slices import (
    SentenceTokens,
    by_length,
    by_novelty,
    by_source,
    confusion,
)
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.spanner.calibration.novelty import NoveltyFeatures

SENTENCES = (
    LabelledSentence(("Ada", "met", "the", "Bank", "of", "New", "York", "City", ".")),
    LabelledSentence(("Paris", "ADA")),
)
#          Ada 0-3, Bank .. City 12-33                              Paris 0-5, ADA 6-9
GOLD = [[(0, 3, "PER"), (12, 33, "ORG")], [(0, 5, "LOC"), (6, 9, "PER")]]
FOUND = [[(0, 3, "PER"), (20, 33, "LOC")], [(0, 5, "PER"), (6, 9, "PER")]]


def total(slices):
    counts = slices.values()
    return Counts(
        true_positives=sum(one.true_positives for one in counts),
        false_positives=sum(one.false_positives for one in counts),
        false_negatives=sum(one.false_negatives for one in counts),
    )


def test_by_length():
    found = by_length(GOLD, FOUND, SentenceTokens(SENTENCES))
    assert list(found) == ["1", "2", "3", "4", "5+"]
    assert found["1"] == Counts(true_positives=2, false_positives=1, false_negatives=1)
    assert found["3"] == Counts(false_positives=1)
    assert found["5+"] == Counts(false_negatives=1)
    assert total(found) == score_entities(GOLD, FOUND).micro


def test_by_what_training_held():
    trained = NoveltyFeatures.of([(("Ada", "in", "Paris"), [(0, 1, "PER"), (2, 3, "LOC")])])
    found = by_novelty(GOLD, FOUND, SentenceTokens(SENTENCES), trained)
    assert found["seen"] == Counts(true_positives=2, false_negatives=1)
    assert found["other label"] == Counts(false_positives=1)  # Paris as PER
    assert found["unseen"] == Counts(false_positives=1, false_negatives=1)
    assert total(found) == score_entities(GOLD, FOUND).micro


def test_by_source():
    def entity(start, end, label, source):
        return {"start": start, "end": end, "label": label, "source": source}

    rows = [
        [entity(0, 3, "PER", "local"), entity(20, 33, "LOC", "llm")],
        [entity(0, 5, "LOC", "cache"), entity(6, 9, "PER", "llm")],
    ]
    found = by_source(pa.chunked_array([pa.array(rows, STAGE_COLUMNS["entities"])]), GOLD)
    assert {name: (one.num_entities, one.num_right) for name, one in found.items()} == {
        "cache": (1, 1),
        "llm": (2, 1),
        "local": (1, 1),
    }
    assert found["llm"].precision == 0.5


def test_confusion():
    found = confusion(GOLD, FOUND, "O")
    assert found == {
        ("PER", "PER"): 2,
        ("ORG", "O"): 1,
        ("O", "LOC"): 1,
        ("LOC", "PER"): 1,
    }
