import pytest
import torch

from linkner_ray.errors import ConfigError
from linkner_ray.spanner.features import NO_MORPHOLOGY, Featurizer
from linkner_ray.spanner.morphology import Morphology
from linkner_ray.spanner.subwords import special_ids
from tests.spanner import tiny


def featurizer(**settings):
    tokenizer = tiny.wordpiece()
    defaults = {"max_subwords": 32, "window_overlap": 8, "max_width": 3}
    return Featurizer(tokenizer, special_ids(tokenizer), **{**defaults, **settings})


def test_a_batch_of_two_sentences():
    features = featurizer()
    one, two = ["Paris", "."], ["U.S.", "President", "Obama"]
    batch = features.collate(features.windows([one, two]))
    vocabulary = features.subwords.tokenizer.get_vocab()
    assert batch.input_ids[0, 0] == vocabulary["[CLS]"]
    first_row = batch.input_ids[0].tolist()
    assert first_row[batch.last[0, 1] + 1] == vocabulary["[SEP]"]
    assert batch.attention_mask.sum(1).tolist() == [
        int(batch.last[0, 1]) + 2,
        int(batch.last[1, 2]) + 2,
    ]
    assert batch.first[:, 0].tolist() == [1, 1]
    assert batch.morphology[1].tolist() == [
        Morphology.ACRONYM,
        Morphology.TITLE,
        Morphology.TITLE,
    ]
    assert batch.subword_morphology[0, 0] == NO_MORPHOLOGY
    # spans that fit: of 2 tokens, widths 1, 1 and 2; of 3 tokens, 1+1+1, 2+2 and 3
    assert batch.span_mask.sum((1, 2)).tolist() == [3, 6]
    assert batch.span_mask[0].tolist() == [[True, True, False], [True, False, False], [False] * 3]


def test_a_sentence_without_tokens_has_no_window():
    features = featurizer()
    assert [window.sentence for window in features.windows([[], ["Paris"], []])] == [1]


def test_an_overlap_as_large_as_the_window_is_refused():
    with pytest.raises(ConfigError, match="window_overlap = 30 leaves nothing new"):
        featurizer(window_overlap=30)


def test_a_batch_moves_as_a_whole():
    batch = featurizer().collate(featurizer().windows([["Paris"]]))
    assert batch.to(torch.device("meta")).span_mask.is_meta
