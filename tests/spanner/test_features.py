import numpy as np
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
    assert features.windows([[], ["Paris"], []]).sentence.tolist() == [1]


def test_a_long_sentence_among_others_is_cut_and_its_windows_answer_for_their_own_spans():
    # 14 subwords a window, so three windows of 14, 14 and 8 tokens share four at each border.
    features = featurizer(max_subwords=16, window_overlap=4)
    long = ["Paris", "and"] * 14
    windows = features.windows([["London"], long, ["Berlin", "."]])
    assert windows.sentence.tolist() == [0, 1, 1, 1, 2]
    assert windows.start_token.tolist() == [0, 0, 10, 20, 0]
    assert windows.num_tokens.tolist() == [1, 14, 14, 8, 2]
    assert windows.lengths.tolist() == [3, 16, 16, 10, 4]
    batch = features.collate(windows, np.array([2, 4, 3]))
    assert batch.input_ids[0, 1:-1].tolist() == features.subwords(long).ids[:14].tolist()
    assert batch.morphology[0].tolist() == [Morphology.TITLE, Morphology.LOWER] * 7
    # The middle window answers for single tokens from the middle of each overlap on.
    assert batch.span_mask[0, :, 0].nonzero().flatten().tolist() == list(range(2, 12))
    assert batch.span_mask[1].sum() == 3


def test_an_overlap_as_large_as_the_window_is_refused():
    with pytest.raises(ConfigError, match="window_overlap = 30 leaves nothing new"):
        featurizer(window_overlap=30)


def test_a_batch_moves_as_a_whole():
    batch = featurizer().collate(featurizer().windows([["Paris"]]))
    assert batch.to(torch.device("meta")).span_mask.is_meta
