"""Time limits for requests to a server that works on many of them and lets the others wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SilenceError(TimeoutError):
    """The server sent no reply at all for as long as one request may take."""


class Deadlines:
    """Limits the time a server works on a request, not the time the request waits for its turn.

    Servers take requests up in the order in which they come. So the time of a request begins when
    it is the oldest one under way: by then the server has surely taken it up. The other requests
    wait without a limit, since each becomes the oldest in time. Lives on one event loop.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._under_way: dict[asyncio.Timeout, None] = {}
        self._begun = self._end = 0.0  # of the time of the oldest
        self._last_reply = 0.0

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Hold whatever waits for one reply inside to its deadline.

        Raises:
            SilenceError: If the time is over, and no other request got a reply meanwhile.
            TimeoutError: If it is over while others got replies, or ended by `end_all`.
        """
        is_silent = False
        try:
            async with asyncio.timeout(None) as timeout:
                self._under_way[timeout] = None
                self._watch_oldest()
                try:
                    yield
                    self._last_reply = asyncio.get_running_loop().time()
                finally:
                    is_silent = timeout.when() == self._end and self._last_reply <= self._begun
                    del self._under_way[timeout]
                    self._watch_oldest()
        except TimeoutError as error:
            raise SilenceError if is_silent else error from None

    def end_all(self) -> None:
        """End the time of everything under way."""
        for timeout in self._under_way:
            if not timeout.expired():
                timeout.reschedule(asyncio.get_running_loop().time())

    def _watch_oldest(self) -> None:
        """Begin the time of the request that is the oldest now, unless it has begun."""
        oldest = next(iter(self._under_way), None)
        if oldest is not None and oldest.when() is None:
            self._begun = asyncio.get_running_loop().time()
            self._end = self._begun + self._limit_s
            oldest.reschedule(self._end)
