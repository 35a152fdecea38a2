import json
from pathlib import Path

import pytest

from linkner_ray.config import DemonstrationsConfig, LlmConfig
from linkner_ray.errors import DataError
from linkner_ray.llm.context import AskedSpan, Question
from linkner_ray.stages.demonstration_source import (
    corpus_digest,
    fixed_demonstrations,
    load_demonstrations,
    pin_demonstrations,
)
from tests.spanner import tiny

CONLL = """Peter B-PER
met O
Angela B-PER
in O
Berlin B-LOC

London B-LOC
called O
Microsoft B-ORG
"""


@pytest.fixture
def config(tmp_path):
    corpus = tmp_path / "train.conll"
    corpus.write_text(CONLL)

    def config(kind, **settings):
        return LlmConfig(
            backend="openai", model="m", base_url="http://nowhere",
            demonstrations=DemonstrationsConfig(kind=kind, corpus=str(corpus), **settings),
        )  # fmt: skip

    return config


def asked(context, span):
    start = context.index(span)
    return AskedSpan(Question(context, start, start + len(span)), context)


def test_none_asks_for_no_corpus():
    config = LlmConfig(backend="none")
    assert load_demonstrations(config, tiny.LABELS) is None
    assert fixed_demonstrations(config, tiny.LABELS) == ()
    assert corpus_digest(config) is None


def test_demonstrations_without_a_corpus_are_refused():
    with pytest.raises(ValueError, match=r"kind = 'random' needs llm\.demonstrations\.corpus"):
        DemonstrationsConfig(kind="random")


def test_random_ones_are_the_same_at_planning_and_at_work(config):
    random = config("random")
    fixed = fixed_demonstrations(random, tiny.LABELS)
    assert load_demonstrations(random, tiny.LABELS).choose([asked("x", "x")])[0].fixed == fixed
    # two sentences, none used twice
    assert len(fixed) == 2
    assert {d.question.context for d in fixed} == {
        "Peter met Angela in Berlin", "London called Microsoft",
    }  # fmt: skip


def test_the_digest_is_of_what_the_corpus_holds_and_not_of_where_it_lies(config, tmp_path):
    before = corpus_digest(config("random"))
    (tmp_path / "train.conll").write_text(CONLL.replace("met", "saw"))
    assert corpus_digest(config("random")) != before


@pytest.mark.parametrize("kind", ["random", "nearest"])
def test_a_label_that_the_checkpoint_does_not_know_is_named_at_planning(config, tmp_path, kind):
    (tmp_path / "train.conll").write_text("Peter B-NOBODY\n")
    with pytest.raises(DataError, match="NOBODY"):
        fixed_demonstrations(config(kind), tiny.LABELS)


def test_another_rule_of_what_is_near_is_another_digest(config, monkeypatch):
    before = [corpus_digest(config(kind)) for kind in ("random", "nearest")]
    monkeypatch.setattr("linkner_ray.stages.demonstration_source._LIKENESS", "by sentence")
    after = [corpus_digest(config(kind)) for kind in ("random", "nearest")]
    assert after[0] == before[0]
    assert after[1] != before[1]


def save(encoder, folder):
    """The name of an encoder in a config."""
    if encoder == "checkpoint":
        tiny.model().save_pretrained(folder)
        return str(folder)
    return tiny.save_bert(folder) if encoder == "tiny" else encoder


@pytest.mark.parametrize("encoder", ["tiny", "checkpoint", "all-MiniLM-L6-v2"])
def test_nearest_ones_come_by_an_encoder(config, tmp_path, encoder):
    name = save(encoder, tmp_path / "encoder")
    demonstrations = load_demonstrations(config("nearest", count=1, encoder=name), tiny.LABELS)
    shown = demonstrations.choose([
        asked("London called Microsoft on Thursday", "Microsoft"),
        asked("London called Microsoft on Thursday", "London"),
        asked("Peter met Angela in Paris", "Peter"),
    ])  # fmt: skip
    near = [one.near[0].question for one in shown]
    assert [one.context for one in near[:2]] == ["London called Microsoft"] * 2
    assert [one.span for one in near] == ["Microsoft", "London", "Peter"]


def test_a_checkpoint_is_named_by_its_encoder_and_not_its_calibration(config, tmp_path):
    folder = Path(save("checkpoint", tmp_path / "checkpoint"))
    settings = config("nearest", encoder=str(folder))
    assert pin_demonstrations(settings.demonstrations) == settings.demonstrations
    before = corpus_digest(settings)
    calibration = json.loads((folder / "calibration.json").read_text())
    (folder / "calibration.json").write_text(json.dumps({**calibration, "temperature": 2.0}))
    assert corpus_digest(settings) == before
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert corpus_digest(settings) != before
