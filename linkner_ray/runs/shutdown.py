"""SIGTERM, as `ray job stop` sends it, and Ctrl-C end a command in good order and at once.

`ray job stop` waits 3 seconds by default before it kills. A handler in Python runs in the main
thread, which may be inside C++ for longer, and an error raised there comes out as another one. So
the signal's number goes into a pipe, and a thread that waits for it ends the process. What other
processes are writing then is whole or not there, as after a kill.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from linkner_ray.logs import progress, say_last

NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
"""Signals that end a command; its exit code is 128 + the number, as shells say."""

FROM_THE_BEGINNING = "the same command begins anew"


@dataclass(slots=True)
class Shutdown:
    """What is to be done when a signal comes."""

    end: Callable[[], str] = lambda: FROM_THE_BEGINNING
    """Puts away what must not stay, from another thread than the main one; says what is kept and
    how to go on."""


@contextmanager
def exit_on_signal(end: Callable[[], str] | None = None) -> Iterator[Shutdown]:
    """Inside, SIGTERM and Ctrl-C call `Shutdown.end` and end the process with 143 or 130.

    A second signal ends it without waiting for that. To be entered in the main thread, after
    `ray.init`, which sets a handler of its own.
    """
    shutdown = Shutdown() if end is None else Shutdown(end)
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)

    def wait() -> None:
        ending: list[threading.Thread] = []
        while number := os.read(receiving, 1):
            if number[0] not in NAMES:
                continue
            if ending:
                os._exit(128 + number[0])
            ending.append(threading.Thread(target=_exit, args=(shutdown, number[0]), daemon=True))
            ending[0].start()

    # Without a handler in Python no number goes into the pipe.
    before = {number: signal.signal(number, lambda *_: None) for number in NAMES}
    wakeup = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    try:
        yield shutdown
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(sending)
        waiting.join()
        os.close(receiving)


def _exit(shutdown: Shutdown, number: int) -> None:
    try:
        sentence = f"stopped by {NAMES[signal.Signals(number)]}: {shutdown.end()}"
        for child in multiprocessing.active_children():  # an engine; no handler at exit will run
            child.terminate()
        progress.stop()
        sys.stdout.flush()
        say_last(sentence, exit_code=128 + number)
    finally:
        os._exit(128 + number)
