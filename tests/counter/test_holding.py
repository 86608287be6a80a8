"""Holding on real servers: outages, dead and paused holders, many waiters, odd places (R20)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

import distkit.asyncio
from distkit import (
    CounterOverflowError,
    CounterState,
    LimitReached,
    NotExecutedError,
    OutcomeUnknownError,
    StrictInstanceAwareCounter,
    leave_at_exit,
    lt,
)
from distkit.testing import driver_of
from tests.harness.profiles import scaled
from tests.harness.servers import RedisServer, find_binaries

OUTAGES = scaled(20)
THRESHOLD = 1_500


@pytest.fixture
def mortal() -> Iterator[RedisServer]:
    """A server of this test's own, to be killed."""
    server = RedisServer(find_binaries().binaries[-1])
    yield server
    server.stop()


def _wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


# --- Outages -------------------------------------------------------------------------------------


def test_no_outage_leaks_a_slot_that_threads_hold(mortal: RedisServer) -> None:
    """Redis is killed at any moment, for longer than all retries, and loses everything. After it is
    back and one heartbeat has passed, slots in use are holders. (They can be more than 10: whoever
    asks first after the loss finds a total that is too low; R20.)"""
    options: Any = {"retry": Retry(NoBackoff(), 1), "socket_timeout": 0.2}
    dice, stop, freeze = random.Random(13), threading.Event(), threading.Event()
    inside: dict[int, bool] = {}

    def work(number: int, counter: StrictInstanceAwareCounter) -> None:
        limit = counter.limit("k", 10)
        while not stop.is_set():
            with (
                contextlib.suppress(LimitReached, redis.exceptions.ConnectionError),
                limit.slot(timeout=0.1),
            ):
                inside[number] = True
                time.sleep(dice.random() / 10)
                while freeze.is_set():
                    time.sleep(0.01)
                inside[number] = False
            while freeze.is_set():
                time.sleep(0.01)

    with contextlib.ExitStack() as lives:
        counters = [
            lives.enter_context(
                StrictInstanceAwareCounter(
                    mortal.client(**options), "p", dead_instance_threshold_ms=THRESHOLD
                )
            )
            for _ in range(2)
        ]
        threads = [
            threading.Thread(target=work, args=(n, counters[n % 2]), daemon=True) for n in range(16)
        ]
        for thread in threads:
            thread.start()
        most, observer = 0, StrictInstanceAwareCounter(mortal.client(), "p")
        for outage in range(OUTAGES):
            time.sleep(dice.random() / 5)
            mortal.crash()
            time.sleep(0.2 + dice.random() / 3)
            mortal.restart()
            freeze.set()
            time.sleep(THRESHOLD / 3000 * 1.5 + 0.5)
            assert observer.get("k").cumulative == sum(inside.values()), outage
            most = max(most, sum(inside.values()))
            freeze.clear()
        stop.set()
        for thread in threads:
            thread.join(20)
        assert observer.get("k").cumulative == 0
        assert most > 3


