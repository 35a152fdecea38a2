import json
import re
import shutil
from pathlib import Path

import fsspec
import pytest

from linkner_ray.errors import ConfigError, StartupError, StoreError
from linkner_ray.spanner.checkpoint import local_checkpoint
from linkner_ray.spanner.digests import checkpoint_digest
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.publishing import publish_checkpoint
from linkner_ray.storage import Folder
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
    with pytest.raises(ConfigError, match=r"no such folder|path is empty"):
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


@pytest.fixture(params=["local", "store"])
def target(request, tmp_path):
    """Where a checkpoint is published: a folder of this machine, or a prefix of a store."""
    if request.param == "local":
        return Folder.at(str(tmp_path / "published" / "model"))
    return Folder.at(f"memory://bucket/{tmp_path.name}/model")


def url_of(target):
    return target.root if target.is_local else f"memory://{target.root}"


def test_publishing_replaces_an_earlier_checkpoint_as_a_whole(folder, target):
    (folder / "thresholds.json").write_text("{}")
    publish_checkpoint(folder, url_of(target))
    assert target.exists("thresholds.json")
    (folder / "thresholds.json").unlink()
    (folder / "README.md").write_text("another")
    publish_checkpoint(folder, url_of(target))
    assert not target.exists("thresholds.json")
    assert target.read_bytes("README.md") == b"another"
    assert checkpoint_digest(url_of(target)) == checkpoint_digest(str(folder))


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({"thesis.tex": b"x"}, r"holds thesis\.tex and is no checkpoint of ours"),
        ({"config.json": b'{"model_type": "bert"}'}, r"holds config\.json and is no checkpoint"),
        ({"config.json": b"no json"}, r"holds config\.json and is no checkpoint"),
        ({"README.md": b"x"}, r"holds README\.md and is no checkpoint"),
        (dict.fromkeys("abcde", b"x"), r"holds a, b, c and 2 more and is no checkpoint"),
    ],
)
def test_a_folder_of_others_is_refused_and_stays(folder, target, there, message):
    for name, content in there.items():
        target.write_whole(name, content)
    with pytest.raises(ConfigError, match=message):
        publish_checkpoint(folder, url_of(target))
    assert {name: target.read_bytes(name) for name in target.entries()} == there


@pytest.mark.parametrize("name", ["notes.md", "encoder/vocab.txt", "onnx/model.onnx"])
def test_what_lies_beside_a_checkpoint_is_not_lost(folder, target, name):
    publish_checkpoint(folder, url_of(target))
    target.write_whole(name, b"mine")
    found = re.escape(name if name.startswith("encoder") else name.partition("/")[0])
    with pytest.raises(ConfigError, match=rf"beside the checkpoint lies {found}, which would"):
        publish_checkpoint(folder, url_of(target))
    assert target.read_bytes(name) == b"mine"
    assert SpanNER.from_pretrained(url_of(target)).label_set == tiny.LABELS


def test_a_file_in_the_place_of_a_checkpoint_is_refused(folder, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="is a file"):
        publish_checkpoint(folder, str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_an_empty_folder_and_a_link_to_a_checkpoint_are_published_into(folder, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        publish_checkpoint(folder, str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert checkpoint_digest(str(tmp_path / "real")) == checkpoint_digest(str(folder))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("fails", ["copytree", "rename"])
def test_a_publication_that_fails_leaves_what_was_there(folder, tmp_path, monkeypatch, fails):
    target = tmp_path / "published" / "model"
    publish_checkpoint(folder, str(target))
    rename = Path.rename

    def no_room(*_, **__):
        raise OSError(28, "No space left on device")

    def no_rename(path, to):
        return no_room() if to == target and "replaced" not in path.name else rename(path, to)

    owner, other = {"copytree": (shutil, no_room), "rename": (Path, no_rename)}[fails]
    monkeypatch.setattr(owner, fails, other)
    with pytest.raises(OSError, match="No space left"):
        publish_checkpoint(folder, str(target))
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    assert checkpoint_digest(str(target)) == checkpoint_digest(str(folder))


def test_a_publication_that_was_cut_off_is_no_checkpoint_and_can_be_repeated(folder, monkeypatch):
    url = f"memory://bucket/{folder.parent.name}/cut"
    publish_checkpoint(folder, url)
    filesystem = Folder.at(url).filesystem

    def put_file(*_):
        raise PermissionError("the token has expired")

    monkeypatch.setattr(filesystem, "put_file", put_file)
    with pytest.raises(StoreError, match="the token has expired"):
        publish_checkpoint(folder, url)
    with pytest.raises(StartupError, match="its publication was cut off"):
        SpanNER.from_pretrained(url)
    monkeypatch.undo()
    publish_checkpoint(folder, url)
    assert checkpoint_digest(url) == checkpoint_digest(str(folder))


def test_a_checkpoint_that_is_replaced_while_it_is_fetched_is_not_mixed(folder, monkeypatch):
    url = f"memory://bucket/{folder.parent.name}/moving"
    publish_checkpoint(folder, url)
    filesystem = Folder.at(url).filesystem
    get_file = filesystem.get_file

    def replaced_meanwhile(remote, local):
        get_file(remote, local)
        if remote.endswith("model.safetensors"):
            filesystem.pipe_file(remote, b"weights of the next training")

    monkeypatch.setattr(filesystem, "get_file", replaced_meanwhile)
    with pytest.raises(StartupError, match="is being published"):
        local_checkpoint(url)


def test_a_checkpoint_with_a_scheme_is_published_fetched_and_loaded(folder):
    url = f"memory://bucket/{folder.parent.name}/model"
    publish_checkpoint(folder, url)
    assert checkpoint_digest(url) == checkpoint_digest(str(folder))
    assert SpanNER.from_pretrained(url).label_set == tiny.LABELS
    first = local_checkpoint(url)
    assert local_checkpoint(url) == first
    (first / "model.safetensors").unlink()  # as cleaners of temporary folders do
    assert local_checkpoint(url) == first
    assert checkpoint_digest(url) == checkpoint_digest(str(folder))
    with fsspec.open(f"{url}/calibration.json", "w") as file:
        file.write('{"temperature": 3.0}')
    assert SpanNER.from_pretrained(url).calibration.temperature == 3.0
    shutil.rmtree(first)
