"""Cores of an engine's own: no two processes have one in common, and a dead one's are free."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from linkner_ray.config import LlmConfig
from linkner_ray.llm.backends import cores as module
from linkner_ray.llm.backends.cores import Cores, started_on, usable_cores
from linkner_ray.llm.backends.engine_start import _set_cpu_environment

EIGHT = list(range(8))


@pytest.fixture
def eight(monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: EIGHT)


@pytest.mark.usefixtures("eight")
def test_engines_of_one_machine_have_no_core_in_common(tmp_path):
    claims = [Cores(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        held = list(pool.map(lambda one: one.claim(2), claims))
    assert sorted(core for two in held for core in two) == EIGHT


@pytest.mark.usefixtures("eight")
def test_one_that_comes_too_late_has_none_and_takes_none_away(tmp_path, caplog):
    first, second, third = (Cores(tmp_path) for _ in range(3))
    assert len(first.claim(6)) == 6
    assert second.claim(4) == ()
    assert "4 of the machine's cores for itself and 2 are free" in caplog.text
    assert third.claim(2) == (6, 7)


@pytest.mark.usefixtures("eight")
def test_an_engine_that_is_rebuilt_keeps_its_cores(tmp_path):
    first, second = Cores(tmp_path), Cores(tmp_path)
    held = first.claim(2)
    second.claim(2)
    assert first.claim(2) == held


@pytest.mark.usefixtures("eight")
def test_cores_that_are_let_go_of_are_free(tmp_path):
    first, second = Cores(tmp_path), Cores(tmp_path)
    held = first.claim(8)
    first.release()
    assert second.claim(8) == held


HOLDER = """
import sys
from pathlib import Path
from linkner_ray.llm.backends import cores as module
module.usable_cores = lambda: list(range(8))  # also where a container may bind none
cores = module.Cores(Path(sys.argv[1]))
print(*cores.claim(1), flush=True)
sys.stdin.read()
"""


@pytest.mark.usefixtures("eight")
def test_cores_of_a_killed_process_are_free(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    theirs = int(process.stdout.readline())
    everything = Cores(tmp_path)
    assert everything.claim(8) == ()
    process.kill()
    process.communicate()
    assert theirs in everything.claim(8)
    everything.release()


def test_what_is_started_meanwhile_runs_on_them_and_the_thread_afterwards_as_before():
    before = os.sched_getaffinity(0)
    core = min(before)
    with started_on([core]):
        done = subprocess.run(
            [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert done.stdout.split() == [str(core)]
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.cfs_quota_us": "400000\n", "cpu.cfs_period_us": "100000\n"}, 4.0),
    ],
)
def test_a_share_of_time_is_read(tmp_path, files, cpus):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert module._quota(tmp_path / "cpu.max", tmp_path) == cpus


def test_a_container_with_a_share_of_the_machines_time_binds_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_quota", lambda: 0.5)
    assert usable_cores() == []
    assert Cores(tmp_path).claim(1) == ()


def test_siblings_of_a_physical_core_come_after_all_physical_ones(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(module, "_quota", lambda: None)
    # cores 0 and 1 are two threads of one, 2 and 3 of another
    monkeypatch.setattr(module, "_place_among_siblings", lambda core: core % 2)
    assert usable_cores() == [0, 2, 1, 3]


@pytest.mark.parametrize(
    ("parts", "cores", "bind"),
    [(1, (4, 5), "nobind"), (2, (4, 5, 6, 7), "4,5|6,7"), (2, (), "nobind")],
)
def test_parts_of_a_model_divide_the_cores(monkeypatch, parts, cores, bind):
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS", "VLLM_ENABLE_V1_MULTIPROCESSING"):
        monkeypatch.setenv(name, "")
    config = LlmConfig(model="judge", tensor_parallel_size=parts, num_threads=2)
    _set_cpu_environment(config, cores)
    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == bind
