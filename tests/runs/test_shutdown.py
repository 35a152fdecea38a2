import hashlib
import os
import signal
import threading
import time

import pytest

from linkner_ray.runs.shutdown import exit_on_signal
from tests.in_process import status_of_child

TERM, INT = signal.SIGTERM, signal.SIGINT


def stopped_while(work, end, *numbers):
    """Exit code of a process that gets signals some moments after it began to work."""

    def child():
        with exit_on_signal() as shutdown:
            shutdown.end = end
            for wait, number in enumerate(numbers, start=1):
                threading.Timer(0.2 * wait, os.kill, (os.getpid(), number)).start()
            work()

    return status_of_child(child)


def busy_in_c():
    """Minutes in which no handler of Python runs."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)


@pytest.mark.parametrize(("number", "name", "code"), [(TERM, "SIGTERM", 143), (INT, "Ctrl-C", 130)])
def test_a_process_ends_at_once_though_its_main_thread_is_not_in_python(capfd, number, name, code):
    assert stopped_while(busy_in_c, lambda: "all is put away", number) == code
    assert capfd.readouterr().err == f"linkner: stopped by {name}: all is put away\n"


def test_a_process_ends_though_putting_away_fails():
    assert stopped_while(busy_in_c, lambda: str(1 // 0), TERM) == 143


def test_a_second_signal_does_not_wait_for_what_is_put_away(capfd):
    assert stopped_while(busy_in_c, lambda: time.sleep(300) or "", INT, INT) == 130
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [None, ValueError])
def test_without_a_signal_the_handlers_before_are_back(error):
    before = [signal.getsignal(number) for number in (TERM, INT)]
    threads = threading.active_count()
    try:
        with exit_on_signal():
            assert signal.getsignal(TERM) is not before[0]
            assert signal.getsignal(INT) is not before[1]
            if error:
                raise error
    except ValueError:
        pass
    assert [signal.getsignal(number) for number in (TERM, INT)] == before
    assert threading.active_count() == threads
