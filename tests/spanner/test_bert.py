import json
from dataclasses import fields

import numpy as np
import pytest
import torch

from linkner_ray.config import RecognizeConfig
from linkner_ray.spanner.bert import Bert, BertConfig
from linkner_ray.spanner.encoders import build_encoder, longest_input
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.predict import Recognizer
from tests.spanner import tiny

PLAIN = ("bert", "roberta")
SENTENCES = tiny.sentences(40)


@pytest.fixture(scope="module", params=PLAIN)
def both(request, tmp_path_factory):
    return make_both(request.param, tmp_path_factory.mktemp("encoder"))


def make_both(kind, folder):
    """The encoder of transformers and ours, with the same weights."""
    theirs, _ = tiny.encoder(kind)
    theirs = theirs.eval()
    theirs.pooler = None
    theirs.config.save_pretrained(folder)
    ours = build_encoder(folder).eval()
    assert type(ours) is Bert
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def batch(theirs, lengths, *, dtype=torch.float32):
    """Ids, mask and embeddings of sentences of some lengths."""
    torch.manual_seed(0)
    pad = theirs.config.pad_token_id
    ids = torch.randint(3, theirs.config.vocab_size, (len(lengths), max(lengths)))
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    ids[mask == 0] = pad
    return ids, mask, theirs.get_input_embeddings()(ids).to(dtype)


@pytest.mark.parametrize("lengths", [[9, 9, 9], [1, 30, 7], [1]])
@pytest.mark.parametrize("given", ["input_ids", "inputs_embeds"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_hidden_states_are_those_of_transformers_to_the_last_bit(both, lengths, given, dtype):
    theirs, ours = (model.to(dtype) for model in both)
    ids, mask, embedded = batch(theirs, lengths, dtype=dtype)
    inputs = {given: ids if given == "input_ids" else embedded}
    expected = theirs(**inputs, attention_mask=mask).last_hidden_state
    found = ours(**inputs, attention_mask=mask).last_hidden_state
    assert found.dtype == expected.dtype
    kept = mask.bool()  # what padding becomes, nobody reads
    assert torch.equal(found[kept], expected[kept])
    for model in both:
        model.to(torch.float32)


@pytest.mark.parametrize("kind", PLAIN)
def test_gradients_are_those_of_transformers_and_inputs_stay_as_they_are(kind, tmp_path):
    both = make_both(kind, tmp_path)
    _, mask, embedded = batch(both[0], [9, 4])
    embedded = embedded.detach()
    before = embedded.clone()
    for model in both:
        states = model(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        (states[mask.bool()] ** 3).sum().backward()
    assert torch.equal(embedded, before)
    expected, found = ({n: p.grad for n, p in m.encoder.named_parameters()} for m in both)
    torch.testing.assert_close(found, expected)


@torch.inference_mode()
def test_text_whose_subword_is_padding_has_the_place_it_has_in_transformers(both):
    theirs, ours = both
    ids, mask, _ = batch(theirs, [6, 6])
    ids[0, 2] = theirs.config.pad_token_id
    expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(ours(input_ids=ids, attention_mask=mask).last_hidden_state, expected)


def test_without_a_mask_everything_is_seen(both):
    _, ours = both
    ids, mask, _ = batch(both[0], [5, 5])
    with torch.inference_mode():
        expected = ours(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(ours(input_ids=ids).last_hidden_state, expected)


def test_both_read_inputs_of_the_same_length(both):
    theirs, ours = both
    assert longest_input(ours) == longest_input(theirs) == 256


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"uncertainty": "mc_dropout"},
        {"uncertainty": "mc_dropout", "dropout_scope": "encoder", "dropout_samples": 3},
        {"dtype": "bfloat16"},
    ],
)
def test_a_loaded_checkpoint_finds_what_the_saved_model_found(tmp_path, kind, settings):
    saved = tiny.model(kind)
    saved.save_pretrained(tmp_path)
    loaded = SpanNER.from_pretrained(str(tmp_path))
    assert isinstance(loaded.encoder, Bert) == (kind in PLAIN)
    config = RecognizeConfig(**{"device": "cpu", "dtype": "float32", **settings})
    expected = Recognizer(saved, config).candidates(SENTENCES)
    found = Recognizer(loaded, config).candidates(SENTENCES)
    assert len(expected.predicted) > 20
    assert np.array_equal(found.predicted, expected.predicted)
    for field in fields(expected.spans):
        before, after = (getattr(table.spans, field.name) for table in (expected, found))
        assert np.array_equal(after, before), field.name


def test_a_checkpoint_that_is_saved_again_has_the_same_bytes(tmp_path):
    tiny.model().save_pretrained(tmp_path / "first")
    SpanNER.from_pretrained(str(tmp_path / "first")).save_pretrained(tmp_path / "again")
    for name in ("encoder/config.json", "model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "electra"},
        {"hidden_act": "relu"},
        {"is_decoder": True},
        {"position_embedding_type": "relative_key"},
        {"chunk_size_feed_forward": 16},
        {"quantization_config": {"bits": 4}},
        {"num_attention_heads": 3},
        {"num_hidden_layers": None},
        {"hidden_size": "32"},
        {"vocab_size": True},
        {"layer_norm_eps": "small"},
    ],
)
def test_what_is_not_computed_here_is_left_to_transformers(tmp_path, change):
    path = tmp_path / "config.json"
    theirs, _ = tiny.encoder("bert")
    theirs.config.save_pretrained(tmp_path)
    assert BertConfig.read(path) is not None
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert BertConfig.read(path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_config_is_left_to_transformers(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert BertConfig.read(tmp_path / "config.json") is None