def test_no_outage_leaks_a_slot_that_tasks_hold(mortal: RedisServer) -> None:
    dice = random.Random(14)

    async def work(limit: Any, inside: set[int], number: int, frozen: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(LimitReached, redis.exceptions.ConnectionError):
                async with limit.slot(timeout=0.1):
                    inside.add(number)
                    try:
                        await asyncio.sleep(dice.random() / 10)
                        await frozen.wait()
                    finally:
                        inside.discard(number)
            await asyncio.sleep(0.001)
            await frozen.wait()

    async def main() -> None:
        inside: set[int] = set()
        running = asyncio.Event()
        running.set()
        client = redis.asyncio.Redis(
            unix_socket_path=mortal.socket, retry=_no_retry(), socket_timeout=0.2
        )
        async with client, _async_counter(client) as one, _async_counter(client) as other:
            limits = [one.limit("k", 10), other.limit("k", 10)]
            tasks = [
                asyncio.ensure_future(work(limits[n % 2], inside, n, running)) for n in range(20)
            ]
            most = 0
            for outage in range(OUTAGES):
                await asyncio.sleep(dice.random() / 5)
                tasks[0].cancel()
                tasks[0] = asyncio.ensure_future(work(limits[0], inside, 100 + outage, running))
                mortal.crash()
                await asyncio.sleep(0.2 + dice.random() / 3)
                await asyncio.to_thread(mortal.restart)
                running.clear()
                await asyncio.sleep(THRESHOLD / 3000 * 1.5 + 0.5)
                observer = StrictInstanceAwareCounter(mortal.client(), "p")
                assert observer.get("k").cumulative == len(inside), outage
                most = max(most, len(inside))
                running.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await one.heartbeat()
            await other.heartbeat()
            assert (await one.get("k")).cumulative == 0
            assert most > 3

    asyncio.run(main())


def _no_retry() -> Any:
    from redis.asyncio.retry import Retry as AsyncRetry

    return AsyncRetry(NoBackoff(), 1)


def _async_counter(client: Any) -> distkit.asyncio.StrictInstanceAwareCounter:
    return distkit.asyncio.StrictInstanceAwareCounter(
        client, "p", dead_instance_threshold_ms=THRESHOLD
    )


def test_during_an_outage_leaving_does_not_wait_for_each_retry(mortal: RedisServer) -> None:
    """After a request has failed, releases are only noted for a while."""
    client = mortal.client(retry=Retry(NoBackoff(), 0), socket_timeout=0.2)
    counter = StrictInstanceAwareCounter(client, "p")
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(counter.held("k"))
        mortal.crash()
        with pytest.raises((NotExecutedError, OutcomeUnknownError)):
            counter.get("k")
        with pytest.raises((NotExecutedError, OutcomeUnknownError)):
            counter.held("k").__enter__()
        requests = _count_requests(counter)
        stack.close()
    assert len(requests) <= 5, "one a second at most"
    mortal.restart()
    assert counter.get("k") == (0, 0)


# --- Holders that die, stop, and end -------------------------------------------------------------

HOLDER = """
import sys, time, redis, distkit
counter = distkit.StrictInstanceAwareCounter(
    redis.Redis(unix_socket_path=sys.argv[1]), "p", dead_instance_threshold_ms=1_000
)
distkit.leave_at_exit(counter)
limit = counter.limit("k", 1)
assert limit.acquire(blocking=False)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(newest_server: RedisServer) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the only slot of `k` until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, newest_server.socket],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.fixture
def counter(newest_server: RedisServer) -> StrictInstanceAwareCounter:
    return StrictInstanceAwareCounter(newest_server.client(), "p", dead_instance_threshold_ms=1_000)


def test_a_killed_holders_slot_is_free_after_the_threshold(
    holder: subprocess.Popen[bytes], counter: StrictInstanceAwareCounter
) -> None:
    limit = counter.limit("k", 1)
    holder.kill()
    killed = time.monotonic()
    assert not limit.acquire(blocking=False)
    assert limit.acquire(timeout=20)
    assert 0.5 < time.monotonic() - killed < 5


def test_who_ends_gives_back_at_once(
    holder: subprocess.Popen[bytes], counter: StrictInstanceAwareCounter
) -> None:
    holder.communicate(b"\n")
    assert counter.limit("k", 1).acquire(blocking=False)


def test_a_holder_that_was_paused_for_two_thresholds_holds_what_it_held(
    holder: subprocess.Popen[bytes], counter: StrictInstanceAwareCounter
) -> None:
    """Somebody else was admitted meanwhile: two hold, and nobody is admitted until none does."""
    limit = counter.limit("k", 1)
    holder.send_signal(signal.SIGSTOP)
    assert limit.acquire(timeout=20)
    time.sleep(1)
    holder.send_signal(signal.SIGCONT)
    _wait_until(lambda: counter.get("k").cumulative == 2)
    assert limit.available() == 0
    limit.release()
    assert not limit.acquire(blocking=False)
    holder.communicate(b"\n")
    assert limit.acquire(blocking=False)


def test_a_forked_child_holds_nothing(newest_server: RedisServer) -> None:
    counter = StrictInstanceAwareCounter(newest_server.client(), "p")
    with counter.held("k"):
        child = os.fork()
        if child == 0:  # what the parent holds is not the child's to release
            code = 1
            with contextlib.suppress(BaseException):
                driver_of(counter).run(())
                code = 0 if counter.get("k") == (1, 0) else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert counter.get("k") == (1, 1)
    assert counter.get("k") == (0, 0)


# --- Waiting -------------------------------------------------------------------------------------


def _count_requests(counter: Any) -> list[float]:
    """When each request of the counter is made, from now on."""
    driver: Any = driver_of(counter)
    send, made = driver.send, list[float]()

    def counted(request: Any) -> Any:
        made.append(time.monotonic())
        return send(request)

    driver.send = counted
    return made


HOLD_S = 0.02


def test_a_thousand_tasks_wait_in_order_and_cost_a_handful_of_requests(
    newest_server: RedisServer,
) -> None:
    async def main() -> None:
        client = redis.asyncio.Redis(unix_socket_path=newest_server.socket)
        async with client, _async_counter(client) as counter:
            limit, order, inside = counter.limit("k", 10), list[int](), 0
            requests = _count_requests(counter)

            async def work(number: int) -> None:
                nonlocal inside
                async with limit.slot():
                    inside += 1
                    assert inside <= 10
                    order.append(number)
                    await asyncio.sleep(HOLD_S)
                    inside -= 1

            began = time.monotonic()
            await asyncio.gather(*map(work, range(1_000)))
            taken = time.monotonic() - began
            assert order == list(range(1_000))
            assert len(requests) <= 20 + 20 * taken
            assert await counter.get("k") == (0, 0)

    asyncio.run(main())


def test_a_thousand_threads_wait_and_cost_a_handful_of_requests(
    newest_server: RedisServer,
) -> None:
    counter = StrictInstanceAwareCounter(newest_server.client(), "p")
    limit, served = counter.limit("k", 10), list[int]()
    inside, peak, mutex = 0, 0, threading.Lock()
    requests = _count_requests(counter)

    def work(number: int) -> None:
        nonlocal inside, peak
        with limit.slot():
            with mutex:
                inside += 1
                peak = max(peak, inside)
                served.append(number)
            time.sleep(HOLD_S)
            with mutex:
                inside -= 1

    before = threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(1_000)]
    threading.stack_size(before)
    assert all(limit.acquire(blocking=False) for _ in range(10))
    began = time.monotonic()  # they poll from the first on, while others are still being started
    for thread in threads:
        thread.start()
    for _ in range(10):
        limit.release()
    for thread in threads:
        thread.join(100)
    taken = time.monotonic() - began
    assert sorted(served) == list(range(1_000))
    assert peak == 10
    assert max(abs(place - number) for place, number in enumerate(served)) <= 200, (
        "about in order: threads run when they are scheduled"
    )
    assert len(requests) <= 20 + 20 * taken
    assert counter.get("k") == (0, 0)


def test_a_process_with_many_waiters_does_not_keep_a_slot_for_ever(
    newest_server: RedisServer,
) -> None:
    """It passes a slot among its own for 2 s at most, and then others have a chance."""
    crowd, single = (StrictInstanceAwareCounter(newest_server.client(), "p") for _ in range(2))
    stop = threading.Event()
    limit = crowd.limit("k", 1)

    def work() -> None:
        while not stop.is_set():
            with limit.slot():
                time.sleep(0.005)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    _wait_until(lambda: bool(limit.available() == 0))
    try:
        assert single.limit("k", 1).acquire(timeout=30)
        single.limit("k", 1).release()
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def test_who_waits_too_long_or_is_interrupted_leaves_nothing_behind(
    newest_server: RedisServer,
) -> None:
    one, other = (StrictInstanceAwareCounter(newest_server.client(), "p") for _ in range(2))
    with one.limit("k", 1).slot():
        with pytest.raises(LimitReached) as caught, other.limit("k", 1).slot(timeout=0.1):
            pass
        assert (caught.value.key, caught.value.most) == ("k", 1)
        assert other.limit("k", 1).acquire(timeout=0.05) is False
    other.heartbeat()
    assert one.get("k") == (0, 0)
    assert driver_of(other).books.first_waiting() is None


# --- Odd places ----------------------------------------------------------------------------------


@pytest.fixture
def fake() -> StrictInstanceAwareCounter:
    """Its session is open. (fakeredis keeps the frames that see its first NOSCRIPT alive.)"""
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    counter = StrictInstanceAwareCounter(client, "p")
    counter.heartbeat()
    return counter


def test_finalizers_release(fake: StrictInstanceAwareCounter) -> None:
    limit = fake.limit("k", 3)

    class Owner:
        def __init__(self) -> None:
            assert limit.acquire()

        def __del__(self) -> None:
            limit.release()

    owner = Owner()
    assert fake.get("k") == (1, 1)
    del owner
    assert fake.get("k") == (0, 0)

    class Plain: ...

    plain = Plain()
    assert limit.acquire()
    weakref.finalize(plain, limit.release)
    assert fake.get("k") == (1, 1)
    del plain
    assert fake.get("k") == (0, 0)


def test_a_holder_that_is_forgotten_is_released(fake: StrictInstanceAwareCounter) -> None:
    fake.held("k").__enter__()
    fake.limit("k", 5).slot().__enter__()
    gc.collect()
    assert fake.get("k") == (0, 0)


def test_a_signal_handler_releases_whatever_it_interrupts(
    newest_server: RedisServer,
) -> None:
    counter = StrictInstanceAwareCounter(newest_server.client(), "p")
    limit = counter.limit("k", 10_000)
    taken = released = 0

    def handler(*_: Any) -> None:
        nonlocal released
        if released < taken:
            released += 1
            limit.release()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert limit.acquire()
            taken += 1
            counter.inc("other")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert released > 50
    assert counter.get("k") == (taken - released, taken - released)


@pytest.mark.parametrize("place", ["held", "limit"])
def test_releases_of_other_threads_and_of_the_loop_are_paid(
    newest_server: RedisServer, place: str
) -> None:
    async def main() -> None:
        client = redis.asyncio.Redis(unix_socket_path=newest_server.socket)
        async with client, _async_counter(client) as counter:
            limit = counter.limit("k", 2)
            assert await limit.acquire()
            thread = threading.Thread(target=limit.release)
            thread.start()
            thread.join()
            observer = StrictInstanceAwareCounter(newest_server.client(), "p")
            for _ in range(200):
                await asyncio.sleep(0.01)
                if observer.get("k").cumulative == 0:
                    return
            pytest.fail("nobody told Redis")

    asyncio.run(main())


# --- What it does --------------------------------------------------------------------------------


def test_held_counts_those_inside(fake: StrictInstanceAwareCounter) -> None:
    held = fake.held("k", 2)
    with held as one, held as two:
        assert (one, two) == ((2, 2), (4, 4))
    assert fake.get("k") == (0, 0)

    @fake.held("k")
    def work() -> int:
        return fake.get("k").cumulative

    assert work() == 1
    assert fake.get("k") == (0, 0)


def test_an_error_inside_gives_back_and_passes_on(fake: StrictInstanceAwareCounter) -> None:
    with pytest.raises(ZeroDivisionError), fake.held("k"), fake.limit("k", 3).slot():
        raise ZeroDivisionError
    assert fake.get("k") == (0, 0)


def test_an_epoch_that_somebody_starts_does_not_end_what_is_held(
    newest_server: RedisServer,
) -> None:
    client = newest_server.client()
    other = StrictInstanceAwareCounter(client, "p", dead_instance_threshold_ms=300)
    with StrictInstanceAwareCounter(client, "p", dead_instance_threshold_ms=300) as counter:
        with counter.held("k", 3):
            other.delete("k")
            _wait_until(lambda: other.get("k").cumulative == 3)
        assert other.get("k") == (0, 0)


def test_more_than_can_be_counted_is_refused_and_changes_nothing(
    fake: StrictInstanceAwareCounter,
) -> None:
    with fake.held("k", 2**53 - 1):
        with pytest.raises(CounterOverflowError):
            fake.held("k").__enter__()
        assert fake.get("k") == (2**53 - 1, 2**53 - 1)
        other = StrictInstanceAwareCounter(driver_of(fake).client, "p")
        with pytest.raises(CounterOverflowError):
            other.held("k").__enter__()
        assert other.get("k").instance_count == 0
    assert fake.get("k") == (0, 0)


@pytest.mark.parametrize("count", [0, -1])
def test_r20_bad_arguments_are_refused(fake: StrictInstanceAwareCounter, count: int) -> None:
    for call in (
        lambda: fake.held("k", count),
        lambda: fake.limit("k", count),
        lambda: fake.held("k", when_unreachable="refuse"),  # type: ignore[call-overload]
        lambda: fake.limit("k", 1, when_unreachable="hope"),  # type: ignore[arg-type]
        lambda: fake.limit("k", 1).slot(timeout=1, blocking=False),
        lambda: fake.limit("k", 1).acquire(timeout=-1),
        lambda: fake.held("a:b"),
    ):
        with pytest.raises(ValueError, match=r"."):
            call()
    with pytest.raises(TypeError):
        fake.limit("k", 1.5)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="had not been acquired"):
        fake.limit("k", 1).release()


def test_limits_of_different_sizes_on_a_key(fake: StrictInstanceAwareCounter) -> None:
    """The larger one keeps slots for those that matter more."""
    small, large = fake.limit("k", 1), fake.limit("k", 2)
    assert small.acquire(blocking=False)
    assert not small.acquire(blocking=False)
    assert large.acquire(blocking=False)
    assert not large.acquire(blocking=False)
    assert fake.inc_if("k", lt(2)).applied is False


def test_leave_at_exit_can_be_called_again(fake: StrictInstanceAwareCounter) -> None:
    assert leave_at_exit(fake) is fake
    assert leave_at_exit(fake) is fake
    assert fake.held("k").__enter__() == (1, 1)
    fake.__exit__(None, None, None)


def test_a_decorated_function_holds_during_each_call(fake: StrictInstanceAwareCounter) -> None:
    """By `held`, by a slot and by the limit itself; it stays the function that it was."""
    limit = fake.limit("k", 3)

    def outer(again: int) -> list[int]:
        inside = fake.get("k").cumulative
        return [inside, *(held(again - 1) if again else [])]

    for decorator in (fake.held("k", 1), limit.slot(), limit):
        held: Callable[[int], list[int]] = decorator(outer)
        assert held.__name__ == "outer"
        assert held(2) == [1, 2, 3], "a call inside a call holds one more"
        assert fake.get("k") == (0, 0)


def test_tasks_hold_and_give_back_as_threads_do() -> None:
    async def main() -> None:
        server = fakeredis.FakeServer()
        observer = StrictInstanceAwareCounter(fakeredis.FakeRedis(server=server), "p")
        async with _async_counter(fakeredis.aioredis.FakeRedis(server=server)) as counter:
            limit, held = counter.limit("k", 3), counter.held("k", 2)
            async with held as one, held as two:
                assert (one, two) == ((2, 2), (4, 4))
            assert observer.get("k") == (0, 0)
            slot = limit.slot(blocking=False)
            async with slot, slot, slot:
                assert observer.get("k").cumulative == 3
                with pytest.raises(LimitReached):
                    await slot.__aenter__()
            assert observer.get("k") == (0, 0)
            with pytest.raises(ZeroDivisionError):
                async with counter.held("k"), slot:
                    raise ZeroDivisionError
            assert observer.get("k") == (0, 0)

            async def outer(again: int) -> list[int]:
                inside = observer.get("k").cumulative
                return [inside, *(await inner(again - 1) if again else [])]

            for decorator in (counter.held("k", 1), limit.slot(), limit):
                inner = decorator(outer)
                assert inner.__name__ == "outer"
                assert await inner(2) == [1, 2, 3]
                assert observer.get("k") == (0, 0)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_task_whose_entering_is_refused_holds_nothing() -> None:
    async def main() -> None:
        server = fakeredis.FakeServer()
        async with _async_counter(fakeredis.aioredis.FakeRedis(server=server)) as counter:
            async with counter.held("k", 2**53 - 1):
                with pytest.raises(CounterOverflowError) as kept:
                    await counter.held("k").__aenter__()
                assert await counter.get("k") == (2**53 - 1, 2**53 - 1)
            assert await counter.get("k") == (0, 0)
            assert kept.value, "an error that is kept, with its traceback, keeps no slot"
            del kept
            for _ in range(3):
                async with counter.held("k") as inside:
                    assert inside == (1, 1)
            books = driver_of(counter).books
            assert books.is_unused, "nobody holds or enters any more"

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("policy", ["raise", "allow"])
def test_while_redis_cannot_be_reached_a_task_holds_if_it_is_allowed_to(policy: Any) -> None:
    """And it gives back what it held without having been counted."""

    async def main() -> None:
        server = fakeredis.FakeServer()
        observer = StrictInstanceAwareCounter(fakeredis.FakeRedis(server=server), "p")
        client = fakeredis.aioredis.FakeRedis(server=server, retry=AsyncRetry(NoBackoff(), 0))
        async with _async_counter(client) as counter:
            async with counter.held("k"):
                pass
            held = counter.held("k", 2, when_unreachable=policy)
            server.connected = False
            allowed = 0
            for _ in range(3):  # the second and third know already that it is away
                try:
                    async with held as result:
                        assert result is None
                        allowed += 1
                        server.connected = False
                except NotExecutedError:
                    assert policy == "raise"
            assert allowed == (3 if policy == "allow" else 0)
            server.connected = True
            await counter.heartbeat()
            assert observer.get("k") == (0, 0)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_who_is_entering_when_the_instance_leaves_is_told(fake: StrictInstanceAwareCounter) -> None:
    """R16: nobody waits for an answer that no request will bring. An answer that came stays."""
    books = driver_of(fake).books
    told, untold = books.hold("k", 1), books.hold("j", 1)
    told.told = CounterState(1, 1)
    books.forget()
    assert told.told == (1, 1)
    assert isinstance(untold.told, NotExecutedError)
    assert books.is_unused


def test_while_redis_cannot_be_reached_a_thread_gets_a_slot_if_it_is_allowed_to() -> None:
    """At once, too, when it is known already that Redis is away."""
    server = fakeredis.FakeServer()
    client = fakeredis.FakeRedis(server=server, retry=Retry(NoBackoff(), 0))
    counter = StrictInstanceAwareCounter(client, "p")
    allowing = counter.limit("k", 1, when_unreachable="allow")
    refusing = counter.limit("j", 1, when_unreachable="refuse")
    raising = counter.limit("i", 1)
    counter.heartbeat()
    server.connected = False
    for _ in range(3):
        assert allowing.acquire()
        assert not refusing.acquire()
        with pytest.raises(NotExecutedError):
            raising.acquire()
    server.connected = True
    for _ in range(3):
        allowing.release()
    counter.heartbeat()
    assert [counter.get(key) for key in "kji"] == [(0, 0)] * 3
