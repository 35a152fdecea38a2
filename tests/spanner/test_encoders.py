import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5Config,
    ViTConfig,
)

from linkner_ray.config import ModelConfig
from linkner_ray.errors import ConfigError
from linkner_ray.spanner.encoders import build_encoder, load_encoder, longest_input
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.pretrained import pin_encoder
from tests.spanner import tiny

HALVES = [torch.float16, torch.bfloat16]


def test_a_folder_is_loaded_without_its_pooler(tmp_path):
    encoder, tokenizer = load_encoder(tiny.save_bert(tmp_path))
    assert encoder.pooler is None
    assert longest_input(encoder) == 256
    assert tokenizer.get_vocab()["[CLS]"] == 2


def test_a_folder_without_a_model_is_a_wrong_config(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder(str(tmp_path))


def test_weights_of_other_names_are_not_drawn_at_random(tmp_path):
    source = tiny.save_bert(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    wrapped = {f"student.{name}": tensor for name, tensor in weights.items()}
    save_file(wrapped, tmp_path / "model.safetensors", metadata={"format": "pt"})
    message = rf"lacks {len(weights)} of the weights of a BertModel, such as embeddings\."
    with pytest.raises(ConfigError, match=message):
        load_encoder(source)


def save_in(folder, kind, dtype):
    """A tiny encoder stored in a number format."""
    encoder, tokenizer = tiny.encoder(kind)
    encoder.to(dtype).save_pretrained(folder)
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]"} if kind == "bert" else {}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] in str(dtype)
    return str(folder)


def dtypes_of(module):
    return {parameter.dtype for parameter in module.parameters()}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_weights_are_float32_in_training_whatever_is_stored(tmp_path, kind, dtype):
    source = save_in(tmp_path, kind, dtype)
    config = ModelConfig(encoder=source, head_width=16, max_subwords=64, window_overlap=16)
    model = SpanNER.from_encoder(config, tiny.LABELS)
    assert dtypes_of(model) == {torch.float32}
    model.save_pretrained(tmp_path / "checkpoint")
    assert dtypes_of(SpanNER.from_pretrained(str(tmp_path / "checkpoint"))) == {torch.float32}


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_small_steps_of_an_encoder_stored_in_half_precision_are_taken(tmp_path, kind):
    encoder, _ = load_encoder(save_in(tmp_path, kind, torch.float16))
    weight = encoder.get_input_embeddings().weight
    before = weight.detach().clone()
    optimizer = torch.optim.AdamW([weight], lr=1e-4, weight_decay=0.0)
    for _ in range(20):
        weight.grad = torch.full_like(weight, 1e-4)
        optimizer.step()
    # Of a constant gradient AdamW takes steps of the learning rate: 20 of 1e-4.
    torch.testing.assert_close(before - weight, torch.full_like(weight, 2e-3), rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_checkpoint_whose_config_names_half_precision_is_built_in_float32(tmp_path, kind):
    """As an earlier release stored it."""
    save_in(tmp_path, kind, torch.float16)
    assert dtypes_of(build_encoder(tmp_path)) == {torch.float32}


SIZES = {**tiny.SIZES, "vocab_size": 50}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T5Config(vocab_size=50), r"encoder with a decoder \(t5\); give an encoder of"),
        (lambda: BertConfig(is_encoder_decoder=True), r"encoder with a decoder \(bert\)"),
        (ViTConfig, r"\(vit\) has no vocabulary"),
        (lambda: CLIPVisionConfig(), r"\(clip_vision_model\) has no vocabulary"),
    ],
)
def test_a_config_that_is_no_encoders_is_refused_before_anything_is_loaded(tmp_path, make, message):
    make().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=message):
        pin_encoder(str(tmp_path))


def write(folder, name, content):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no config.json that can be read, found nothing; give an encoder"),
        ({"weights.bin": ""}, "found weights.bin; give an encoder of the kind of BERT"),
        ({"config.json": "{"}, "has no config.json that can be read, found config.json"),
        ({"config.json": "[]"}, "has no config.json that can be read, found config.json"),
        ({"config.json": '{"architectures": []}'}, "names no model_type"),
        (
            {"modules.json": "[]", "0_Transformer/config.json": "{}"},
            r"found 0_Transformer, modules.json; give .*0_Transformer$",
        ),
    ],
    ids=["empty", "weights", "cut", "list", "no type", "sentence-transformers"],
)
def test_a_folder_that_holds_no_encoder_says_what_it_holds(tmp_path, files, message):
    for name, content in files.items():
        write(tmp_path, name, content)
    with pytest.raises(ConfigError, match=message):
        pin_encoder(str(tmp_path))


def test_a_path_that_is_not_there_is_a_wrong_config(tmp_path):
    with pytest.raises(ConfigError, match=r"/nowhere is no folder; correct the path"):
        pin_encoder(str(tmp_path / "nowhere"))


GPT2 = partial(GPT2Model, GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=2))
LLAMA = partial(LlamaModel, LlamaConfig(**{**SIZES, "vocab_size": 400}))
CLIP = partial(CLIPVisionModel, CLIPVisionConfig(**tiny.SIZES, image_size=8, patch_size=4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (GPT2, r"is a decoder \(GPT2Model, model_type gpt2\): .* ignores what follows"),
        (LLAMA, r"is a decoder \(LlamaModel, model_type llama\)"),
        (CLIP, r"\(CLIPVisionModel, model_type clip_vision_model\) reads no text"),
    ],
)
def test_a_model_that_is_no_encoder_is_refused_with_what_it_is(tmp_path, make, message):
    make().save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=tiny.byte_bpe()).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_encoder(str(tmp_path))
