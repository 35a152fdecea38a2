from itertools import chain

import numpy as np
import pytest
import torch

from linkner_ray.config import RecognizeConfig
from linkner_ray.errors import ConfigError
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.estimates import least_confidence, predictive_entropy
from linkner_ray.spanner.predict import Recognizer
from linkner_ray.spanner.span_table import concatenate
from linkner_ray.spanner.tokens import TokenTable
from tests.spanner import tiny
from tests.spanner.candidates import candidates_of

SENTENCES = tiny.sentences(24)


def recognizer(model=None, **config):
    defaults = {"batch_tokens": 256, "near_miss_floor": 0.3, "device": "cpu"}
    return Recognizer(model or tiny.model(), RecognizeConfig(**{**defaults, **config}))


def plain_spans(model, sentences):
    """Probabilities of every span, one sentence at a time."""
    found = {}
    for index, tokens in enumerate(sentences):
        batch = model.featurizer.collate(model.featurizer.windows([tokens]))
        with torch.no_grad():
            probs = model.log_probs(model(batch)).exp()
        for _, start, width in batch.span_mask.nonzero().tolist():
            found[index, start, start + width + 1] = probs[0, start, width].numpy()
    return found


def assert_same(one, other, *, tolerance=1e-5):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert [(c.start_token, c.end_token, c.label, c.kind) for c in left] == [
            (c.start_token, c.end_token, c.label, c.kind) for c in right
        ]
        for a, b in zip(left, right, strict=True):
            assert a.probs == pytest.approx(b.probs, abs=tolerance)
            assert a.uncertainty == pytest.approx(b.uncertainty, abs=tolerance)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_spans_agree_with_one_sentence_at_a_time(kind):
    model = tiny.model(kind)
    expected = plain_spans(model, SENTENCES)
    table = recognizer(model).spans(SENTENCES, floor=0.0)
    keys = list(zip(table.sentence, table.start_token, table.end_token, strict=True))
    assert keys == sorted(expected)
    assert np.abs(table.probs - np.stack([expected[key] for key in keys])).max() < 1e-5


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize(
    "estimate",
    [
        {"uncertainty": "confidence"},
        {"uncertainty": "entropy"},
        {"uncertainty": "mc_dropout"},
        {"uncertainty": "mc_dropout", "dropout_scope": "encoder"},
    ],
    ids=lambda estimate: "-".join(estimate.values()),
)
def test_prediction_does_not_depend_on_what_is_batched_together(kind, estimate):
    model = tiny.model(kind)
    whole = candidates_of(recognizer(model, **estimate), SENTENCES)
    assert sum(map(len, whole)) > 20
    split = [candidates_of(recognizer(model, **estimate), [one])[0] for one in SENTENCES]
    order = np.random.default_rng(0).permutation(len(SENTENCES))
    wide = recognizer(model, **estimate, batch_tokens=100_000)
    shuffled = candidates_of(wide, [SENTENCES[index] for index in order])
    assert_same(split, whole)
    assert_same([shuffled[place] for place in np.argsort(order)], whole)


@pytest.mark.parametrize(
    "estimate",
    [
        {"uncertainty": "confidence"},
        {"uncertainty": "mc_dropout"},
        {"uncertainty": "mc_dropout", "dropout_scope": "encoder"},
    ],
    ids=lambda estimate: "-".join(estimate.values()),
)
def test_repeated_sentences_have_the_very_candidates_of_the_first(estimate):
    # With a budget of no subword each sentence has a pass of its own, so nothing else moves bits.
    alone = recognizer(**estimate)
    alone.config = alone.config.model_copy(update={"batch_tokens": 0})
    order = [*range(12), 3, 3, 0, *range(20), 11]
    found = alone.candidates([SENTENCES[index] for index in order])
    once = [alone.candidates([SENTENCES[index]]) for index in order]
    assert found.predicted.tolist() == [one for table in once for one in table.predicted]
    expected = concatenate([one.spans for one in once])
    for name in ("start_token", "end_token", "probs", "uncertainty"):
        assert np.array_equal(getattr(found.spans, name), getattr(expected, name))
    counts = [len(one.predicted) for one in once]
    assert found.spans.sentence.tolist() == np.repeat(np.arange(len(order)), counts).tolist()
    assert sum(counts) > 20


