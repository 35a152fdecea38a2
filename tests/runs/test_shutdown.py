import hashlib
import os
import signal
import threading

import pytest

from linkner_ray.runs.shutdown import exit_on_sigterm
from tests.in_process import status_of_child


def stopped_while(work, end):
    """Exit code of a process that gets SIGTERM a moment after it began to work."""

    def child():
        with exit_on_sigterm() as shutdown:
            shutdown.end = end
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
            work()

    return status_of_child(child)


def busy_in_c():
    """Minutes in which no handler of Python runs."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)


def test_a_process_ends_at_once_though_its_main_thread_is_not_in_python(capfd):
    assert stopped_while(busy_in_c, lambda: "all is put away") == 143
    assert capfd.readouterr().err == "linkner: all is put away\n"


def test_a_process_ends_though_putting_away_fails():
    assert stopped_while(busy_in_c, lambda: str(1 // 0)) == 143


@pytest.mark.parametrize("error", [None, ValueError])
def test_without_a_signal_the_handler_before_is_back(error):
    before = signal.getsignal(signal.SIGTERM)
    threads = threading.active_count()
    try:
        with exit_on_sigterm():
            assert signal.getsignal(signal.SIGTERM) is not before
            if error:
                raise error
    except ValueError:
        pass
    assert signal.getsignal(signal.SIGTERM) is before
    assert threading.active_count() == threads
