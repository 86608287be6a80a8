"""The way to Redis: whose connections are used, for how long a reply is waited for, and what is
refused before anything is sent."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import create_autospec

import fakeredis
import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError
from redis.retry import Retry

import distkit.asyncio
from distkit import (
    CounterOverflowError,
    DistkitError,
    InvalidKeyError,
    MisuseError,
    NotExecutedError,
    OutcomeUnknownError,
    StrictInstanceAwareCounter,
)
from distkit.redis.meaning import recognised
from tests.conftest import REAL
from tests.harness.gate import Fault, Gate
from tests.harness.servers import RedisServer

# --- Connections ---------------------------------------------------------------------------------


def _connections(server: RedisServer) -> int:
    return len(server.client().client_list(_type="normal")) - 1


def test_a_counter_takes_no_place_in_the_clients_pool(real_server: RedisServer) -> None:
    client = real_server.client(max_connections=1)
    counter = StrictInstanceAwareCounter(client, "p")
    listening: Any = client
    with listening.pubsub() as pubsub:
        pubsub.subscribe("news")  # holds the pool's only connection
        assert counter.inc("k") == (1, 1)
    assert client.ping()
    assert counter.inc("k") == (2, 2)


def test_the_counters_of_a_client_share_idle_connections(real_server: RedisServer) -> None:
    client = real_server.client()
    before = _connections(real_server)
    for n in range(50):
        StrictInstanceAwareCounter(client, f"p{n}").inc("k")
    assert _connections(real_server) == before + 1


def test_closing_the_client_closes_them_too(real_server: RedisServer) -> None:
    before = _connections(real_server)
    client = real_server.client()
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")
    client.close()
    deadline = time.monotonic() + 10
    while _connections(real_server) != before:
        assert time.monotonic() < deadline
    assert counter.inc("k") == (2, 2), "as redis-py's own calls do, it connects again"
    client.close()


def test_closing_an_asyncio_client_closes_them_too(real_server: RedisServer) -> None:
    before = _connections(real_server)

    async def main() -> None:
        async with redis.asyncio.Redis(unix_socket_path=real_server.socket) as client:
            await distkit.asyncio.StrictInstanceAwareCounter(client, "p").inc("k")
            assert _connections(real_server) == before + 1
        await asyncio.sleep(0.05)
        assert _connections(real_server) == before

    asyncio.run(main())


def test_the_end_of_an_event_loop_closes_its_connections(real_server: RedisServer) -> None:
    before = _connections(real_server)
    client = redis.asyncio.Redis(unix_socket_path=real_server.socket)
    asyncio.run(distkit.asyncio.StrictInstanceAwareCounter(client, "p").inc("k"))
    deadline = time.monotonic() + 10
    while _connections(real_server) != before:
        assert time.monotonic() < deadline


def test_a_connection_that_the_server_closed_while_idle_costs_nothing(
    real_server: RedisServer,
) -> None:
    """It is noticed before anything is sent: so a `set` whose session was lost meanwhile is known
    not to have been executed, and is executed now."""
    client = real_server.client(retry=Retry(NoBackoff(), 0))
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")
    real_server.client().client_kill_filter(_type="normal", skipme=True)
    real_server.client().flushall()
    time.sleep(0.05)
    assert counter.set("k", 7) == (7, 7)


def test_an_asyncio_connection_that_the_server_closed_while_idle_costs_nothing(
    real_server: RedisServer,
) -> None:
    async def main() -> None:
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        async with redis.asyncio.Redis(unix_socket_path=real_server.socket, retry=retry) as client:
            counter = distkit.asyncio.StrictInstanceAwareCounter(client, "p")
            await counter.inc("k")
            real_server.client().client_kill_filter(_type="normal", skipme=True)
            real_server.client().flushall()
            await asyncio.sleep(0.05)
            assert await counter.set("k", 7) == (7, 7)

    asyncio.run(main())


def test_each_call_in_an_event_loop_of_its_own_works(real_server: RedisServer) -> None:
    """As with pytest-asyncio, or tasks that call `asyncio.run`."""
    client = redis.asyncio.Redis(unix_socket_path=real_server.socket)
    counter = distkit.asyncio.StrictInstanceAwareCounter(client, "p")
    assert [asyncio.run(counter.inc("k")) for _ in range(6)] == [(n, n) for n in range(1, 7)]
    assert StrictInstanceAwareCounter(real_server.client(), "p").get("k") == (6, 0)


# --- Deadlines -----------------------------------------------------------------------------------


@pytest.fixture
def gate(real_server: RedisServer) -> Iterator[Gate]:
    with Gate(real_server.port) as gate:
        yield gate


def test_one_silent_connection_does_not_freeze_the_threads(gate: Gate) -> None:
    """Of a client without timeouts, as redis-py 6 and 7 make them."""
    client = redis.Redis(port=gate.port, socket_timeout=None, retry=Retry(ConstantBackoff(0.01), 3))
    counter = StrictInstanceAwareCounter(client, "p", reply_timeout_ms=200)
    counter.inc("k")
    gate.meet(Fault(executes=True, then="silence", times=1))
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(counter.inc("k")), daemon=True)
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(answers) == [(n, n) for n in range(2, 22)]
    client.close()


def test_one_silent_connection_does_not_freeze_the_tasks(gate: Gate) -> None:
    """Nobody waits for its socket any longer than for the calls: with the last of them it is
    dropped, and the next call has a new one. The deadline alone would take 3 s here."""

    async def main() -> None:
        client = redis.asyncio.Redis(port=gate.port, socket_timeout=None)
        counter = distkit.asyncio.StrictInstanceAwareCounter(client, "p")
        await counter.inc("k")
        gate.meet(Fault(executes=True, then="silence", times=1))
        failed = 0

        async def work() -> None:
            nonlocal failed
            for _ in range(4):
                try:
                    await asyncio.wait_for(counter.inc("k"), 1)
                except asyncio.TimeoutError:
                    failed += 1

        began = time.monotonic()
        await asyncio.gather(*(work() for _ in range(20)))
        assert 1 <= failed <= 20, "each at most once: then it has recovered"
        assert time.monotonic() - began < 2.9, "and before the deadline"
        total, _ = await counter.get("k")
        assert 81 - failed <= total <= 81
        await client.aclose()

    asyncio.run(main())


def test_a_reply_that_is_late_is_asked_for_again(gate: Gate) -> None:
    client = redis.Redis(port=gate.port, socket_timeout=None, retry=Retry(ConstantBackoff(0.01), 3))
    counter = StrictInstanceAwareCounter(client, "p", reply_timeout_ms=200)
    counter.inc("k")
    gate.meet(Fault(executes=True, then="delay", seconds=20, times=1))
    began = time.monotonic()
    assert counter.inc("k") == (2, 2)
    assert time.monotonic() - began < 5
    client.close()


@pytest.mark.parametrize(
    ("timeout", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_bad_reply_timeout_is_refused(timeout: Any, error: type[Exception]) -> None:
    for counter, client in (
        (StrictInstanceAwareCounter, redis.Redis()),
        (distkit.asyncio.StrictInstanceAwareCounter, redis.asyncio.Redis()),
    ):
        make: Any = counter
        with pytest.raises(error, match="reply_timeout_ms must be"):
            make(client, "p", reply_timeout_ms=timeout)


# --- What the server refuses ---------------------------------------------------------------------


def _out_of_memory(admin: Any) -> None:
    admin.config_set("maxmemory", 1)


def _read_only(admin: Any) -> None:
    admin.replicaof("127.0.0.1", 1)


def _forbidden(admin: Any) -> None:
    admin.acl_setuser("default", enabled=True, nopass=True, keys=["*"], categories=["+@all"],
                      commands=["-hset"])  # fmt: skip


def _restore(admin: Any) -> None:
    admin.acl_setuser("default", enabled=True, nopass=True, keys=["*"], categories=["+@all"])
    admin.config_set("maxmemory", 0)
    admin.replicaof("NO", "ONE")


REFUSALS: list[tuple[Callable[[Any], None], type[Exception]]] = [
    (_out_of_memory, OutOfMemoryError),
    (_read_only, ReadOnlyError),
    (_forbidden, NoPermissionError),
]


@pytest.mark.parametrize(("refuse", "error"), REFUSALS, ids=lambda p: getattr(p, "__name__", p))
def test_a_refusal_is_redis_pys_own_error_on_every_server(
    real_server: RedisServer, refuse: Callable[[Any], None], error: type[Exception]
) -> None:
    """Redis 6.2 hides it in the text of a script's error."""
    admin = real_server.client()
    counter = StrictInstanceAwareCounter(real_server.client(), "p")
    counter.inc("k")
    try:
        refuse(admin)
        with pytest.raises(error):
            counter.inc("k")
    finally:
        _restore(admin)
    assert counter.inc("k") == (2, 2), "it was not executed"


