"""The asyncio counter: every kind of client, callers that share requests, and cancellation."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from distkit import (
    CounterOverflowError,
    CounterState,
    InvalidKeyError,
    NotExecutedError,
    OutcomeUnknownError,
    lt,
)
from distkit.asyncio import StrictInstanceAwareCounter
from distkit.core.instance import Purpose, Reply, Request
from distkit.testing import driver_of
from tests.harness.proxy import Faults, FaultyProxy
from tests.harness.servers import RedisServer, free_port

SECONDS = 30
"""No wait here takes that long: a test that hangs fails."""


def run(main: Any) -> Any:
    """Run a coroutine to its end in an event loop of its own."""
    return asyncio.run(asyncio.wait_for(main, SECONDS))


@asynccontextmanager
async def counter_on(
    server: RedisServer, **options: Any
) -> AsyncIterator[StrictInstanceAwareCounter]:
    async with redis.asyncio.Redis(unix_socket_path=server.socket) as client:
        yield StrictInstanceAwareCounter(client, "p", **options)


async def _example(client: Any) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    assert await counter.inc("connections", 5) == (5, 5)
    assert await counter.dec("connections", 2) == (3, 3)
    assert await counter.get("connections") == (3, 3)
    assert await counter.set_on_instance("connections", 10) == (10, 10)
    assert await counter.set("connections", 100) == (100, 100)
    assert await counter.delete_on_instance("connections") == (0, 100)
    assert await counter.delete("connections") == (0, 0)
    assert await counter.inc_if("connections", lt(1)) == ((1, 1), (0, 0))
    assert await counter.inc_all([("ключ", 1), ("b", 2), ("ключ", 3)]) == [(1, 1), (2, 2), (4, 4)]
    await counter.heartbeat()
    await counter.clear_on_instance()
    await counter.clear()
    assert await counter.get_all(["ключ", "b"]) == [(0, 0), (0, 0)]
    await client.aclose()


@pytest.mark.parametrize("decode_responses", [False, True])
@pytest.mark.parametrize("protocol", [2, 3])
def test_on_a_real_server(real_server: RedisServer, decode_responses: bool, protocol: int) -> None:
    run(
        _example(
            redis.asyncio.Redis(
                unix_socket_path=real_server.socket,
                decode_responses=decode_responses,
                protocol=protocol,
            )
        )
    )


def test_on_fakeredis() -> None:
    run(_example(fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())))


def test_on_a_client_of_one_connection(real_server: RedisServer) -> None:
    client = redis.asyncio.Redis(port=real_server.port, single_connection_client=True)
    run(_example(client))


@pytest.mark.parametrize("decode_responses", [False, True])
def test_on_a_cluster(cluster: RedisServer, decode_responses: bool) -> None:
    async def main() -> None:
        client = redis.asyncio.RedisCluster(
            host="127.0.0.1", port=cluster.port, decode_responses=decode_responses
        )
        await client.flushall()
        await _example(client)

    run(main())


def test_a_client_that_is_not_asyncio_is_refused(client: redis.Redis) -> None:
    others: list[Any] = [client, client.pipeline(), None, redis.asyncio.Redis().pipeline()]
    for other in others:
        with pytest.raises(TypeError, match=r"client must be a redis\.asyncio\.Redis"):
            StrictInstanceAwareCounter(other, "p")


def test_the_await_refuses_bad_input_before_anything_is_sent() -> None:
    """With no server there, anything that was sent would be NotExecutedError."""

    async def main() -> None:
        counter = StrictInstanceAwareCounter(redis.asyncio.Redis(port=free_port()), "p")
        calls: list[tuple[Coroutine[Any, Any, Any], type[Exception]]] = [
            (counter.inc("a:b"), InvalidKeyError),
            (counter.get_all(["k", "a:b"]), InvalidKeyError),
            (counter.set("k", 2**53), CounterOverflowError),
            (counter.inc("k", True), TypeError),
        ]
        for call, error in calls:
            with pytest.raises(error):
                await call

    run(main())


def test_a_server_that_is_not_there_is_a_clear_error() -> None:
    async def main() -> None:
        nowhere = redis.asyncio.Redis(port=free_port(), retry=Retry(NoBackoff(), 1))
        counter = StrictInstanceAwareCounter(nowhere, "p")
        for call in (
            counter.inc("k"),
            counter.heartbeat(),
            counter.clear(),
            counter.get_all(["k"]),
        ):
            with pytest.raises(NotExecutedError):
                await call

    run(main())


def test_callers_that_wait_share_the_next_request(real_server: RedisServer) -> None:
    """100 calls at once take two requests: the first call goes alone."""

    async def main() -> None:
        async with counter_on(real_server) as counter:
            sent = _sizes(counter)
            answers = await asyncio.gather(*(counter.inc("k") for _ in range(100)))
            assert answers == [(n, n) for n in range(1, 101)], (
                "in order, and each call got its own result"
            )
            assert sent == [1, 99]

    run(main())


def test_no_request_is_longer_than_its_bounds(real_server: RedisServer) -> None:
    async def main() -> None:
        async with counter_on(real_server) as counter:
            sent = _sizes(counter)
            await counter.heartbeat()
            await asyncio.gather(*(counter.inc("k") for _ in range(2_000)))
            assert max(sent) == 512
            sent.clear()
            keys = [f"k{i}" for i in range(1_000)]
            await asyncio.gather(*map(counter.inc, keys))
            assert max(sent) == 100
            assert await counter.inc_all([(key, 1) for key in keys]) == [(2, 2)] * 1_000

    run(main())


def _sizes(counter: StrictInstanceAwareCounter) -> list[int]:
    """A list to which every request from now on adds how many steps it carries, if any."""
    sizes: list[int] = []
    real = driver_of(counter).send

    class Measured:
        async def send(self, request: Request) -> Reply:
            if request.purpose is Purpose.CALL and request.call.by_key:
                sizes.append(sum(map(len, request.call.by_key.values())))
            return await real(request)

    driver_of(counter).send = Measured().send
    return sizes


class Held:
    """Stops each request before it is sent, or its reply before it is heard."""

    def __init__(self, counter: StrictInstanceAwareCounter, *, after: bool) -> None:
        self._real, self._after = driver_of(counter).send, after
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        driver_of(counter).send = self.send

    async def send(self, request: Request) -> Reply:
        if not self._after:
            self.reached.set()
            await self.go.wait()
        reply = await self._real(request)
        self.reached.set()
        await self.go.wait()
        return reply


@pytest.mark.parametrize("after", [False, True], ids=["before it was sent", "before its reply"])
def test_a_cancelled_call_neither_loses_nor_repeats_anybodys_step(
    real_server: RedisServer, after: bool
) -> None:
    """The first call is in flight with the second, and the third waits. The first and the third are
    cancelled: the one in flight is executed, the waiting one is not."""

    async def main() -> None:
        async with counter_on(real_server) as counter:
            await counter.heartbeat()
            held = Held(counter, after=after)
            first = asyncio.ensure_future(counter.inc("k", 1))
            second = asyncio.ensure_future(counter.inc("k", 10))
            await held.reached.wait()
            third = asyncio.ensure_future(counter.inc("k", 100))
            fourth = asyncio.ensure_future(counter.inc("k", 1_000))
            await asyncio.sleep(0)
            first.cancel()
            third.cancel()
            held.go.set()
            assert await second == (11, 11)
            assert await fourth == (1_011, 1_011)
            for cancelled in (first, third):
                with pytest.raises(asyncio.CancelledError):
                    await cancelled
            assert await counter.get("k") == (1_011, 1_011)

    run(main())


def test_a_cancelled_sending_leaves_no_reply_on_its_way_into_the_connection(
    real_server: RedisServer,
) -> None:
    async def main() -> None:
        async with redis.asyncio.Redis(unix_socket_path=real_server.socket) as client:
            counter = StrictInstanceAwareCounter(client, "p")
            await counter.inc("k")
            await client.client_pause(200)
            counting = asyncio.ensure_future(counter.inc("k"))
            await asyncio.sleep(0.05)
            counting.cancel()
            assert await client.get("nothing") is None
            assert await counter.inc("k") == (3, 3), "it had been sent"

    run(main())


def test_a_loop_that_ends_with_a_call_in_flight_leaves_it_to_the_next_one(
    real_server: RedisServer,
) -> None:
    """R11: driving is cancelled between send and reply, and the request is sent again later."""

    async def begin() -> StrictInstanceAwareCounter:
        client = redis.asyncio.Redis(unix_socket_path=real_server.socket)
        counter = StrictInstanceAwareCounter(client, "p")
        await counter.inc("k")
        held = Held(counter, after=True)
        task = asyncio.ensure_future(counter.inc("k"))
        await held.reached.wait()
        driver_of(counter).send = held._real
        assert not task.done()
        await client.connection_pool.disconnect()
        return counter

    async def go_on(counter: StrictInstanceAwareCounter) -> None:
        assert await counter.inc("k") == (3, 3)
        await driver_of(counter).client.aclose()

    run(go_on(run(begin())))


def test_a_reply_that_makes_no_sense_is_an_error_for_its_callers_and_no_hang(
    real_server: RedisServer,
) -> None:
    async def main() -> None:
        async with counter_on(real_server) as counter:
            await counter.inc("k")
            real = driver_of(counter).send

            class Garbled:
                async def send(self, request: Request) -> Reply:
                    return [1, 2]

            driver_of(counter).send = Garbled().send
            answers = await asyncio.gather(
                counter.inc("k"), counter.get("j"), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [ValueError, ValueError]
            driver_of(counter).send = real
            assert await counter.inc("k") == (2, 2)

    run(main())


def test_a_refused_step_is_its_callers_alone(real_server: RedisServer) -> None:
    async def main() -> None:
        async with counter_on(real_server) as counter:
            await counter.set("k", 2**53 - 1)
            answers = await asyncio.gather(
                *(counter.inc(key) for key in ("j", "k", "j")), return_exceptions=True
            )
            assert [answers[0], answers[2]] == [(1, 1), (2, 2)]
            assert isinstance(answers[1], CounterOverflowError)

    run(main())


def test_a_call_whose_every_reply_is_lost_is_unknown_and_the_next_one_works(
    real_server: RedisServer,
) -> None:
    async def main() -> None:
        with FaultyProxy(real_server.port, Faults(), 20) as proxy:
            client = redis.asyncio.Redis(port=proxy.port, retry=Retry(NoBackoff(), 2))
            counter = StrictInstanceAwareCounter(client, "p")
            await counter.inc("k")
            proxy.faults = Faults(drop_replies=1.0)
            with pytest.raises(OutcomeUnknownError):
                await counter.inc("k")
            proxy.faults = Faults()
            assert await counter.inc("k") == (3, 3)
            await client.aclose()

    run(main())


def test_1000_inc_of_50_tasks_are_1000_when_the_network_fails(real_server: RedisServer) -> None:
    async def main() -> None:
        faults = Faults(drop_replies=0.05, drop_requests=0.05, copies=0.1)
        with FaultyProxy(real_server.port, faults, 20) as proxy:
            client = redis.asyncio.Redis(port=proxy.port, retry=Retry(NoBackoff(), 10))
            counter = StrictInstanceAwareCounter(client, "p")
            seen: list[CounterState] = []

            async def work() -> None:
                for _ in range(20):
                    seen.append(await counter.inc("k"))
                    if len(seen) % 7 == 0:
                        await asyncio.sleep(0.001)  # so that there are many requests

            await asyncio.gather(*(work() for _ in range(50)))
            assert sorted(seen) == [(n, n) for n in range(1, 1_001)], (
                "every call got its own exact result"
            )
            await client.aclose()
        assert proxy.dropped_replies + proxy.dropped_requests > 0
        assert proxy.late_copies > 0

    run(main())


def test_nothing_is_left_behind_when_a_program_ends(real_server: RedisServer) -> None:
    """No task is left that was never awaited, and nothing keeps the counter alive."""

    async def main() -> None:
        async with counter_on(real_server) as counter:
            await counter.inc("k")
            await asyncio.sleep(0.01)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()
