"""A world in virtual time: an event loop that never sleeps, and a network that fails as it is told.

Counters on a fake Redis share a wall clock and the loop's time. A wait takes no real time, so a
thousand outages of any length take seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import fakeredis
import fakeredis.aioredis

from distkit.asyncio import StrictInstanceAwareCounter
from distkit.core.instance import Reply, Request
from distkit.redis.meaning import Abandoned
from distkit.redis.script import Wall
from distkit.redis.sync import transport_for
from distkit.testing import driver_of, use_monotonic

REFUSED = "the request is not sent"
REQUEST_LOST = "the request is lost"
REPLY_LOST = "the reply is lost"
FAILURES = (REFUSED, REQUEST_LOST, REPLY_LOST)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to whatever is due next."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1_000.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def jump(timeout: float | None = None) -> Any:
            events = select(0 if timeout is not None else 0.001)
            if not events and timeout:
                self._now += timeout
            return events

        selector.select = jump

    def time(self) -> float:
        return self._now


class World:
    """Counters on a fake Redis.

    Attributes:
        loop: the event loop; `run` runs a coroutine in it.
        is_down: whether there is an outage.
        failures: what becomes of the next requests.
        requests: how many there were.
    """

    def __init__(self, threshold_ms: int = 30_000) -> None:
        self.loop = VirtualLoop()
        self.server = fakeredis.FakeServer()
        self.threshold_ms = threshold_ms
        self.is_down = False
        self.failures: deque[str] = deque()
        self.requests = 0

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.run(asyncio.sleep(0.01))
        self.loop.close()

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def wall_ms(self) -> int:
        return round(self.loop.time() * 1000)

    def client(self) -> Any:
        return fakeredis.aioredis.FakeRedis(server=self.server)

    def join(self) -> StrictInstanceAwareCounter:
        """Another instance."""

        async def make() -> StrictInstanceAwareCounter:
            counter = StrictInstanceAwareCounter(
                self.client(),
                "p",
                dead_instance_threshold_ms=self.threshold_ms,
                clock_ms=self.wall_ms,
            )
            use_monotonic(counter, self.loop.time)
            self._attach(counter)
            return counter

        made: StrictInstanceAwareCounter = self.run(make())
        return made

    def _attach(self, counter: StrictInstanceAwareCounter) -> None:
        driver: Any = driver_of(counter)
        client = fakeredis.FakeRedis(server=self.server)
        there = transport_for(client, Wall(self.wall_ms), 10.0)

        async def send(request: Request) -> Reply:
            self.requests += 1
            await asyncio.sleep(0.001)
            failure = REFUSED if self.is_down else self.failures.popleft() if self.failures else ""
            if failure in (REFUSED, REQUEST_LOST):
                request.arrived = request.arrived or failure == REQUEST_LOST
                raise Abandoned from ConnectionError(failure)
            reply: Reply = there.send(request)  # takes no time: it is there, or it is not
            if failure == REPLY_LOST:
                raise Abandoned from ConnectionError(failure)
            await asyncio.sleep(0.001)
            return reply

        driver.send = send

    async def total(self, key: str) -> int:
        """The total of a key, as somebody sees it who holds nothing."""
        observer = StrictInstanceAwareCounter(
            self.client(),
            "p",
            dead_instance_threshold_ms=self.threshold_ms,
            clock_ms=self.wall_ms,
        )
        return (await observer.get(key)).cumulative


class Holder:
    """A task that holds a key until it is told to leave, or cancelled.

    Attributes:
        key, count: what it holds.
        is_inside: whether it holds.
    """

    def __init__(self, world: World, key: str, count: int, context: Any) -> None:
        self.key, self.count = key, count
        self.is_inside = False
        self._leave = asyncio.Event()
        self.task = world.loop.create_task(self._hold(context))
        self.task.add_done_callback(lambda _: self.error)  # asyncio logs errors that nobody saw

    async def _hold(self, context: Any) -> None:
        async with context:
            self.is_inside = True
            try:
                await self._leave.wait()
            finally:
                self.is_inside = False

    def leave(self) -> None:
        self._leave.set()

    def cancel(self) -> None:
        self.task.cancel()

    @property
    def error(self) -> BaseException | None:
        """What it ended with."""
        if not self.task.done() or self.task.cancelled():
            return None
        return self.task.exception()
