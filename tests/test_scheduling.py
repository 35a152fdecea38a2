import os
import subprocess
import sys


def test_a_lost_worker_fails_one_test_and_what_it_had_left_is_run(tmp_path):
    (tmp_path / "test_0.py").write_text("def test_one(): pass\ndef test_two(): pass\n")
    (tmp_path / "test_1.py").write_text(
        "import os\ndef test_before(): pass\ndef test_lost(): os._exit(3)\ndef test_after(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "tests.scheduling"]
    done = subprocess.run(
        [*command, "-n", "1", "--dist", "loadfile", "--no-loadscope-reorder"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 1, done.stderr
    assert "worker 'gw0' crashed while running 'test_1.py::test_lost'" in done.stdout
    assert "1 failed, 4 passed" in done.stdout
