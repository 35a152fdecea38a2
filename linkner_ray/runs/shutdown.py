"""SIGTERM, as `ray job stop` sends it, ends a run in good order and at once.

`ray job stop` waits 3 seconds by default before it kills. A handler in Python runs in the main
thread, which may be inside Ray's C++ for longer, and an error raised there comes out as another
one. So the signal's number goes into a pipe, and a thread that waits for it ends the process. What
other processes are writing then is whole or not there, as after a kill.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from linkner_ray.logs import say_last

EXIT_CODE = 143
"""128 + SIGTERM, what shells say."""


@dataclass(slots=True)
class Shutdown:
    """What is to be done when SIGTERM comes."""

    end: Callable[[], str] = lambda: "stopped by SIGTERM"
    """Puts away what must not stay, from another thread than the main one, and says a sentence."""


@contextmanager
def exit_on_sigterm() -> Iterator[Shutdown]:
    """Inside, SIGTERM calls `Shutdown.end` and ends the process with code 143.

    To be entered in the main thread, after `ray.init`, which sets a handler of its own.
    """
    shutdown = Shutdown()
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)

    def wait() -> None:
        while number := os.read(receiving, 1):
            if number[0] == signal.SIGTERM:
                _exit(shutdown)

    # Without a handler in Python no number goes into the pipe.
    handler = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    wakeup = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    try:
        yield shutdown
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, handler)
        os.close(sending)
        waiting.join()
        os.close(receiving)


def _exit(shutdown: Shutdown) -> None:
    try:
        sentence = shutdown.end()
        sys.stdout.flush()
        say_last(sentence, exit_code=EXIT_CODE)
    finally:
        os._exit(EXIT_CODE)