def test_after_readonly_a_moved_endpoint_is_found() -> None:
    """The address leads to another server now; the old one has become a replica."""
    old, new = (RedisServer(REAL[0], tcp=True) for _ in range(2))
    try:
        with Gate(old.port) as gate:
            counter = StrictInstanceAwareCounter(redis.Redis(port=gate.port), "p")
            counter.inc("k", 5)
            gate._target = (gate._target[0], new.port)
            old.client().replicaof("127.0.0.1", new.port)
            with pytest.raises(ReadOnlyError):
                counter.inc("k")
            assert counter.inc("k") == (6, 6)
    finally:
        old.stop()
        new.stop()


def test_texts_of_redis_6_2_are_recognised() -> None:
    wrapped = "Error running script (call to f_1): @user_script:9: @user_script: 9: -{} because"
    for code, kind in (
        ("READONLY", ReadOnlyError),
        ("OOM", OutOfMemoryError),
        ("NOPERM", NoPermissionError),
        ("LOADING", redis.exceptions.BusyLoadingError),
        ("MASTERDOWN", redis.exceptions.MasterDownError),
    ):
        assert type(recognised(redis.ResponseError(wrapped.format(code)))) is kind
    plain = redis.ResponseError("Error running script: @user_script:9: nonsense")
    assert recognised(plain) is plain