def test_a_sentence_is_read_once_for_all_its_places():
    recognize = recognizer()
    windows = []
    collate = recognize.model.featurizer.collate
    recognize.model.featurizer.collate = lambda *batch: windows.append(batch) or collate(*batch)
    recognize.candidates([["Paris"], ["London", "and"], ["Paris"], [], ["London"], ["Paris"], []])
    assert sum(len(rows) for _, rows in windows) == 3


def test_batches_that_are_chosen_from_one_by_one_have_the_very_candidates(monkeypatch):
    recognize = recognizer(batch_tokens=64)
    together = recognize.candidates_by_estimate(SENTENCES)
    monkeypatch.setattr("linkner_ray.spanner.predict.MAX_WAITING_LOGITS", 0)
    one_by_one = recognize.candidates_by_estimate(SENTENCES)
    assert len(together["mc_dropout"].predicted) > 20
    for name, table in together.items():
        for column in ("sentence", "start_token", "end_token", "probs", "uncertainty"):
            found = getattr(one_by_one[name].spans, column)
            assert np.array_equal(found, getattr(table.spans, column))


def test_a_training_mode_model_is_put_into_evaluation_mode():
    model = tiny.model().train()
    recognize = recognizer(model)
    assert_same(
        candidates_of(recognize, SENTENCES), candidates_of(recognize, SENTENCES), tolerance=0
    )


def test_windows_answer_as_one_large_window_does_where_context_is_local():
    # Without an encoder layer a token's state depends on nothing but itself.
    model = tiny.model(max_subwords=256, use_morphology=False)
    model.encoder.encoder.layer = torch.nn.ModuleList()
    model.encoder.embeddings.position_embeddings.weight.data.zero_()
    long = [list(chain(*SENTENCES[:5]))]
    large = candidates_of(recognizer(model), long)
    small = tiny.model(max_subwords=32, window_overlap=12, use_morphology=False)
    small.load_state_dict(model.state_dict(), strict=False)
    small.encoder = model.encoder
    assert len(small.featurizer.windows(long).sentence) > 3
    assert_same(candidates_of(recognizer(small), long), large)


def test_a_sentence_of_5000_tokens_is_answered_to_its_end():
    long = ["Paris", "and", "London", ",", "Berlin"] * 1000
    table = recognizer(batch_tokens=4096).spans([long, ["Paris"]], floor=0.0)
    # 5,000 + 4,999 + 4,998 + 4,997 spans, and one
    assert np.bincount(table.sentence).tolist() == [19_994, 1]


def test_sentences_without_tokens_and_no_sentences_at_all():
    assert candidates_of(recognizer(), []) == []
    none, some, last = candidates_of(recognizer(), [[], ["Paris"], []])
    assert (none, last) == ([], [])
    assert len(some) <= 1


def test_mc_dropout_of_the_encoder_samples_more_than_the_head():
    model = tiny.model()
    scopes = [
        recognizer(model, uncertainty="mc_dropout", dropout_scope=scope).spans(SENTENCES, floor=0.0)
        for scope in ("head", "encoder")
    ]
    assert np.array_equal(scopes[0].probs, scopes[1].probs)
    assert np.abs(scopes[0].uncertainty - scopes[1].uncertainty).max() > 1e-3
    again = recognizer(model, uncertainty="mc_dropout", dropout_scope="encoder", seed=1)
    assert not np.array_equal(again.spans(SENTENCES, floor=0.0).uncertainty, scopes[1].uncertainty)


