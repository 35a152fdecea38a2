import signal
import subprocess
import sys

from linkner_ray.fault_injection import VARIABLE, arm, fault_point

POINTS_PASSED = (
    "from linkner_ray.fault_injection import fault_point\nfor _ in range({}): fault_point('write')"
)


def passings(number):
    return subprocess.run(
        [sys.executable, "-c", POINTS_PASSED.format(number)], check=False
    ).returncode


def test_the_passing_that_was_asked_for_kills_once_over_all_processes(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    last = arm(tmp_path, "write", passing=3)
    arm(tmp_path, "rename", passing=0)
    assert passings(2) == 0
    assert last.exists()
    assert passings(5) == -signal.SIGKILL
    assert not last.exists()
    assert passings(5) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["rename-0000-kill"]


def test_points_are_off_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    arm(tmp_path, "write", passing=0)
    fault_point("write")
