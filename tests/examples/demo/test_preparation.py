"""What the demo does before it starts: when it trains anew, and what it does not touch."""

from dataclasses import replace

import pytest

from examples.demo import OWN_LLM, run
from examples.demo.world import DemoWorld
from linkner_ray import spanner
from linkner_ray.errors import ConfigError


@pytest.fixture
def world(tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.conll").write_text(f"{name} O\n\n")
    return DemoWorld(
        train=tmp_path / "train.conll",
        dev=tmp_path / "dev.conll",
        crawl=tmp_path / "crawl",
        gold=tmp_path / "gold.jsonl",
        num_pages=1,
        num_labelled=1,
        num_chars=1,
    )


def name(world, encoder="some-encoder"):
    return run._train_config(world, encoder, world.train.parent).output.checkpoint


def test_the_same_content_elsewhere_has_the_same_name(world, tmp_path):
    other = tmp_path / "other.conll"
    other.write_bytes(world.train.read_bytes())
    assert name(replace(world, train=other)) == name(replace(world, train=world.train))


def test_another_encoder_sentence_epoch_label_set_or_line_of_code_has_another(
    world, tmp_path, monkeypatch
):
    names = [name(world), name(world, "other-encoder")]
    monkeypatch.setattr(run, "EPOCHS", 7)
    names.append(name(world))
    world.dev.write_text("dev B-PER\n\n")
    names.append(name(world))
    monkeypatch.setattr(run, "LABEL_SET", "conll03")
    names.append(name(world))
    code = tmp_path / "spanner"
    code.mkdir()
    (code / "model.py").write_text("pass\n")
    monkeypatch.setattr(spanner, "__path__", [str(code)])
    names.append(name(world))
    assert len(set(names)) == len(names)


def test_a_folder_that_holds_something_else_is_refused_and_stays(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an earlier demo's output; choose another --output"):
        run.run_demo(str(tmp_path), progress=print)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_without_an_llm_named_the_demos_own_is_asked_and_a_named_one_is_taken_as_it_is():
    assert run._llm_config("").model == str(OWN_LLM)
    other = run._llm_config("some/model")
    assert (other.model, other.dtype, other.backend) == ("some/model", "auto", "vllm")
