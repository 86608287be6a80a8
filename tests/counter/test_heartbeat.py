"""Heartbeats in the background keep an idle instance alive all the time, not only when somebody
happens to look (R4, R5, R19). The clock is virtual, and somebody looks again and again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import fakeredis
import pytest

from distkit import StrictInstanceAwareCounter
from distkit.core.instance import Reply, Request
from distkit.core.pulse import BEATS, RETRIES
from distkit.testing import driver_of
from distkit.threads import Heart
from tests.harness.virtual import REQUEST_LOST, World

THRESHOLDS = [600, 1_000, 30_000]
LOOKS = 60
"""How often somebody looks in the time of a threshold."""


@pytest.fixture(params=THRESHOLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(request.param)
    yield world
    world.close()


async def _is_there_throughout(world: World, thresholds: int) -> None:
    for _ in range(thresholds * LOOKS):
        await asyncio.sleep(world.threshold_ms / 1000 / LOOKS)
        assert await world.total("k") == 1


def test_an_idle_task_is_there_throughout(world: World) -> None:
    counter = world.join()

    async def live() -> None:
        async with counter:
            await counter.inc("k")
            await _is_there_throughout(world, 4)
            heart = driver_of(counter).heart
        assert await world.total("k") == 0
        assert heart is not None
        assert heart.done()
        assert driver_of(counter).heart is None

    world.run(live())


def test_a_task_whose_every_other_heartbeat_fails_is_there_throughout(world: World) -> None:
    """A heartbeat that failed is sent again soon enough."""
    counter = world.join()

    async def live() -> None:
        async with counter:
            await counter.inc("k")
            for _ in range(4):
                world.failures.extend([REQUEST_LOST] * 2)
                await _is_there_throughout(world, 1)

    world.run(live())


def test_a_task_that_has_left_its_block_is_heard_no_more(world: World) -> None:
    counter = world.join()

    async def live() -> int:
        async with counter:
            await counter.inc("k")
        before = world.requests
        await asyncio.sleep(5 * world.threshold_ms / 1000)
        return world.requests - before

    assert world.run(live()) == 0


def test_a_task_whose_heartbeat_failed_goes_back_to_its_usual_interval(world: World) -> None:
    counter, sent = world.join(), list[float]()

    async def live() -> None:
        driver = driver_of(counter)
        send = driver.send

        async def noted(request: Request) -> Reply:
            sent.append(world.loop.time() * 1000)
            return await send(request)

        driver.send = noted
        async with counter:
            await counter.inc("k")
            world.failures.append(REQUEST_LOST)
            await asyncio.sleep(3.2 * world.threshold_ms / 1000)

    world.run(live())
    parts = [(after - before) / world.threshold_ms for before, after in pairwise(sent)]
    waits = [part for part in parts if part > 1 / 20]  # some heartbeats take several requests
    assert waits[:4] == pytest.approx([1 / BEATS, 1 / RETRIES, 1 / BEATS, 1 / BEATS], abs=0.02)


def test_idle_instances_do_not_stop_the_time_of_those_that_died(world: World) -> None:
    """Each heartbeat comes before the one that was promised is overdue (R19). If it came later,
    Redis would look as if it had been out of reach, and nobody would ever be dead (R5)."""
    counter, crashed = world.join(), world.join()

    async def live() -> None:
        async with counter:
            await counter.inc("k")
            await crashed.inc("k")
            step = world.threshold_ms / 1000 / LOOKS
            await asyncio.sleep((LOOKS - 2) * step)
            assert await world.total("k") == 2
            await asyncio.sleep(4 * step)
            assert await world.total("k") == 1

    world.run(live())


# --- Threads -------------------------------------------------------------------------------------


class VirtualEvent(threading.Event):
    """An event for which a heart waits in virtual time. While it waits, somebody looks.

    Args:
        look: called again and again; it moves the clock by so many ms, and looks.
        until_ms: when the event is set.
    """

    def __init__(self, look: Callable[[float], None], until_ms: float) -> None:
        super().__init__()
        self._look = look
        self._left_ms = until_ms
        self.waits_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits_s.append(timeout)
        part = timeout * 1000 / 20
        for _ in range(20):
            self._look(part)
            self._left_ms -= part
        return self._left_ms < 1


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_an_idle_thread_is_there_throughout(threshold: int) -> None:
    """The thread of the heart is this one."""
    now = [1_000_000.0]

    def counter() -> StrictInstanceAwareCounter:
        return StrictInstanceAwareCounter(
            fakeredis.FakeRedis(server=server),
            "p",
            dead_instance_threshold_ms=threshold,
            clock_ms=lambda: round(now[0]),
        )

    def look(ms: float) -> None:
        now[0] += ms
        assert somebody.get("k") == (1, 0)

    server = fakeredis.FakeServer()
    mine, somebody = counter(), counter()
    mine.inc("k")
    heart = Heart(driver_of(mine))
    event = VirtualEvent(look, 4 * threshold)
    heart._stopped = event
    heart.run()
    assert len(event.waits_s) == 4 * BEATS
    assert set(event.waits_s) == {threshold / 1000 / BEATS}


def test_a_thread_whose_heartbeat_fails_tries_again_sooner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counter = StrictInstanceAwareCounter(
        fakeredis.FakeRedis(), "p", dead_instance_threshold_ms=1_200
    )
    driver = driver_of(counter)
    failures = [True, False]

    def heartbeat() -> None:
        if failures and failures.pop(0):
            raise ConnectionError("no route to host")

    monkeypatch.setattr(driver, "heartbeat", heartbeat)
    heart = Heart(driver)
    event = VirtualEvent(lambda ms: None, 1_200)
    heart._stopped = event
    heart.run()
    beat, again = 1.2 / BEATS, 1.2 / RETRIES
    assert event.waits_s[:3] == [beat, again, beat]


def test_a_block_ends_when_its_heartbeat_thread_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the thread is in the middle of a heartbeat: it must not speak after the leave."""
    counter = StrictInstanceAwareCounter(fakeredis.FakeRedis(), "p", dead_instance_threshold_ms=90)
    driver = driver_of(counter)
    began, may_end = threading.Event(), threading.Event()

    def clean_up() -> None:
        began.set()
        may_end.wait(10)

    monkeypatch.setattr(driver, "clean_up", clean_up)
    with counter:
        heart = driver.heart
        assert heart is not None
        assert began.wait(10)
        threading.Timer(0.2, may_end.set).start()
    assert not heart.is_alive()
    assert driver.heart is None
