import asyncio
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from linkner_ray.errors import BackendError
from linkner_ray.labels import Label, LabelSet
from linkner_ray.llm.backends import protocol
from linkner_ray.llm.backends.protocol import Failures, LoopThread, StartOnce, ask_concurrently
from linkner_ray.llm.context import Question
from linkner_ray.llm.prompts import Answer, PromptBuilder, Verdict

LABELS = LabelSet(name="one", labels=(Label(id="PER", name="person", description="People."),))
REQUEST = PromptBuilder.for_label_set(
    LABELS, ("A", "B"), model="some-llm", decoding="one token"
).request(Question("Ada", 0, 3))


def test_importing_the_llm_side_loads_no_engine_and_no_client():
    code = (
        "import sys, linkner_ray.llm.backends, linkner_ray.llm.chat;"
        "import linkner_ray.llm.backends.vllm_engine, linkner_ray.llm.backends.endpoint;"
        "print(sorted({'vllm', 'openai', 'transformers', 'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def loop():
    loop = LoopThread("test-loop")
    yield loop
    loop.close()


def test_coroutines_of_several_threads_run_on_the_one_loop(loop):
    both = asyncio.Barrier(2)

    async def meet():
        await both.wait()  # passes only if two run at once
        return threading.current_thread().name

    with ThreadPoolExecutor(2) as pool:
        names = list(pool.map(lambda _: loop.run(meet()), range(2)))
    assert names == ["test-loop", "test-loop"]


def test_an_error_reaches_the_caller_as_it_is(loop):
    async def fail():
        raise BackendError("gone", retryable=True)

    with pytest.raises(BackendError, match="gone"):
        loop.run(fail())


def test_closing_cancels_what_is_under_way_and_may_be_done_twice():
    loop = LoopThread("test-loop")
    begun = threading.Event()

    async def wait():
        begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(loop.run, wait())
        begun.wait()
        loop.close()
        loop.close()
        with pytest.raises(CancelledError):
            future.result()


def test_answers_come_in_the_order_of_the_questions(loop):
    async def ask(delay):
        await asyncio.sleep(delay)
        return Answer(verdict=Verdict.FAILED, key=str(delay))

    delays = [0.02, 0.0, 0.01]
    answers = loop.run(ask_concurrently(delays, ask))
    assert [answer.key for answer in answers] == [str(delay) for delay in delays]


def test_the_first_error_ends_the_rest(loop):
    cancelled = []

    async def ask(item):
        if item == 0:
            raise BackendError("refused", retryable=False)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    with pytest.raises(BackendError, match="refused"):
        loop.run(ask_concurrently([0, 1, 2], ask))
    assert sorted(cancelled) == [1, 2]


def test_failures_are_counted_by_reason_and_each_reason_is_logged_once(caplog):
    failures = Failures()
    with caplog.at_level(logging.WARNING, logger=protocol.__name__):
        answers = [failures.answer(REQUEST, "timeout", "no reply") for _ in range(3)]
        failures.answer(REQUEST, "rejected", "too long")
    assert answers[0] == Answer(verdict=Verdict.FAILED, key=REQUEST.key)
    assert failures.counts == {"timeout": 3, "rejected": 1}
    assert [record.args[2] for record in caplog.records] == ["timeout", "rejected"]


@pytest.mark.parametrize("error", [None, BackendError("refused", retryable=False)])
def test_threads_that_need_a_start_at_once_start_once_and_are_told_the_same(error):
    everybody, starts = threading.Barrier(4), []

    def start():
        starts.append(1)
        time.sleep(0.05)  # the others come meanwhile
        if error:
            raise error

    once = StartOnce(start)

    def need(_):
        everybody.wait()
        try:
            once()
        except BackendError as raised:
            return raised
        return None

    assert not once
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(need, range(4)))
    assert (len(starts), told) == (1, [error] * 4)
    assert bool(once) is (error is None)