# --- Misuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, pickle.dumps], ids=lambda f: f"{f.__module__}.{f.__name__}"
)
def test_a_counter_cannot_be_copied(client: redis.Redis, copied: Callable[[Any], Any]) -> None:
    counters = [
        StrictInstanceAwareCounter(client, "p"),
        distkit.asyncio.StrictInstanceAwareCounter(redis.asyncio.Redis(), "p"),
    ]
    for counter in counters:
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copied(counter)


def _no_pool() -> Any:
    client = redis.Redis()
    del client.connection_pool
    return client


@pytest.mark.parametrize(
    "unusable",
    [
        lambda: redis.Redis().pipeline(),
        lambda: redis.Redis().pipeline(transaction=True),
        lambda: create_autospec(redis.Redis, instance=True),
        _no_pool,
    ],
    ids=["pipeline", "transaction", "mock", "no pool"],
)
def test_a_client_that_cannot_do_it_is_refused_at_once(unusable: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"client must be a redis\.Redis"):
        StrictInstanceAwareCounter(unusable(), "p")


def test_an_asyncio_client_that_cannot_do_it_is_refused_at_once() -> None:
    mock = create_autospec(redis.asyncio.Redis, instance=True)
    for unusable in (redis.asyncio.Redis().pipeline(), mock):
        with pytest.raises(TypeError, match=r"client must be a redis\.asyncio\.Redis"):
            distkit.asyncio.StrictInstanceAwareCounter(unusable, "p")


def test_a_cluster_pipeline_is_refused(cluster: RedisServer) -> None:
    client: Any = redis.RedisCluster(host="127.0.0.1", port=cluster.port)
    with pytest.raises(TypeError, match=r"client must be .*RedisCluster, not .*ClusterPipeline"):
        StrictInstanceAwareCounter(client.pipeline(), "p")


def test_a_fake_without_lua_names_the_extra() -> None:
    program = """
import sys
sys.modules["lupa"] = None
import fakeredis
from distkit import StrictInstanceAwareCounter
try:
    StrictInstanceAwareCounter(fakeredis.FakeRedis(), "p").inc("k")
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "fakeredis[lua]" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "error",
    [
        InvalidKeyError,
        CounterOverflowError,
        MisuseError,
        NotExecutedError,
        OutcomeUnknownError,
        DistkitError,
    ],
)
def test_the_repr_of_an_error_has_its_message(error: type[Exception]) -> None:
    """redis-py 8 would show `network:NotExecutedError`."""
    assert repr(error("what happened")) == f"{error.__name__}('what happened')"


# --- Putting back --------------------------------------------------------------------------------


def test_putting_back_much_is_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Other calls of the instance wait for it: so that it is seen why."""
    caplog.set_level(logging.INFO, "distkit")
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc_all((f"k{n}", 1) for n in range(250))
    client.flushall()
    counter.heartbeat()
    lost, *said = [record.getMessage() for record in caplog.records]
    assert "lost writes" in lost
    assert len(said) == 2
    assert "puts back 250 slices" in said[0]
    assert "has put back all its slices" in said[1]
    assert all(counter.instance_id in line for line in said)