@pytest.mark.parametrize(
    ("name", "estimate"),
    [("confidence", least_confidence), ("entropy", predictive_entropy)],
)
def test_uncertainty_follows_from_the_probabilities(name, estimate):
    table = recognizer(uncertainty=name).spans(SENTENCES, floor=0.0)
    expected = estimate(torch.from_numpy(table.probs))
    torch.testing.assert_close(torch.from_numpy(table.uncertainty), expected)


def test_evidential_uncertainty_and_probabilities():
    model = tiny.model(loss="evidential")
    table = recognizer(model, uncertainty="evidential").spans([["Paris"]], floor=0.0)
    batch = model.featurizer.collate(model.featurizer.windows([["Paris"]]))
    with torch.no_grad():
        alpha = model(batch)[0, 0, 0].exp() + 1
    # p = alpha / S, u = C / S
    assert table.probs[0] == pytest.approx((alpha / alpha.sum()).numpy(), abs=1e-6)
    assert table.uncertainty[0] == pytest.approx(4 / alpha.sum().item(), abs=1e-6)


def test_candidates_are_predicted_or_near_miss():
    found = [one for row in candidates_of(recognizer(max_near_misses=2), SENTENCES) for one in row]
    assert {one.kind for one in found} == {"predicted", "near_miss"}
    for one in found:
        best = max(one.probs[1:])
        assert tiny.LABELS.classes[one.probs.index(best)] == one.label
        if one.kind == "predicted":
            assert best > one.probs[0]


def test_temperature_changes_confidence_not_choice():
    model = tiny.model()
    words = [[word] for sentence in SENTENCES for word in sentence]
    plain = candidates_of(recognizer(model, max_near_misses=0), words)
    model.calibration = Calibration(temperature=2.0)
    cooled = candidates_of(recognizer(model, max_near_misses=0), words)
    pairs = list(zip(chain(*plain), chain(*cooled), strict=True))
    assert all(b.uncertainty > a.uncertainty for a, b in pairs)


def test_evidential_uncertainty_needs_an_evidential_checkpoint():
    with pytest.raises(ConfigError, match="trained with loss = 'cross_entropy'"):
        recognizer(uncertainty="evidential")


def test_mc_dropout_needs_dropout():
    with pytest.raises(ConfigError, match="dropout 0"):
        recognizer(tiny.model(dropout=0.0), uncertainty="mc_dropout")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="sees no GPU"):
        recognizer(device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_bfloat16_on_a_gpu_finds_nearly_the_same():
    exact = recognizer(tiny.model()).spans(SENTENCES, floor=0.0)
    fast = recognizer(tiny.model(), device="cuda").spans(SENTENCES, floor=0.0)
    assert np.abs(exact.probs - fast.probs).max() < 0.05


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("by_document", [False, True])
def test_a_sentence_whose_logits_are_no_numbers_is_named_and_others_stay(value, by_document):
    sentences = [["Berlin"], ["Paris", "Obama"], ["London"], ["Obama"]]
    broken = tiny.without_a_number("Obama")
    broken.head.output.register_forward_hook(
        lambda _module, _inputs, logits: logits.where(
            ~logits.isnan(), torch.tensor([value, 0.5, 0.5, 0.5])
        )
    )
    found = recognizer(broken, near_miss_floor=0.0)
    table = (
        found.candidates_by_document(TokenTable.of(sentences), [0, 2, 4])
        if by_document
        else found.candidates(sentences)
    )
    assert table.not_finite.tolist() == [1, 3]
    whole = recognizer(near_miss_floor=0.0).candidates(sentences)
    rows = np.isin(whole.spans.sentence, [0, 2])
    assert table.spans.sentence.tolist() == whole.spans.sentence[rows].tolist()
    assert table.spans.probs == pytest.approx(whole.spans.probs[rows], abs=1e-5)
    assert not len(whole.not_finite)
