"""The lock with real processes, on disk and on S3."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from linkner_ray.errors import ConfigError, LockLostError
from linkner_ray.runs.lock import OutputLock
from linkner_ray.storage import Folder

HOLD = """
import sys
from linkner_ray.runs.lock import OutputLock
from linkner_ray.storage import Folder
url, timeout_s = sys.argv[1], float(sys.argv[2])
with OutputLock(Folder.at(url), url=url, timeout_s=timeout_s, say=print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["local", "s3"])
def url(request, tmp_path):
    """An output that is not there yet."""
    if request.param == "local":
        return str(tmp_path / "out")
    request.getfixturevalue("s3")
    Folder.at("s3://bucket").filesystem.mkdir("bucket")
    return "s3://bucket/out"


def lock(url, *, timeout_s=1.2, say=lambda _: None):
    return OutputLock(Folder.at(url), url=url, timeout_s=timeout_s, say=say)


def locks(url):
    return Folder.at(url).names("_lock")


@contextmanager
def another_process(url, timeout_s=1.2):
    """A process that holds the output until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, url, str(timeout_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def on_another_machine(url, number=1):
    """Let a lock look as if a process elsewhere had taken it."""
    folder = Folder.at(url)
    name = f"_lock/{number:06d}.json"
    owner = json.loads(folder.read_bytes(name))
    content = json.dumps({**owner, "machine": "another", "name": "eve@far-away, process 7"})
    folder.write_whole(name, content.encode())


def test_after_a_clean_end_no_lock_is_left(url):
    with lock(url):
        assert locks(url) == ["000001.json"]
    assert locks(url) == []
    with pytest.raises(RuntimeError), lock(url):
        raise RuntimeError
    assert locks(url) == []


def test_files_of_others_beside_the_locks_stay(url):
    folder = Folder.at(url)
    for name in ("0-notes.txt", "1-old.json"):
        folder.write_whole(f"_lock/{name}", b"mine")
    for _ in range(2):
        with lock(url):
            assert locks(url) == ["0-notes.txt", "000001.json", "1-old.json"]
    assert locks(url) == ["0-notes.txt", "1-old.json"]


def test_a_live_owner_is_named_to_whoever_comes_second(url):
    with another_process(url) as owner:
        with pytest.raises(ConfigError, match=rf"being written by .*process {owner.pid} since"):
            lock(url).__enter__()
        assert locks(url)[0] == "000001.json"


def test_a_process_killed_on_this_machine_is_followed_at_once(url):
    with another_process(url, timeout_s=3600) as owner:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        with lock(url, say=pytest.fail) as mine:
            assert locks(url) == ["000002.json"]
            mine.confirm()
    assert locks(url) == []


def test_a_lock_of_another_machine_is_taken_over_after_silence_and_not_before(url):
    with another_process(url) as owner:
        os.kill(owner.pid, signal.SIGSTOP)
        on_another_machine(url)
        heard = []
        started = time.monotonic()
        with lock(url, say=heard.append):
            assert time.monotonic() - started >= 1.2
            assert [name for name in locks(url) if name.endswith("json")] == ["000002.json"]
        assert "eve@far-away" in heard[0]


def test_a_heart_that_beats_on_another_machine_is_not_taken_over(url):
    with lock(url, timeout_s=1.2) as owner:
        on_another_machine(url)
        owner._content = Folder.at(url).read_bytes("_lock/000001.json")
        with pytest.raises(ConfigError, match="eve@far-away"):
            lock(url).__enter__()
        owner.confirm()
    assert locks(url) == []


def test_an_owner_that_was_taken_over_stops_and_leaves_the_other_alone(url):
    with lock(url, timeout_s=3600) as silent:
        on_another_machine(url)
        folder = Folder.at(url)
        owner = json.loads(folder.read_bytes("_lock/000001.json"))
        folder.write_whole("_lock/000001.json", json.dumps({**owner, "timeout_s": 0.1}).encode())
        with lock(url) as quick:
            silent.check()  # its heart has not looked since
            with pytest.raises(LockLostError, match=rf"taken over by .*process {os.getpid()}"):
                silent.confirm()
            silent.__exit__()
            quick.confirm()
            assert "000002.json" in locks(url)
    assert locks(url) == []


def test_a_heart_that_finds_another_owner_tells_the_run(url):
    with lock(url, timeout_s=0.3) as owner:
        assert Folder.at(url).create_whole("_lock/000002.json", owner._content)
        owner._beating.join(30)
        with pytest.raises(LockLostError):
            owner.check()
    assert "000002.json" in locks(url)


def test_of_many_at_once_one_gets_the_output(url):
    start, inside, refused, ended = threading.Barrier(8), [], [], threading.Event()

    def want():
        start.wait()
        try:
            with lock(url):
                inside.append(1)
                ended.wait(60)
        except ConfigError:
            refused.append(1)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(inside) + len(refused) < 8:
        time.sleep(0.01)
    ended.set()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (1, 7)
    assert locks(url) == []


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("{}"), "is no lock"),
        (lambda path: path.symlink_to("gone"), "is listed and cannot be read"),
    ],
)
def test_what_is_no_lock_is_named(tmp_path, monkeypatch, write, message):
    monkeypatch.setattr("linkner_ray.runs.lock.GONE_S", 0.0)
    (tmp_path / "_lock").mkdir()
    write(tmp_path / "_lock/000001.json")
    with pytest.raises(ConfigError, match=f"_lock/000001.json {message}"):
        lock(str(tmp_path)).__enter__()


def test_hidden_files_of_a_killed_owner_go_with_the_lock(tmp_path):
    (tmp_path / "_lock").mkdir()
    hidden = tmp_path / "_lock" / f".000001.json.linkner-{'0' * 32}"
    hidden.write_text("half")
    with lock(str(tmp_path)):
        pass
    assert list((tmp_path / "_lock").iterdir()) == []


def test_where_nothing_can_be_written_the_reason_is_given(tmp_path):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"out cannot be locked: .*hard links"):
        lock(str(tmp_path / "out")).__enter__()
