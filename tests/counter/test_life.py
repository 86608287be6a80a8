"""The life of an instance: `with` and `async with`, heartbeats, forks."""

from __future__ import annotations

import ast
import asyncio
import gc
import logging
import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

import distkit.asyncio
from distkit import StrictInstanceAwareCounter
from distkit.core.instance import Purpose, Reply, Request
from distkit.core.pulse import BEATS
from distkit.redis import asyncio as asyncio_transport
from distkit.redis.meaning import Abandoned
from distkit.testing import driver_of
from tests.harness.servers import RedisServer, free_port

THRESHOLD = 600
"""In ms. Long enough for a slow machine, and short enough to wait for."""


def _counter(client: Any, **options: Any) -> StrictInstanceAwareCounter:
    return StrictInstanceAwareCounter(client, "p", dead_instance_threshold_ms=THRESHOLD, **options)


def _async_counter(client: Any) -> distkit.asyncio.StrictInstanceAwareCounter:
    return distkit.asyncio.StrictInstanceAwareCounter(
        client, "p", dead_instance_threshold_ms=THRESHOLD
    )


def _wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def _instances(server: RedisServer) -> int:
    return server.client().hlen("distkit:{p}:instances") - 1


# --- Leaving (R16) -------------------------------------------------------------------------------


def test_on_leaving_the_slices_are_removed_and_the_session_is_closed(client: redis.Redis) -> None:
    other = StrictInstanceAwareCounter(client, "p")
    with StrictInstanceAwareCounter(client, "p") as counter:
        counter.inc_all([("k", 5), ("j", 1)])
        assert other.inc("k") == (6, 1)
    assert client.hlen("distkit:{p}:instances") == 2, "the head and the other instance"
    assert other.get_all(["k", "j"]) == [(1, 1), (0, 0)]


def test_on_leaving_by_an_exception_too(client: redis.Redis) -> None:
    other = StrictInstanceAwareCounter(client, "p")

    def crash() -> None:
        with StrictInstanceAwareCounter(client, "p") as counter:
            counter.inc("k", 5)
            raise ValueError("from the body")

    with pytest.raises(ValueError, match="from the body"):
        crash()
    assert other.get("k") == (0, 0)


def test_who_has_left_may_come_back_with_nothing(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    for _ in range(2):
        with counter:
            assert counter.inc("k", 5) == (5, 5)
    assert counter.get("k") == (0, 0)


def test_a_life_inside_itself_is_refused(client: redis.Redis) -> None:
    with (
        StrictInstanceAwareCounter(client, "p") as counter,
        pytest.raises(RuntimeError, match="alive already"),
        counter,
    ):
        pass


def test_a_life_without_a_call_sends_nothing(client: redis.Redis) -> None:
    with StrictInstanceAwareCounter(client, "p"):
        pass
    assert client.keys("*") == []


def test_to_leave_a_server_that_is_gone_is_said_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nowhere = redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 0))
    with StrictInstanceAwareCounter(nowhere, "p") as counter:
        driver_of(counter).instance.session = 7  # as if there had been a server
    assert "could not say that it leaves" in caplog.text
    assert not driver_of(counter).instance.has_opened


