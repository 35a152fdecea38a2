import os
import shutil

import pytest

from linkner_ray.config import LlmConfig
from linkner_ray.errors import ConfigError
from linkner_ray.llm.model_identity import (
    engine_dtype,
    folder_digest,
    model_revision,
    with_known_revision,
)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "config.json").write_text('{"hidden_size": 8}')
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(9 * 2**20))  # over the limit
    return folder


def change_last_byte(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def config(model, **changes):
    return LlmConfig(**{"backend": "vllm", "model": str(model), **changes})


def test_a_folder_is_named_by_its_content_wherever_and_whenever_it_was_copied(model, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(model, copy)
    os.utime(copy / "config.json", (1, 1))
    (copy / ".cache").mkdir()
    (copy / ".cache" / "lock").write_text("")
    assert model_revision(config(copy)) == model_revision(config(model))
    assert model_revision(config(model)) == f"folder-{folder_digest(model)}"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "config.json").write_text('{"hidden_size": 9}'),
        lambda folder: (folder / "tokenizer" / "tokenizer.json").write_text("[]"),
        lambda folder: (folder / "model.safetensors").write_bytes(os.urandom(9 * 2**20)),
        lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
        lambda folder: (folder / "config.json").rename(folder / "configs.json"),
        lambda folder: os.truncate(folder / "model.safetensors", 9 * 2**20 - 1),
        lambda folder: change_last_byte(folder / "model.safetensors"),
    ],
)
def test_a_folder_that_changed_has_another_name(model, change):
    before = model_revision(config(model))
    change(model)
    assert model_revision(config(model)) != before


def test_a_dtype_that_is_asked_for_is_part_of_the_revision(model):
    revisions = {model_revision(config(model, dtype=d)) for d in ("auto", "float32", "bfloat16")}
    assert len(revisions) == 3


def test_of_an_endpoint_the_config_alone_is_known(model):
    named = {"backend": "openai", "base_url": "http://nowhere"}
    assert model_revision(config(model, **named)) is None
    assert model_revision(config(model, revision="2026-11", **named)) == "2026-11"


def test_a_model_of_the_hub_has_the_commit_that_was_downloaded(tmp_path, monkeypatch):
    from huggingface_hub import constants

    repository = tmp_path / "models--some--llm"
    snapshot = repository / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert model_revision(config("some/llm")) == "commit-abc123"
    assert model_revision(config("other/llm")) is None
    assert model_revision(config("other/llm", revision="v2")) == "v2"
    assert model_revision(config("/no/such/folder")) is None


def test_an_engine_loads_the_commit_that_requests_are_named_by(tmp_path, monkeypatch):
    from huggingface_hub import constants

    repository = tmp_path / "models--some--llm"
    (repository / "refs").mkdir(parents=True)
    for commit in ("a" * 40, "b" * 40):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    named = config("some/llm")
    pinned = with_known_revision(named)
    (repository / "refs" / "main").write_text("b" * 40)  # the branch moves on
    assert pinned.revision == "a" * 40
    assert model_revision(named) == "commit-" + "b" * 40
    assert model_revision(pinned) == "commit-" + "a" * 40
    assert with_known_revision(pinned) is pinned
    with pytest.raises(ConfigError, match=r"other/llm at revision 'v2': is no folder here"):
        with_known_revision(config("other/llm", revision="v2"))
    commit = "c" * 40  # needs nobody to be asked, and has the same name where it is not cached
    assert with_known_revision(config("other/llm", revision=commit)).revision == commit
    assert model_revision(config("other/llm", revision=commit)) == f"commit-{commit}"
    replay = {"backend": "replay", "model": "some/llm"}
    assert with_known_revision(LlmConfig(**replay)).revision == "b" * 40
    unknown = LlmConfig(**{**replay, "model": "other/llm"})
    assert with_known_revision(unknown) is unknown


def test_a_local_folder_has_no_revision_to_load(model):
    assert with_known_revision(config(model, revision="mine")).revision == "mine"


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ('{"dtype": "float16"}', "float16"),
        ('{"torch_dtype": "float16"}', "float16"),
        ('{"text_config": {"dtype": "float16"}}', "float16"),
        ('{"text_config": null, "dtype": "float16"}', "float16"),
        ('{"dtype": "bfloat16"}', "bfloat16"),
        ('{"dtype": "float32"}', "bfloat16"),
        ("{}", "bfloat16"),
    ],
)
def test_the_number_format_of_an_engine_follows_from_the_model_alone(model, stored, expected):
    (model / "config.json").write_text(stored)
    assert engine_dtype(config(model)) == expected
    assert engine_dtype(config(model, dtype="float32")) == "float32"


def test_of_a_model_that_only_the_engine_sees_it_chooses_the_number_format():
    assert engine_dtype(config("s3://models/llm")) == "auto"
