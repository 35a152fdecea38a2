"""Whether a vLLM backend asks for symbols or for names; starts no engine."""

import pytest
from pydantic import ValidationError

from linkner_ray.config import LlmConfig
from linkner_ray.errors import ConfigError, StartupError
from linkner_ray.labels import Label, LabelSet
from linkner_ray.llm.backends.engine_start import choose_answer_symbols
from linkner_ray.llm.backends.forms import decoding_of, usual_symbols
from linkner_ray.llm.chat import PromptEncoder
from linkner_ray.llm.context import Question
from linkner_ray.llm.prompts import PromptBuilder
from linkner_ray.stages.link_source import prompt_digest
from tests.llm.tiny import tokenizer

ENCODER = PromptEncoder(tokenizer("chatml"), name="some-llm")


def choose(form, count):
    config = LlmConfig(model="some-llm", answer_form=form)
    labels = [Label(id=f"L{n}", name=f"kind {n}", description="x") for n in range(count - 1)]
    return choose_answer_symbols(config, ENCODER, LabelSet(name="some", labels=labels))


@pytest.mark.parametrize(
    ("form", "symbols"),
    [
        ("auto", ("A", "B", "C")),
        ("symbol", ("A", "B", "C")),
        ("name", ("kind 0", "l1", "non-entity")),
        ("choice", ()),
    ],
)
def test_symbols_are_asked_for_where_the_tokenizer_has_them_unless_names_are_wanted(form, symbols):
    assert choose(form, 3).symbols == symbols


def test_names_are_asked_for_where_symbols_run_out_and_the_log_says_so(caplog):
    assert choose("auto", 60) == ((), ())
    assert "has no 60 symbols" in caplog.text
    assert "without probabilities" in caplog.text


@pytest.mark.parametrize(("form", "what"), [("symbol", "60 symbols"), ("name", "90 words")])
def test_what_runs_out_is_an_error_where_it_is_wanted(form, what):
    with pytest.raises(StartupError, match=f"some-llm: the tokenizer has no {what}"):
        choose(form, int(what[:2]))


REPLAYED = {"backend": "replay", "replay_path": "r.jsonl"}
ENDPOINT = {"backend": "openai", "model": "m", "base_url": "http://x"}


@pytest.mark.parametrize(
    "settings",
    [
        {"backend": "none"},
        {"backend": "none", "answer_form": "symbol"},
        {"model": "m"},
        {"model": "m", "answer_form": "choice"},
        {"model": "m", "answer_form": "name"},
        REPLAYED,
    ],
)
def test_more_labels_than_symbols_are_no_error_where_no_symbols_are_used(settings):
    config = LlmConfig(**settings)
    assert usual_symbols(config, 61) == ()
    by_name = settings.get("answer_form") in ("name", "choice")
    assert usual_symbols(config, 3) == (() if by_name else ("A", "B", "C"))


@pytest.mark.parametrize("settings", [ENDPOINT, {"model": "m", "answer_form": "symbol"}])
def test_more_labels_than_symbols_are_an_error_where_symbols_are_needed(settings):
    with pytest.raises(ConfigError, match=r"61 options .* do not fit 52 symbols"):
        usual_symbols(LlmConfig(**settings), 61)


@pytest.mark.parametrize("form", ["name", "choice"])
def test_an_endpoint_cannot_be_held_to_names(form):
    with pytest.raises(ValidationError, match=rf"'{form}' holds .* needs llm\.backend = vllm"):
        LlmConfig(backend="openai", model="m", base_url="http://x", answer_form=form)


def test_a_link_that_was_measured_in_one_form_does_not_suit_another():
    labels = LabelSet(name="one", labels=[Label(id="PER", name="person", description="People.")])
    forms = ("symbol", "name", "choice")
    configs = [LlmConfig(model="m", answer_form=form) for form in forms]
    assert len({prompt_digest(config, labels) for config in configs}) == 3


def test_each_form_names_its_requests_otherwise_also_where_the_prompt_is_the_same():
    labels = LabelSet(name="one", labels=[Label(id="PER", name="person", description="People.")])
    keys = set()
    for form in ("symbol", "name", "choice"):
        config = LlmConfig(model="m", answer_form=form)
        symbols = choose_answer_symbols(config, ENCODER, labels).symbols
        decoding = decoding_of(config, symbols)
        builder = PromptBuilder.for_label_set(
            labels, symbols, model=config.model, decoding=decoding
        )
        keys.add(builder.request(Question("Ada met Bo.", 0, 3)).key)
    assert len(keys) == 3
