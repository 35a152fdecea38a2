"""Whether a vLLM backend asks for symbols or for names; starts no engine."""

import pytest
from pydantic import ValidationError

from linkner_ray.config import LlmConfig
from linkner_ray.errors import ConfigError, StartupError
from linkner_ray.llm.backends.engine_start import choose_answer_symbols
from linkner_ray.llm.backends.forms import usual_symbols
from linkner_ray.llm.chat import PromptEncoder
from tests.llm.tiny import tokenizer

ENCODER = PromptEncoder(tokenizer("chatml"), name="some-llm")


def choose(form, count):
    return choose_answer_symbols(LlmConfig(model="some-llm", answer_form=form), ENCODER, count)


@pytest.mark.parametrize(
    ("form", "symbols"),
    [("auto", ("A", "B", "C")), ("symbol", ("A", "B", "C")), ("choice", ())],
)
def test_symbols_are_asked_for_where_the_tokenizer_has_them_unless_names_are_wanted(form, symbols):
    assert choose(form, 3).symbols == symbols


def test_names_are_asked_for_where_symbols_run_out_and_the_log_says_so(caplog):
    assert choose("auto", 60) == ((), ())
    assert "has no 60 symbols" in caplog.text
    assert "without probabilities" in caplog.text


def test_symbols_that_run_out_are_an_error_where_symbols_are_wanted():
    with pytest.raises(StartupError, match="has no 60 symbols"):
        choose("symbol", 60)


REPLAYED = {"backend": "replay", "replay_path": "r.jsonl"}
ENDPOINT = {"backend": "openai", "model": "m", "base_url": "http://x"}


@pytest.mark.parametrize(
    "settings",
    [
        {"backend": "none"},
        {"backend": "none", "answer_form": "symbol"},
        {"model": "m"},
        {"model": "m", "answer_form": "choice"},
        REPLAYED,
    ],
)
def test_more_labels_than_symbols_are_no_error_where_no_symbols_are_used(settings):
    config = LlmConfig(**settings)
    assert usual_symbols(config, 61) == ()
    by_name = settings.get("answer_form") == "choice"
    assert usual_symbols(config, 3) == (() if by_name else ("A", "B", "C"))


@pytest.mark.parametrize("settings", [ENDPOINT, {"model": "m", "answer_form": "symbol"}])
def test_more_labels_than_symbols_are_an_error_where_symbols_are_needed(settings):
    with pytest.raises(ConfigError, match=r"61 options .* do not fit 52 symbols"):
        usual_symbols(LlmConfig(**settings), 61)


def test_an_endpoint_cannot_be_held_to_names():
    with pytest.raises(ValidationError, match=r"needs llm\.backend = vllm"):
        LlmConfig(backend="openai", model="m", base_url="http://x", answer_form="choice")
