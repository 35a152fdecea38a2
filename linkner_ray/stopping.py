"""SIGTERM, as `ray job stop` sends it, ends what a process is doing in good order."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from linkner_ray.errors import StoppedError


class StopSignal(BaseException):
    """SIGTERM came. No `Exception`, so that whoever retries or counts failures does not hold it."""


@contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Inside, the first SIGTERM raises `StopSignal` in the main thread; later ones do nothing.

    To be entered in the main thread, after `ray.init`, which has a handler of its own.

    Raises:
        StoppedError: If the signal came and nobody inside said more about it.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        # `ray job stop` signals a job's whole family, and a shell may pass its signal on besides.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise StopSignal

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except StopSignal:
        raise StoppedError("stopped by SIGTERM") from None
    finally:
        # After a signal comes the end of the process, which a second one must not disturb.
        if signal.getsignal(signal.SIGTERM) is stop:
            signal.signal(signal.SIGTERM, before)