def test_a_leave_that_gets_no_reply_is_said_in_the_log(
    client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Its slices are already gone. Its session ends when the threshold has passed."""
    with StrictInstanceAwareCounter(client, "p") as counter:
        counter.inc("k")
        real = driver_of(counter).send

        class Cut:
            def send(self, request: Request) -> Reply:
                if request.purpose is Purpose.LEAVE:
                    raise Abandoned from OSError("no route to host")
                return real(request)

        driver_of(counter).send = Cut().send
    assert "could not say that it leaves" in caplog.text
    assert StrictInstanceAwareCounter(client, "p").get("k") == (0, 0)


# --- The heartbeat (R4) --------------------------------------------------------------------------


def test_an_idle_instance_stays_alive_inside_and_not_without(real_server: RedisServer) -> None:
    client = real_server.client()
    looks_on, silent = _counter(client), _counter(client)
    silent.inc("k", 100)
    with _counter(client) as counter:
        counter.inc("k", 5)
        time.sleep(2.5 * THRESHOLD / 1000)
        assert looks_on.get("k") == (5, 0)


def test_heartbeats_are_sent_while_calls_are_made_too_and_cost_little(
    real_server: RedisServer,
) -> None:
    """R10, R18: they look after the counters, which calls on others do not."""
    client = real_server.client()
    with _counter(client) as counter:
        counter.inc("k")
        client.config_resetstat()
        calls, until = 0, time.monotonic() + 2 * THRESHOLD / 1000
        while time.monotonic() < until:
            counter.inc("k")
            calls += 1
            time.sleep(THRESHOLD / 1000 / 20)
        requests = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert calls < requests <= calls + 2 * BEATS


def test_the_heartbeat_puts_back_what_redis_lost(real_server: RedisServer) -> None:
    """R10: the program makes no call, and each request has a bounded size."""
    client = real_server.client()
    with _counter(client) as counter:
        counter.inc_all((f"k{n}", 1) for n in range(250))
        sizes: list[int] = []
        real = driver_of(counter).send

        class Measured:
            def send(self, request: Request) -> Reply:
                sizes.append(len(request.keys) - 2)
                return real(request)

        driver_of(counter).send = Measured().send
        client.flushall()
        _wait_for(lambda: client.hlen("distkit:{p}:keys") == 250)
        assert max(sizes) == 100
        assert _counter(client).get_all(["k0", "k249"]) == [(1, 0), (1, 0)]


def test_the_heartbeat_does_not_keep_the_counter_alive(real_server: RedisServer) -> None:
    counter = _counter(real_server.client())
    counter.__enter__()
    heart, gone = driver_of(counter).heart, weakref.ref(counter)
    assert heart is not None
    assert heart.daemon, "it does not keep the process alive either"
    del counter
    gc.collect()
    assert gone() is None
    heart.join(20)
    assert not heart.is_alive()


def test_a_heartbeat_that_fails_is_said_once_and_so_is_its_recovery(
    real_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "distkit")
    client = real_server.client(retry=Retry(NoBackoff(), 0))
    with _counter(client) as counter:
        counter.inc("k")
        failing, real = threading.Event(), driver_of(counter).send

        class Cut:
            def send(self, request: Request) -> Reply:
                if failing.is_set():
                    raise OSError("no route to host")
                return real(request)

        driver_of(counter).send = Cut().send
        failing.set()
        _wait_for(lambda: "fails" in caplog.text)
        time.sleep(THRESHOLD / 1000)
        failing.clear()
        _wait_for(lambda: "works again" in caplog.text)
        assert counter.get("k") == (1, 1)
    assert caplog.text.count("fails") == caplog.text.count("works again") == 1
    assert counter.instance_id in caplog.text


# --- asyncio -------------------------------------------------------------------------------------


def test_an_asyncio_life(real_server: RedisServer) -> None:
    """R4, R16: the same, with a task for the heartbeat."""

    async def main() -> None:
        async with redis.asyncio.Redis(unix_socket_path=real_server.socket) as client:
            looks_on = _async_counter(client)
            async with _async_counter(client) as counter:
                await counter.inc("k", 5)
                await asyncio.sleep(2.5 * THRESHOLD / 1000)
                assert await looks_on.get("k") == (5, 0)
                with pytest.raises(RuntimeError, match="alive already"):
                    await counter.__aenter__()
            assert await looks_on.get("k") == (0, 0)
            assert _instances(real_server) == 1
            with pytest.raises(ValueError, match="from the body"):
                await crash(counter)
            assert await looks_on.get("k") == (0, 0)

    async def crash(counter: distkit.asyncio.StrictInstanceAwareCounter) -> None:
        async with counter:
            await counter.inc("k", 5)
            raise ValueError("from the body")

    asyncio.run(main())


def test_an_asyncio_heartbeat_does_not_keep_the_counter_alive(real_server: RedisServer) -> None:
    async def main() -> None:
        async with redis.asyncio.Redis(unix_socket_path=real_server.socket) as client:
            counter = _async_counter(client)
            await counter.__aenter__()
            await counter.inc("k")
            await asyncio.sleep(0.01)
            heart, gone = driver_of(counter).heart, weakref.ref(counter)
            assert heart is not None
            del counter
            gc.collect()
            assert gone() is None
            await asyncio.wait_for(heart, 20)

    asyncio.run(main())


def test_an_asyncio_heartbeat_says_when_it_fails_and_when_it_works_again(
    real_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "distkit")

    async def main() -> None:
        client = redis.asyncio.Redis(
            unix_socket_path=real_server.socket, retry=AsyncRetry(NoBackoff(), 0)
        )
        async with _async_counter(client) as counter:
            await counter.inc("k")
            real = driver_of(counter).send

            class Cut:
                async def send(self, request: Request) -> Reply:
                    raise OSError("no route to host")

            driver_of(counter).send = Cut().send
            while "fails" not in caplog.text:
                await asyncio.sleep(0.01)
            driver_of(counter).send = real
            while "works again" not in caplog.text:
                await asyncio.sleep(0.01)
        await client.aclose()

    asyncio.run(asyncio.wait_for(main(), 20))


# --- Forks ---------------------------------------------------------------------------------------


def _in_a_fork(work: Callable[[], object]) -> Any:
    """Run the work in a forked child and return its answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(work()).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    answer = os.read(reading, 10_000).decode()
    os.close(reading)
    return ast.literal_eval(answer)


def test_a_forked_child_is_a_new_instance(real_server: RedisServer) -> None:
    """Otherwise parent and child would get each other's replies and silently lose counts."""
    counter = _counter(real_server.client())
    counter.inc("k", 10)
    answer, its_id = _in_a_fork(lambda: (tuple(counter.inc("k", 5)), counter.instance_id))
    assert answer == (15, 5)
    assert its_id != counter.instance_id
    assert counter.inc("k") == (16, 11)


def test_a_child_that_is_forked_while_a_thread_waits_for_redis_works_at_once(
    real_server: RedisServer,
) -> None:
    """The child inherits neither a lock nor a place in the queue."""
    counter = _counter(real_server.client())
    counter.inc("k")
    real_server.client().client_pause(300)
    waiting = threading.Thread(target=counter.inc, args=("k",))
    waiting.start()
    _wait_for(lambda: driver_of(counter).is_led)
    assert _in_a_fork(lambda: tuple(counter.inc("j"))) == (1, 1)
    waiting.join(20)
    assert counter.get("k") == (2, 2)


def test_a_child_that_is_forked_inside_a_life_has_a_heartbeat_of_its_own(
    real_server: RedisServer,
) -> None:
    with _counter(real_server.client()) as counter:
        counter.inc("k")

        def child() -> object:
            counter.inc("k", 5)
            time.sleep(2.5 * THRESHOLD / 1000)
            return tuple(_counter(real_server.client()).get("k"))

        assert _in_a_fork(child) == (6, 0), "what another instance sees"


def test_a_forked_child_keeps_no_connection_of_its_parents_loop(newest_server: RedisServer) -> None:
    """It would speak on a socket on which its parent speaks."""

    async def main() -> None:
        client = redis.asyncio.Redis(unix_socket_path=newest_server.socket)
        async with client, _async_counter(client) as counter:
            assert await counter.inc("k") == (1, 1)

            def kept() -> int:
                return sum(len(idle.connections) for idle in list(asyncio_transport._every))

            assert kept() > 0, "the connection of the call"
            assert _in_a_fork(kept) == 0
            assert await counter.inc("k") == (2, 2), "the parent's own is as it was"

    asyncio.run(asyncio.wait_for(main(), 60))


def _multiply(server_socket: str, counted: Any) -> None:
    counter = StrictInstanceAwareCounter(redis.Redis(unix_socket_path=server_socket), "p")
    with counter:
        for _ in range(20):
            counter.inc("k")
        counted.wait(20)
        counted.wait(20)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_are_instances(real_server: RedisServer, method: str) -> None:
    """While they live the total is their sum; after they have ended nothing is left."""
    context: Any = multiprocessing.get_context(method)
    counted = context.Barrier(4)
    workers = [
        context.Process(target=_multiply, args=(real_server.socket, counted)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    counter = StrictInstanceAwareCounter(real_server.client(), "p")
    counted.wait(20)
    assert counter.get("k") == (60, 0)
    counted.wait(20)
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert counter.get("k") == (0, 0)


def _inherited(counter: StrictInstanceAwareCounter, answers: Any) -> None:
    answers.put((tuple(counter.inc("k")), counter.instance_id))


def test_a_counter_that_multiprocessing_forks_is_a_new_instance(real_server: RedisServer) -> None:
    context: Any = multiprocessing.get_context("fork")
    counter = _counter(real_server.client())
    counter.inc("k", 10)
    answers = context.Queue()
    worker = context.Process(target=_inherited, args=(counter, answers))
    worker.start()
    answer, its_id = answers.get(timeout=20)
    worker.join(20)
    assert answer == (11, 1)
    assert its_id != counter.instance_id
