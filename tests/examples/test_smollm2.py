"""The small real LLM, made from its package and asked."""

import pytest

from examples.smollm2 import make_smollm2

pytestmark = pytest.mark.soak


def test_it_knows_what_its_weights_know():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_smollm2()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    reply = model.generate(**prompt, max_new_tokens=1, do_sample=False)[0, -1]

    assert tokenizer.decode(reply) == " Paris"
    assert "<|im_start|>" in tokenizer.chat_template


def test_a_folder_that_is_there_is_taken_as_it_is(tmp_path):
    there = tmp_path / "smollm2-135m-instruct"
    there.mkdir()

    assert make_smollm2(tmp_path) == there
    assert not list(there.iterdir())
