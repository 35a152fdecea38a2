"""A string stands nowhere for a list of strings: each of its letters was a paragraph once."""

import pytest

from linkner_ray.cli import main
from linkner_ray.config import ExtractConfig, RoutingConfig
from linkner_ray.config.loading import load_config
from linkner_ray.errors import ConfigError
from linkner_ray.evaluation.report import describe_evaluation
from linkner_ray.extract.report import Context
from linkner_ray.reporting.preview_page import render_preview
from linkner_ray.reporting.run_report import RunReport
from tests.reporting.test_run_report import run_report

TEXT = "The first pages."


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("notes", lambda: render_preview([], ("PER",), notes=TEXT)),
        ("labels", lambda: render_preview([], TEXT)),
        ("notes", lambda: run_report(notes=TEXT)),
        ("labels", lambda: run_report(labels=TEXT)),
        ("notes", lambda: describe_evaluation([], {}, TEXT)),
        ("overrides", lambda: load_config(ExtractConfig, None, TEXT)),
        ("arguments", lambda: main(TEXT)),
    ],
)
def test_a_bare_string_is_refused(name, call):
    with pytest.raises(TypeError, match=rf"{name} is one string, 'The first pages\.'; put it in"):
        call()


@pytest.mark.parametrize("key", ["input.paths=crawl", "routing.never_ask=PER"])
def test_a_config_refuses_it_too(key):
    needed = ["output.path=o", "input.paths=[c]", "recognize.checkpoint=x", "llm.backend=none"]
    with pytest.raises(ConfigError, match=key.partition("=")[0].replace(".", r"\.")):
        load_config(ExtractConfig, None, [*needed, key])
    with pytest.raises(ValueError, match="tuple"):
        RoutingConfig(never_ask="PER")


@pytest.mark.parametrize("shows_notes", [render_preview, RunReport, Context, describe_evaluation])
def test_the_type_checker_refuses_it_before(shows_notes):
    """For it a string is a sequence of strings, but no tuple."""
    assert shows_notes.__annotations__["notes"] == tuple[str, ...]
