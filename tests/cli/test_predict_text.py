"""`linkner predict` on a tiny checkpoint."""

import importlib
import io
import json
import sys
from types import ModuleType

import pytest

from linkner_ray.api import LinkNER
from linkner_ray.cli import main
from linkner_ray.cli.predict_text import (
    COLORS,
    FoundSpan,
    TextPrediction,
    as_tree,
    predict_text,
    render,
    without_pandas,
)
from linkner_ray.config import RecognizeConfig
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.predict import Recognizer
from linkner_ray.spanner.self_check import record_self_check
from tests.spanner import tiny
from tests.spanner.candidates import candidates_of

TEXT = "Ada met \x1b[31mSiemens\nin Bonn\r."


def span(start, end, label, score):
    return FoundSpan(
        start=start, end=end, text=TEXT[start:end], label=label, score=score, uncertainty=0.25
    )


PREDICTION = TextPrediction(
    text=TEXT,
    entities=(span(0, 3, "PER", 0.984), span(13, 20, "ORG", 0.75)),
    near_misses=(span(24, 28, "LOC", 0.3),),
)


class Terminal(io.StringIO):
    """Standard output as a terminal has it."""

    def isatty(self):
        return True


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    model = tiny.model()
    model.save_pretrained(folder)
    record_self_check(model, tiny.sentences(3)).write(folder)
    return str(folder)


def test_entities_are_in_brackets_and_control_characters_are_signs():
    assert render(PREDICTION, ("PER", "ORG", "LOC"), near_misses=True, colored=False) == (
        "[Ada PER 0.98] met \u241b[31m[Siemens ORG 0.75]\nin Bonn\u240d.\n"
        "\n"
        "2 entities\n"
        '  PER  score 0.984  uncertainty 0.250  0..3       "Ada"\n'
        '  ORG  score 0.750  uncertainty 0.250  13..20     "Siemens"\n'
        "1 near misses\n"
        '  LOC  score 0.300  uncertainty 0.250  24..28     "Bonn"'
    )


def test_colors_follow_the_labels_of_the_model_and_begin_again():
    names = tuple(f"L{index}" for index in range(len(COLORS)))
    shown = render(PREDICTION, (*names, "PER", "ORG"), near_misses=False, colored=True)
    # 32 is green, the first color; 36 cyan, the second; 1 bold; 0 back to normal.
    assert shown.startswith(
        "\x1b[32m\x1b[1mAda\x1b[0m met \u241b[31m\x1b[36m\x1b[1mSiemens\x1b[0m\nin Bonn\u240d."
    )
    assert "\x1b[32m\x1b[1mPER\x1b[0m" in shown
    assert "near_miss" not in shown


def test_json_has_the_text_as_it_is():
    tree = as_tree(PREDICTION, near_misses=True)
    assert tree["text"] == TEXT
    assert tree["entities"][0] == {
        "start": 0, "end": 3, "text": "Ada", "label": "PER", "score": 0.984, "uncertainty": 0.25,
    }  # fmt: skip
    assert tree["near_misses"][0]["label"] == "LOC"
    assert "near_misses" not in as_tree(PREDICTION, near_misses=False)


def test_a_text_gets_what_the_model_says_of_its_sentences(checkpoint):
    text = "Paris and London\n\u6771 Microsoft in New York"
    prediction = predict_text(LinkNER.from_pretrained(checkpoint), text)
    recognizer = Recognizer(
        SpanNER.from_pretrained(checkpoint), RecognizeConfig(checkpoint=checkpoint)
    )
    lines = [line.split() for line in text.split("\n")]
    expected = [
        (one.kind, " ".join(tokens[one.start_token : one.end_token]), one.label)
        for tokens, row in zip(lines, candidates_of(recognizer, lines), strict=True)
        for one in row
    ]
    found = [("predicted", one.text, one.label) for one in prediction.entities]
    found += [("near_miss", one.text, one.label) for one in prediction.near_misses]
    assert sorted(found) == sorted(expected)
    assert prediction.entities
    for one in (*prediction.entities, *prediction.near_misses):
        assert text[one.start : one.end] == one.text
        assert 0 < one.score < 1


def test_a_text_without_words_has_no_entities(checkpoint):
    prediction = predict_text(LinkNER.from_pretrained(checkpoint), " \n")
    assert prediction == TextPrediction(text=" \n", entities=(), near_misses=())


def test_the_command_takes_texts_and_standard_input(checkpoint, capsys, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(b"Berlin \xff\nParis\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["predict", checkpoint, "Obama", "-", "--json", "-"]) == 0
    first, second = json.loads(capsys.readouterr().out)["texts"]
    assert first["text"] == "Obama"
    assert second["text"] == "Berlin \ufffd\nParis\n"


@pytest.mark.parametrize(
    ("stdout", "no_color", "colored"),
    [(Terminal, "", True), (Terminal, "1", False), (io.StringIO, "", False)],
)
def test_only_a_terminal_that_wants_colors_gets_them(
    checkpoint, monkeypatch, stdout, no_color, colored
):
    stream = stdout()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert main(["predict", checkpoint, tiny.LINES[1]]) == 0
    assert ("\x1b[" in stream.getvalue()) == colored
    assert (" 0." in stream.getvalue().splitlines()[0]) != colored


def test_no_text_ends_with_2(checkpoint, capsys):
    assert main(["predict", checkpoint]) == 2
    assert "TEXT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("loaded", "is_hidden"), [((), True), (("transformers",), False), (("pandas",), False)]
)
def test_pandas_is_hidden_unless_somebody_may_look_for_it(monkeypatch, loaded, is_hidden):
    for name in ("pandas", "transformers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in loaded:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    finders = list(sys.meta_path)
    with without_pandas():
        assert (sys.meta_path != finders) == is_hidden
        if is_hidden:
            with pytest.raises(ModuleNotFoundError, match="pandas is not used here"):
                importlib.import_module("pandas")
    assert sys.meta_path == finders
