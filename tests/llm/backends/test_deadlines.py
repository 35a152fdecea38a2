"""Time limits, on servers that take their time; a limit is 0.1 s."""

import asyncio

import pytest

from linkner_ray.llm.backends.deadlines import Deadlines, SilenceError

LIMIT = 0.1


async def outcomes(*servers):
    """What becomes of requests that are sent at once, in this order, and after how long."""
    deadlines = Deadlines(LIMIT)
    clock = asyncio.get_running_loop().time
    begun = clock()

    async def ask(reply_after):
        try:
            async with deadlines.limited():
                await asyncio.sleep(reply_after)
        except SilenceError:
            return "silence", clock() - begun
        except TimeoutError:
            return "too slow", clock() - begun
        return "reply", clock() - begun

    return await asyncio.gather(*map(ask, servers))


def test_waiting_for_others_costs_nothing():
    # one after the other, each in half the time a request may take
    found = asyncio.run(outcomes(*(LIMIT / 2 * n for n in range(1, 7))))
    assert [what for what, _ in found] == ["reply"] * 6
    assert found[-1][1] > 2.5 * LIMIT


def test_a_request_that_gets_no_reply_while_others_do_is_slow():
    found = asyncio.run(outcomes(60, *(LIMIT / 4 * n for n in range(1, 4))))
    assert [what for what, _ in found] == ["too slow", "reply", "reply", "reply"]
    assert LIMIT * 0.9 < found[0][1] < 2 * LIMIT


def test_each_of_several_that_get_no_reply_has_a_time_of_its_own():
    found = asyncio.run(outcomes(60, 60, LIMIT / 2))
    assert [what for what, _ in found] == ["too slow", "silence", "reply"]
    assert found[1][1] > 1.9 * LIMIT


def test_others_may_be_ended_and_are_not_taken_for_silence():
    deadlines = Deadlines(LIMIT)

    async def first():
        with pytest.raises(SilenceError):
            async with deadlines.limited():
                await asyncio.sleep(60)
        deadlines.end_all()

    async def second():
        with pytest.raises(TimeoutError) as caught:
            async with deadlines.limited():
                await asyncio.sleep(60)
        return type(caught.value)

    async def both():
        return await asyncio.wait_for(asyncio.gather(first(), second()), timeout=5 * LIMIT)

    assert asyncio.run(both())[1] is TimeoutError
