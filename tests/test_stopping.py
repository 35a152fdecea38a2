import os
import signal

import pytest

from linkner_ray.errors import StoppedError
from linkner_ray.stopping import stop_on_sigterm


@pytest.fixture(autouse=True)
def handler():
    """What SIGTERM did before."""
    before = signal.getsignal(signal.SIGTERM)
    yield before
    signal.signal(signal.SIGTERM, before)


def test_the_first_sigterm_stops_and_a_second_does_not_disturb_the_end():
    steps = []

    def work():
        with stop_on_sigterm():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except Exception:  # noqa: BLE001 - what retries catches no more than this
                steps.append("held")
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                steps.append("ended")

    with pytest.raises(StoppedError):
        work()
    assert steps == ["ended"]


@pytest.mark.parametrize("error", [None, ValueError])
def test_without_a_signal_the_handler_before_is_back(handler, error):
    try:
        with stop_on_sigterm():
            assert signal.getsignal(signal.SIGTERM) is not handler
            if error:
                raise error
    except ValueError:
        pass
    assert signal.getsignal(signal.SIGTERM) is handler
