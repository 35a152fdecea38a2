"""What the demo does before it starts: when it trains anew, and what it does not touch."""

import json
import socket
from dataclasses import replace

import pytest

from examples.demo import OWN_LLM, run
from examples.demo.world import DemoWorld
from linkner_ray import spanner
from linkner_ray.errors import ConfigError, StartupError


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
    (code / "calibration").mkdir(parents=True)
    monkeypatch.setattr(spanner, "__path__", [str(code)])
    for file in ("model.py", "calibration/temperature.py"):
        (code / file).write_text("pass\n")
        names.append(name(world))
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "content",
    [
        {"thesis.txt": "mine"},
        {"_run.json": "{}"},
        {"_run.json": '{"config": {"input": {"paths": ["s3://crawl"]}}}', "_SUCCESS": ""},
    ],
)
def test_a_folder_that_holds_something_else_is_refused_and_stays(tmp_path, content):
    for file, text in content.items():
        (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=r"not an earlier demo's output.*another --output"):
        run.run_demo(str(tmp_path), progress=print)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == content


def test_an_earlier_demos_output_is_removed(tmp_path, world):
    output = tmp_path / "demo-output"
    output.mkdir()
    paths = json.dumps({"config": {"input": {"paths": [str(world.crawl)]}}})
    (output / "_run.json").write_text(paths)
    run._clear(output, world.crawl)
    assert not output.exists()


def test_without_an_llm_named_the_demos_own_is_asked_and_a_named_one_is_taken_as_it_is():
    assert run._llm_config("").model == str(OWN_LLM)
    other = run._llm_config("some/model")
    assert (other.model, other.dtype, other.backend) == ("some/model", "auto", "vllm")


def test_an_endpoint_that_says_nothing_ends_the_demo_soon(monkeypatch):
    monkeypatch.setattr(run, "LIST_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(StartupError, match=r"not list its models: .*timed out"):
            run._llm_config(url)
