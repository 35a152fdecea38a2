"""A labelled set as a model sees it: its scores, and what it decides about the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from linkner_ray.config import RecognizeConfig
from linkner_ray.corpora.labelled import LabelledSentence
from linkner_ray.corpora.scores import Counts, score_entities
from linkner_ray.errors import StartupError
from linkner_ray.spanner.calibration.dev_choices import LISTED_FLOOR, Dev
from linkner_ray.spanner.calibration.novelty import NoveltyFeatures
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.calibration.thresholds import Thresholds, choose_thresholds
from linkner_ray.spanner.decoding import PREDICTED_ONLY, choose_rows
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.predict import Recognizer
from linkner_ray.spanner.span_table import SpanTable, concatenate

Sentences = Sequence[LabelledSentence]


@dataclass(frozen=True, kw_only=True)
class DevShare:
    """What a model makes of some labelled sentences, at temperature 1.

    Attributes:
        num_sentences: How many.
        num_gold: Gold entities in them.
        counts: Right and wrong predictions.
        spans: Listed from `dev_choices.LISTED_FLOOR` on.
        gold: Class of each of them by gold; 0 for none.
    """

    num_sentences: int
    num_gold: int
    counts: Counts
    spans: SpanTable
    gold: NDArray[np.int64]


def novelty_of(sentences: Sentences) -> NoveltyFeatures:
    """What a model trained on these sentences is familiar with."""
    return NoveltyFeatures.of(
        (one.tokens, [(s.start_token, s.end_token, s.label) for s in one.spans])
        for one in sentences
    )


def look_at(model: SpanNER, sentences: Sentences) -> DevShare:
    """Predict labelled sentences in float32; the model's own calibration is set to neutral.

    Raises:
        StartupError: If the model computes no number for one of them.
    """
    model.calibration = Calibration()
    recognizer = Recognizer(model, RecognizeConfig(device=model.device.type, dtype="float32"))
    tokens = [sentence.tokens for sentence in sentences]
    tables, not_finite = recognizer.spans_by_estimate(tokens, ("confidence",), floor=LISTED_FLOOR)
    if len(not_finite):
        raise StartupError(
            f"the model computes NaN or an infinity for {len(not_finite)} of {len(sentences)} "
            f"labelled sentences, such as {' '.join(tokens[not_finite[0]])[:100]!a}; its weights "
            "are of no use: train it again at lower learning rates"
        )
    spans = tables["confidence"]
    classes = model.label_set.classes
    predicted = spans.take(choose_rows(spans, PREDICTED_ONLY)[0])
    entities: list[list[tuple[int, int, str]]] = [[] for _ in sentences]
    for index, start, end, label in _rows(predicted):
        entities[index].append((start, end, classes[label]))
    gold = [{(s.start_token, s.end_token, s.label) for s in one.spans} for one in sentences]
    return DevShare(
        num_sentences=len(sentences),
        num_gold=sum(map(len, gold)),
        counts=score_entities(gold, entities).micro,
        spans=spans,
        gold=gold_of(spans, gold, classes),
    )


def join(shares: Sequence[DevShare], tokens: Sequence[Sequence[str]]) -> tuple[Counts, Dev]:
    """Put shares together, in their order; tokens are of the sentences of all of them."""
    counts = Counts(
        **{f.name: sum(getattr(one.counts, f.name) for one in shares) for f in fields(Counts)}
    )
    before = np.cumsum([0, *(share.num_sentences for share in shares[:-1])])
    spans = [
        replace(share.spans, sentence=share.spans.sentence + first)
        for share, first in zip(shares, before, strict=True)
    ]
    return counts, Dev(
        sentences=tokens,
        spans=concatenate(spans),
        gold=np.concatenate([share.gold for share in shares]),
        num_gold=sum(share.num_gold for share in shares),
    )


def thresholds_on(model: SpanNER, sentences: Sentences) -> Thresholds:
    """Thresholds that a labelled set chooses for a model that was calibrated.

    Raises:
        DataError: If the set is too small.
    """
    config = RecognizeConfig(device=model.device.type, dtype="float32")
    found = Recognizer(model, config).candidates_by_estimate([one.tokens for one in sentences])
    spans, predicted = found["confidence"].spans, found["confidence"].predicted
    gold = [{(s.start_token, s.end_token, s.label) for s in one.spans} for one in sentences]
    correct = predicted & (gold_of(spans, gold, model.label_set.classes) == spans.label)
    uncertainty: dict[str, NDArray[np.float64]] = {
        name: table.spans.uncertainty.astype(np.float64) for name, table in found.items()
    }
    return choose_thresholds(uncertainty, predicted, correct)


def _rows(spans: SpanTable) -> Iterator[tuple[int, int, int, int]]:
    """Sentence, start, end and class of each span."""
    columns = (spans.sentence, spans.start_token, spans.end_token, spans.label)
    return zip(*(column.tolist() for column in columns), strict=True)


def gold_of(
    spans: SpanTable, gold: Sequence[set[tuple[int, int, str]]], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Class of each listed span by gold; 0 where gold has no entity there."""
    index = {name: place for place, name in enumerate(classes)}
    of_place = [{(start, end): index[label] for start, end, label in one} for one in gold]
    return np.array(
        [of_place[sentence].get((start, end), 0) for sentence, start, end, _ in _rows(spans)],
        dtype=np.int64,
    )
