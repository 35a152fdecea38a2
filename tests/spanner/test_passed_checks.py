import json
import shutil

import numpy as np
import pytest
import torch

from linkner_ray.config import RecognizeConfig
from linkner_ray.errors import StartupError
from linkner_ray.nightly.checks import run_self_check_of
from linkner_ray.spanner import passed_checks
from linkner_ray.spanner import self_check as self_check
from linkner_ray.spanner.checkpoint import CONFIG, WEIGHTS
from linkner_ray.spanner.passed_checks import has_passed, inputs_of_check, remember_passed
from linkner_ray.spanner.self_check import choose_sentences, load_recognizer, record_self_check
from tests.spanner import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    model = tiny.model()
    model.save_pretrained(folder)
    record_self_check(model, choose_sentences(tiny.sentences(10))).write(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """Where checks are remembered; nothing is yet."""
    monkeypatch.setenv("LINKNER_SELF_CHECKS", str(tmp_path / "memory"))
    return tmp_path / "memory"


@pytest.fixture
def checks(monkeypatch):
    """Names of the checkpoints that were asked, each time."""
    asked = []
    ask = self_check.run_self_check

    def spy(recognizer, stored, *, name):
        asked.append(name)
        ask(recognizer, stored, name=name)

    monkeypatch.setattr(self_check, "run_self_check", spy)
    return asked


def load(folder, *, check_again=False, **config):
    settings = RecognizeConfig(
        **{"device": "cpu", "dtype": "float32", "checkpoint": str(folder), **config}
    )
    return load_recognizer(settings, check_again=check_again)


def fingerprint(**changes):
    return {"files": {"config.json": "abc"}, "threads": 1, "gpu": None, **changes}


def test_a_checkpoint_that_passed_is_not_asked_again(folder, memory, checks):
    first, second = (load(folder).candidates(tiny.sentences(5)).spans.probs for _ in range(2))
    assert np.array_equal(first, second)
    assert len(checks) == 1
    [file] = memory.iterdir()
    assert file.stat().st_size < 5_000


def test_a_copy_in_another_folder_is_the_same_checkpoint(folder, tmp_path, memory, checks):
    load(folder)
    load(shutil.copytree(folder, tmp_path / "copy"))
    assert len(checks) == 1 == len(list(memory.iterdir()))


@pytest.mark.usefixtures("memory")
def test_whoever_wants_it_asked_again_has_it_asked(folder, checks):
    load(folder)
    load(folder, check_again=True)
    assert len(checks) == 2


@pytest.mark.usefixtures("memory")
def test_a_night_asks_a_checkpoint_that_passed_before(folder, checks):
    config = RecognizeConfig(device="cpu", checkpoint=str(folder))
    for _ in range(2):
        assert run_self_check_of(config, []) == 10
    assert len(checks) == 2


@pytest.mark.parametrize(
    "config", [{"dtype": "bfloat16"}, {"batch_tokens": 64}, {"batch_scope": "document"}]
)
@pytest.mark.usefixtures("memory")
def test_asked_otherwise_it_is_another_check(folder, checks, config):
    load(folder)
    load(folder, **config)
    assert len(checks) == 2


def test_other_weights_are_asked_and_fail_each_time(folder, memory, checks):
    load(folder)
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-200:] = b"\x41" * 200
    (folder / WEIGHTS).write_bytes(content)
    for _ in range(2):  # a check that failed is not remembered
        with pytest.raises(StartupError, match="does not answer as it did"):
            load(folder)
    assert len(checks) == 3
    assert len(list(memory.iterdir())) == 1


@pytest.mark.parametrize("name", ["ATEN_CPU_CAPABILITY", "MKL_CBWR", "NVIDIA_TF32_OVERRIDE"])
def test_a_setting_of_a_library_is_part_of_a_check(saved, monkeypatch, name):
    config = RecognizeConfig()
    monkeypatch.delenv(name, raising=False)
    before = inputs_of_check(saved, (CONFIG,), config, CPU)
    assert inputs_of_check(saved, (CONFIG,), config, CPU) == before
    monkeypatch.setenv(name, "x")
    assert inputs_of_check(saved, (CONFIG,), config, CPU) != before


def test_code_machine_libraries_and_threads_are_part_of_a_check(saved, monkeypatch):
    config = RecognizeConfig()
    seen = [inputs_of_check(saved, (CONFIG,), config, CPU)]
    for owner, name, value in [
        (passed_checks, "_code_digest", lambda: "other"),
        (passed_checks, "_processor", lambda: "other"),
        (passed_checks, "library_versions", lambda: {"tokenizers": "0.0"}),
        (passed_checks.platform, "node", lambda: "other"),
        (passed_checks, "_gpu", lambda _: ["a GPU"]),
        (torch, "__version__", "0.0"),
        (torch, "get_num_threads", lambda: 99),
        (torch.backends.cpu, "get_cpu_capability", lambda: "none"),
    ]:
        monkeypatch.setattr(owner, name, value)
        seen.append(inputs_of_check(saved, (CONFIG,), config, CPU))
    assert all(one != other for i, one in enumerate(seen) for other in seen[:i])


@pytest.mark.parametrize("name", ["head.py", "calibration/temperature.py"])
def test_other_code_that_computes_is_another_check(tmp_path, monkeypatch, name):
    copy = shutil.copytree(passed_checks._CODE, tmp_path / "spanner")
    monkeypatch.setattr(passed_checks, "_CODE", copy)
    digest = passed_checks._code_digest.__wrapped__
    before = digest()
    (copy / name).write_text((copy / name).read_text() + "\n")
    assert digest() != before


def test_only_what_is_true_to_the_letter_counts(memory):
    assert not has_passed(fingerprint())
    remember_passed(fingerprint())
    assert has_passed(fingerprint())
    assert not has_passed(fingerprint(threads=2))
    [file] = memory.iterdir()
    for damaged in ("", "{", "null", "[]", json.dumps(fingerprint(threads=2)), "\x00"):
        file.write_text(damaged)
        assert not has_passed(fingerprint())
    file.write_bytes(b"\xff\xfe")
    assert not has_passed(fingerprint())
    remember_passed(fingerprint())
    assert has_passed(fingerprint())


def test_where_nothing_can_be_written_every_load_checks(tmp_path, monkeypatch, folder, checks):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LINKNER_SELF_CHECKS", str(tmp_path / "file" / "below"))
    load(folder)
    load(folder)
    assert len(checks) == 2


def test_an_empty_folder_name_means_no_memory(monkeypatch, folder, checks, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LINKNER_SELF_CHECKS", "")
    load(folder)
    load(folder)
    assert len(checks) == 2
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("where", ["XDG_CACHE_HOME", "HOME"])
def test_by_default_it_is_in_the_users_cache(monkeypatch, tmp_path, where):
    for name in ("LINKNER_SELF_CHECKS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(where, str(tmp_path))
    remember_passed(fingerprint())
    cache = tmp_path if where == "XDG_CACHE_HOME" else tmp_path / ".cache"
    [file] = (cache / "linkner" / "self-checks").iterdir()
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert has_passed(fingerprint())


def test_a_user_without_a_home_remembers_nothing(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("LINKNER_SELF_CHECKS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(passed_checks.Path, "home", no_home)
    remember_passed(fingerprint())
    assert not has_passed(fingerprint())
