"""The recipe of the demo's LLM, a few steps of it and all of it."""

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.demo import OWN_LLM
from examples.demo.llm_model import LlmSize, QuestionEncoder, page_exercises, score_answers
from examples.demo.train_llm import LlmTraining, train_llm

pytestmark = pytest.mark.soak

TINY = LlmTraining(
    size=LlmSize(vocab_size=600, width=32, num_layers=2, num_heads=2),
    num_steps=4,
    batch_size=8,
    warmup_steps=1,
    evaluate_every=2,
    num_dev=16,
    num_tokenizer_questions=200,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llm")
    lines = []
    return folder, train_llm(folder, training=TINY, progress=lines.append), lines


def test_training_reports_and_says_how_far_it_is(trained):
    folder, report, lines = trained
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert report.num_parameters == sum(weight.numel() for weight in model.parameters())
    assert report.pages.total == len(page_exercises())
    assert [line.split(",")[0] for line in lines] == ["step 2/4", "step 4/4"]
    assert all("dev accuracy" in line for line in lines)


def test_what_is_saved_are_the_files_that_the_demo_has(trained):
    folder, *_ = trained
    assert {path.name for path in folder.iterdir()} == {path.name for path in OWN_LLM.iterdir()}
    assert "It knows nothing outside the demo." in (folder / "README.md").read_text()


def test_equal_seeds_train_equal_models(trained, tmp_path):
    folder, *_ = trained
    train_llm(tmp_path, training=TINY)
    for name in ("tokenizer.json", "model.safetensors", "README.md"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.timeout(3600)
def test_the_recipe_from_scratch_makes_an_llm_as_good_as_the_one_in_git(tmp_path):
    """Not the same weights: sums of another number of threads differ in their last digits."""
    made = train_llm(tmp_path).pages
    kept = AutoModelForCausalLM.from_pretrained(OWN_LLM)
    encoder = QuestionEncoder(AutoTokenizer.from_pretrained(OWN_LLM))
    assert made.accuracy > score_answers(kept, encoder, page_exercises()).accuracy - 0.03
    same = (tmp_path / "tokenizer.json").read_bytes() == (OWN_LLM / "tokenizer.json").read_bytes()
    assert same, "names, templates or prompt have changed: write examples/demo/llm anew"
