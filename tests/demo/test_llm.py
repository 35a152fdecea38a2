from itertools import islice

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from linkner_ray.demo.llm import LlmTraining, train_llm
from linkner_ray.demo.llm_model import (
    LlmSize,
    QuestionEncoder,
    answer_logits,
    measure_accuracy,
)
from linkner_ray.demo.questions import stream_exercises
from linkner_ray.labels import load_label_set

TINY = LlmTraining(
    size=LlmSize(vocab_size=600, width=32, num_layers=2, num_heads=2),
    max_steps=4,
    batch_size=8,
    warmup_steps=1,
    evaluate_every=2,
    num_dev=16,
    num_tokenizer_questions=200,
    report_every_s=0.0,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llm")
    lines = []
    report = train_llm(folder, training=TINY, progress=lines.append)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return folder, report, lines, model, QuestionEncoder(AutoTokenizer.from_pretrained(folder))


def test_training_reports_and_says_how_far_it_is(trained):
    _, report, lines, model, _ = trained
    assert report.steps == 4
    assert 0 <= report.accuracy <= 1
    assert report.num_parameters == sum(weight.numel() for weight in model.parameters())
    assert lines
    assert all("dev accuracy" in line for line in lines)


def test_what_is_saved_is_a_hugging_face_model_with_its_card(trained):
    folder, *_ = trained
    written = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "tokenizer.json",
    } <= written
    assert "knows nothing outside the demo" in (folder / "README.md").read_text()


def test_a_reloaded_model_names_classes_by_the_letters_in_order(trained):
    *_, encoder = trained
    assert list(encoder.answer_ids) == ["PER", "ORG", "LOC", "MISC", "O"]
    assert set(encoder.answer_ids) == set(load_label_set("demo").classes)


def test_sharing_the_beginning_of_prompts_changes_no_answer(trained):
    *_, model, encoder = trained
    exercises = list(islice(stream_exercises(("llm",), seed=3), 6))
    batch = encoder.batch(exercises)
    with torch.inference_mode():
        shared = answer_logits(model, encoder.shared_ids, batch)
        for row, length in enumerate(batch.lengths.tolist()):
            ids = [*encoder.shared_ids, *batch.token_ids[row, :length].tolist()]
            alone = model(torch.tensor([ids])).logits[0, -1]
            torch.testing.assert_close(shared[row], alone, atol=1e-4, rtol=1e-4)


def test_the_beginning_is_shared_with_gradients(trained):
    *_, model, encoder = trained
    batch = encoder.batch(list(islice(stream_exercises(("llm",), seed=3), 2)))
    model.zero_grad()
    answer_logits(model, encoder.shared_ids, batch).sum().backward()
    first_of_shared = model.model.embed_tokens.weight.grad[encoder.shared_ids[0]]
    assert first_of_shared.abs().sum() > 0


def test_accuracy_counts_the_most_probable_of_the_options(trained):
    *_, model, encoder = trained
    exercises = list(islice(stream_exercises(("llm",), seed=3), 10))
    accuracy = measure_accuracy(model, encoder, exercises)
    assert round(accuracy * 10) == pytest.approx(accuracy * 10)


def test_equal_seeds_train_equal_models(trained, tmp_path):
    folder, *_ = trained
    train_llm(tmp_path, training=TINY)
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert (tmp_path / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
