"""The demo's LLM as it lies in git, against what its card says of it."""

import re
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.demo import OWN_LLM
from examples.demo.llm_model import (
    QuestionEncoder,
    answer_logits,
    page_exercises,
    score_answers,
)
from examples.demo.questions import stream_exercises

MAX_BYTES = 3_000_000


@pytest.fixture(scope="module")
def encoder():
    return QuestionEncoder(AutoTokenizer.from_pretrained(OWN_LLM))


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(OWN_LLM).eval()


@pytest.fixture(scope="module")
def scores(model, encoder):
    return score_answers(model, encoder, page_exercises())


def card():
    """Accuracy and questions by label, as the card has them."""
    page = (OWN_LLM / "README.md").read_text()
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d,]+) \|$", page, re.M)
    return {label: (float(share), int(count.replace(",", ""))) for label, share, count in rows}


def test_the_weights_are_float16_and_small():
    path = OWN_LLM / "model.safetensors"
    assert 2_000_000 < path.stat().st_size < MAX_BYTES
    assert {weight.dtype for weight in load_file(path).values()} == {torch.float16}


def test_it_computes_in_float32(model):
    assert model.dtype == torch.float32  # few processors compute float16 quickly


def test_it_answers_as_its_card_says(scores):
    said = card()
    assert set(said) == {"PER", "ORG", "LOC", "MISC", "O", "all"}
    found = scores.by_class | {"all": (round(scores.accuracy * scores.total), scores.total)}
    for label, (share, questions) in said.items():
        right, total = found[label]
        assert total == questions
        # an answer or two may hang on the last digits of a sum
        assert right / total == pytest.approx(share, abs=0.0005 + 2 / total), label


def test_its_prompts_share_a_beginning_of_few_tokens(encoder):
    """Another prompt or label set would be read word by word, by a model that never met it."""
    assert len(encoder.shared_ids) == 18


def test_sharing_the_beginning_of_prompts_changes_no_answer(model, encoder):
    exercises = list(islice(stream_exercises(("llm",), seed=3), 6))
    batch = encoder.batch(exercises)
    with torch.inference_mode():
        shared = answer_logits(model, encoder.shared_ids, batch)
        for row, length in enumerate(batch.lengths.tolist()):
            ids = [*encoder.shared_ids, *batch.token_ids[row, :length].tolist()]
            alone = model(torch.tensor([ids])).logits[0, -1]
            torch.testing.assert_close(shared[row], alone, atol=1e-4, rtol=1e-4)


def test_the_beginning_is_shared_with_gradients(model, encoder):
    batch = encoder.batch(list(islice(stream_exercises(("llm",), seed=3), 2)))
    model.zero_grad()
    answer_logits(model, encoder.shared_ids, batch).sum().backward()
    first_of_shared = model.model.embed_tokens.weight.grad[encoder.shared_ids[0]]
    model.zero_grad()
    assert first_of_shared.abs().sum() > 0
