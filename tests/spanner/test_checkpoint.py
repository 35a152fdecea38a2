import json
import shutil

import fsspec
import pytest

from linkner_ray.errors import ConfigError, StartupError
from linkner_ray.spanner.checkpoint import (
    checkpoint_digest,
    local_checkpoint,
    publish_checkpoint,
)
from linkner_ray.spanner.model import SpanNER
from tests.spanner import tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    tiny.model().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def test_a_folder_holds_no_pickle(saved):
    names = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert names == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "encoder/config.json",
        "label_set.yaml",
        "calibration.json",
    }


def test_the_digest_is_of_the_content(saved, folder):
    assert checkpoint_digest(str(folder)) == checkpoint_digest(str(saved))
    (folder / "README.md").write_text("a card decides nothing")
    assert checkpoint_digest(str(folder)) == checkpoint_digest(str(saved))
    (folder / "calibration.json").write_text('{"temperature": 2.0}')
    assert checkpoint_digest(str(folder)) != checkpoint_digest(str(saved))


@pytest.mark.parametrize("path", ["", "no/such/folder", "memory://nothing-here"])
def test_a_path_that_is_not_there_is_a_wrong_config(path):
    with pytest.raises(ConfigError, match="no such folder"):
        local_checkpoint(path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "label_set.yaml"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(StartupError, match=f"{name} missing"):
        SpanNER.from_pretrained(str(folder))
    with pytest.raises(StartupError, match=name):
        checkpoint_digest(str(folder))


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "encoder/config.json",
        "label_set.yaml",
        "calibration.json",
    ],
)
def test_a_truncated_file_is_an_error_at_start(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(StartupError, match="model"):
        SpanNER.from_pretrained(str(folder))


def test_a_folder_of_another_model_is_recognised(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(StartupError, match="folder of another model"):
        SpanNER.from_pretrained(str(folder))


def test_another_label_set_is_recognised(folder):
    text = (folder / "label_set.yaml").read_text()
    (folder / "label_set.yaml").write_text(text.replace("People.", "Persons."))
    with pytest.raises(StartupError, match="not the label set the model was trained with"):
        SpanNER.from_pretrained(str(folder))


def test_weights_of_another_architecture_are_recognised(folder, tmp_path):
    tiny.model(head_width=24).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(StartupError, match="do not go together"):
        SpanNER.from_pretrained(str(folder))


def test_publishing_replaces_what_was_there(folder, tmp_path):
    target = tmp_path / "published" / "model"
    publish_checkpoint(folder, str(target))
    (target / "left-over").touch()
    publish_checkpoint(folder, str(target))
    assert not (target / "left-over").exists()
    assert checkpoint_digest(str(target)) == checkpoint_digest(str(folder))


def test_a_checkpoint_with_a_scheme_is_published_fetched_and_loaded(folder):
    url = f"memory://bucket/{folder.parent.name}/model"
    publish_checkpoint(folder, url)
    assert checkpoint_digest(url) == checkpoint_digest(str(folder))
    assert SpanNER.from_pretrained(url).label_set == tiny.LABELS
    first = local_checkpoint(url)
    assert local_checkpoint(url) == first
    with fsspec.open(f"{url}/calibration.json", "w") as file:
        file.write('{"temperature": 3.0}')
    assert SpanNER.from_pretrained(url).calibration.temperature == 3.0
    shutil.rmtree(first)
