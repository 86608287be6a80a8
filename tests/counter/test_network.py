"""R11 on a network with faults: nothing is lost, and nothing counts twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

import distkit.asyncio
from distkit import (
    DistkitError,
    NotExecutedError,
    OutcomeUnknownError,
    StrictInstanceAwareCounter,
)
from distkit.core.instance import PATIENCE, Reply, Request
from distkit.redis.sync import PoolTransport
from distkit.testing import driver_of
from tests.harness.gate import Fault, Gate
from tests.harness.proxy import HOST, Faults, FaultyProxy
from tests.harness.servers import RedisServer

CALLS = 1_000


@contextmanager
def through(
    server: RedisServer, faults: Faults, seed: int = 20
) -> Iterator[tuple[FaultyProxy, redis.Redis]]:
    """A client behind a proxy with faults. It does not wait before it retries: the waits of
    redis-py 6 take a second each."""
    retry = Retry(NoBackoff(), 10)
    with (
        FaultyProxy(server.port, faults, seed) as proxy,
        redis.Redis(port=proxy.port, retry=retry) as client,
    ):
        yield proxy, client
        client.close()


def test_the_proxy_makes_a_plain_incr_count_too_much(real_server: RedisServer) -> None:
    """The problem: redis-py sends a command again that was executed already."""
    faults = Faults(drop_replies=0.05, commands=frozenset({b"INCRBY"}))
    with through(real_server, faults) as (proxy, client):
        for _ in range(CALLS):
            client.incrby("plain")
    assert proxy.dropped_replies > 20
    assert real_server.client().get("plain") == b"%d" % (CALLS + proxy.dropped_replies)


def test_1000_inc_are_1000_when_replies_are_dropped(real_server: RedisServer) -> None:
    with through(real_server, Faults(drop_replies=0.05)) as (proxy, client):
        counter = StrictInstanceAwareCounter(client, "p")
        answers = [counter.inc("k") for _ in range(CALLS)]
    assert answers == [(n, n) for n in range(1, CALLS + 1)], "every call got its own exact result"
    assert proxy.dropped_replies > 20


def test_1000_inc_are_1000_when_all_goes_wrong(real_server: RedisServer) -> None:
    """Replies and requests are dropped, and copies arrive after the retry or after the call."""
    faults = Faults(drop_replies=0.05, drop_requests=0.05, copies=0.2)
    with through(real_server, faults) as (proxy, client):
        counter = StrictInstanceAwareCounter(client, "p")
        answers = [counter.inc("k") for _ in range(CALLS)]
        proxy.drain()
        assert counter.get("k") == (CALLS, CALLS)
    assert answers == [(n, n) for n in range(1, CALLS + 1)]
    assert min(proxy.dropped_replies, proxy.dropped_requests, proxy.late_copies) > 20


def test_several_instances_and_threads_through_a_bad_network(real_server: RedisServer) -> None:
    """Four instances with four threads each: the total is what all of them did."""
    faults = Faults(drop_replies=0.03, drop_requests=0.03, copies=0.1)
    with through(real_server, faults) as (proxy, client):
        counters = [StrictInstanceAwareCounter(client, "p") for _ in range(4)]

        def work(counter: StrictInstanceAwareCounter) -> None:
            for _ in range(25):
                counter.inc("k", 3)
                counter.dec("k")

        threads = [threading.Thread(target=work, args=(c,)) for c in counters for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        proxy.drain()
        assert [counter.get("k") for counter in counters] == [(800, 200)] * 4


def test_a_call_whose_every_reply_is_lost_is_unknown_and_the_next_one_works(
    real_server: RedisServer,
) -> None:
    """R12: the cause is redis-py's own error."""
    with through(real_server, Faults()) as (proxy, client):
        client.set_retry(Retry(NoBackoff(), 2))
        counter = StrictInstanceAwareCounter(client, "p")
        counter.inc("k")
        proxy.faults = Faults(drop_replies=1.0)
        with pytest.raises(OutcomeUnknownError) as caught:
            counter.inc("k")
        assert isinstance(caught.value.__cause__, redis.exceptions.ConnectionError)
        proxy.faults = Faults()
        assert counter.inc("k") == (3, 3), "it had been executed once"


def test_a_timeout_is_unknown_and_the_next_call_works(real_server: RedisServer) -> None:
    admin = real_server.client()
    client = real_server.client(socket_timeout=0.1, retry=Retry(NoBackoff(), 0))
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")
    admin.client_pause(400)
    with pytest.raises(OutcomeUnknownError):
        counter.inc("k")
    admin.client_unpause()
    total, own = counter.get("k")
    assert total == own
    assert own in (1, 2)
    assert counter.inc("k") == (own + 1, own + 1)


def test_an_interrupt_between_send_and_reply_harms_nobody(
    real_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a Ctrl-C no late reply is taken for the reply to the next command."""
    admin, client = real_server.client(), real_server.client()
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    admin.client_pause(200)
    with monkeypatch.context() as patch:
        patch.setattr(redis.UnixDomainSocketConnection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            counter.inc("k")
    assert client.get("nothing") is None
    assert counter.inc("k") == (3, 3), "it is sent again and counted once"


class FirstTry:
    """Runs the script, and then fails the first attempt: as if the reply had been lost.

    Args:
        then: what happens before the second attempt.
        refusal: what the second attempt meets instead of a run.
    """

    def __init__(self, then: Callable[[], Any], refusal: Exception | None = None) -> None:
        self.then, self.refusal, self.tries = then, refusal, 0

    def around(self, once: Callable[..., Any]) -> Callable[..., Any]:
        def tried(transport: Any, *args: Any) -> Any:
            self.tries += 1
            if self.tries == 2 and self.refusal:
                request: Request = args[1]
                request.resent = request.arrived
                raise self.refusal
            reply = once(transport, *args)
            if self.tries > 1:
                return reply
            self.then()
            raise redis.exceptions.ConnectionError("the reply was lost")

        return tried


def _meets(patch: pytest.MonkeyPatch, fault: FirstTry) -> None:
    patch.setattr(PoolTransport, "_exchange", fault.around(PoolTransport._exchange))


def test_a_refused_retry_does_not_hide_that_the_call_may_have_run(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R12: the first copy was executed; only the retry was refused, for lack of memory."""
    client.set_retry(Retry(NoBackoff(), 2))
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")
    refusal = redis.exceptions.ResponseError("OOM command not allowed")
    with monkeypatch.context() as patch:
        _meets(patch, FirstTry(lambda: None, refusal))
        with pytest.raises(OutcomeUnknownError, match="OOM"):
            counter.inc("k")
    assert counter.inc("k") == (3, 3)


def test_a_wrong_password_on_reconnecting_does_not_hide_it_either(
    real_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = real_server.client()

    def has(password: str) -> None:
        admin.acl_setuser("counter", enabled=True, passwords=[f"+{password}"], keys=["*"],
                          categories=["+@all"], reset_passwords=True)  # fmt: skip

    def locked_out() -> None:
        has("other")
        admin.client_kill_filter(user="counter")

    has("first")
    client = real_server.client(username="counter", password="first", retry=Retry(NoBackoff(), 2))
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")
    with monkeypatch.context() as patch:
        _meets(patch, FirstTry(locked_out))
        with pytest.raises(OutcomeUnknownError, match="invalid username-password pair"):
            counter.inc("k")
    has("first")
    assert counter.inc("k") == (3, 3)
    admin.acl_deluser("counter")


def test_a_refusal_at_once_is_redis_pys_own_error(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")

    def full(*_: object) -> None:
        raise redis.exceptions.ResponseError("OOM command not allowed")

    with monkeypatch.context() as patch:
        patch.setattr(PoolTransport, "_exchange", full)
        with pytest.raises(redis.exceptions.ResponseError, match="OOM"):
            counter.inc("k")
    assert counter.inc("k") == (2, 2)


def test_on_a_cluster_too_a_retry_is_known_as_one(
    cluster: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R11 and R12 depend on it: the transport sees the retries that redis-py would hide."""
    admin = cluster.client()
    client = redis.RedisCluster(host="127.0.0.1", port=cluster.port)
    client.flushall()
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")
    with monkeypatch.context() as patch:
        _meets(patch, FirstTry(lambda: None))
        assert counter.inc("k") == (2, 2)
    with monkeypatch.context() as patch:
        _meets(patch, FirstTry(admin.flushall))
        with pytest.raises(OutcomeUnknownError):
            counter.set("k", 9)
    assert counter.get("k") == (2, 2)


def test_a_cluster_that_is_gone_is_a_clear_error(cluster: RedisServer) -> None:
    client = redis.RedisCluster(
        host="127.0.0.1", port=cluster.port, retry=Retry(NoBackoff(), 1), socket_timeout=1
    )
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")
    cluster.stop()
    for call in (lambda: counter.inc("k"), counter.heartbeat, counter.clear):
        with pytest.raises(DistkitError, match="no reply from Redis") as caught:
            call()
        assert isinstance(caught.value, redis.exceptions.ConnectionError)


def test_on_a_cluster_of_one_node_too_the_policy_is_followed(cluster: RedisServer) -> None:
    """redis-py before 7 forgets a node that failed, and gives up if it knows no other."""
    with Gate(cluster.port) as gate:
        client = redis.RedisCluster(**_only(gate), retry=Retry(NoBackoff(), 2), socket_timeout=1)
        counter = StrictInstanceAwareCounter(client, "p")
        counter.inc("k")
        gate.meet(Fault(executes=True, then="silence"))
        with pytest.raises(OutcomeUnknownError):
            counter.inc("k")
        assert gate.met == 3
        gate.lift()
        assert counter.inc("k") == (3, 3)


def test_a_silent_cluster_keeps_no_caller_even_if_its_client_waits_forever(
    cluster: RedisServer,
) -> None:
    """By default redis-py before 8 has no timeout, in asking which node serves what either."""
    with Gate(cluster.port) as gate:
        client = redis.RedisCluster(**_only(gate), socket_timeout=None)
        counter = StrictInstanceAwareCounter(client, "p", reply_timeout_ms=1_000)
        counter.inc("k")
        gate.meet(Fault(executes=True, then="silence", everything=True))
        with pytest.raises(OutcomeUnknownError):
            counter.inc("k")
        gate.lift()
        counter.inc("k")


def test_no_task_waits_for_a_silent_cluster_either(cluster: RedisServer) -> None:
    async def main() -> None:
        with Gate(cluster.port) as gate:
            async with redis.asyncio.RedisCluster(**_only(gate), socket_timeout=None) as client:
                counter = distkit.asyncio.StrictInstanceAwareCounter(
                    client, "p", reply_timeout_ms=1_000
                )
                await counter.inc("k")
                gate.meet(Fault(executes=True, then="silence", everything=True))
                with pytest.raises(OutcomeUnknownError):
                    await counter.inc("k")
                gate.lift()
                await counter.inc("k")

    asyncio.run(asyncio.wait_for(main(), 60))


def _only(gate: Gate) -> dict[str, Any]:
    """Arguments of a client that meets a cluster of one node through the gate."""
    return {"host": HOST, "port": gate.port, "address_remap": lambda _: (HOST, gate.port)}


def test_a_session_that_is_lost_again_and_again_ends_the_call(client: redis.Redis) -> None:
    """Even if another process uses the same instance id, a call ends."""
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")
    asked: list[Request] = []

    class NoSession:
        def send(self, request: Request) -> Reply:
            asked.append(request)
            return [0]

    real, driver_of(counter).send = driver_of(counter).send, NoSession().send
    with pytest.raises(NotExecutedError, match="lost 9 times in a row"):
        counter.inc("k")
    assert len(asked) == PATIENCE + 1
    driver_of(counter).send = real
    assert counter.inc("k") == (2, 2)


def test_what_is_put_back_or_cleared_goes_in_requests_of_bounded_size(
    client: redis.Redis,
) -> None:
    """R10: no request occupies the server for long, however much is remembered."""
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc_all((f"k{i}", 1) for i in range(250))
    client.flushall()
    sizes: list[int] = []

    class Measured:
        def send(self, request: Request) -> Reply:
            sizes.append(len(request.keys) - 2)
            return real(request)

    real, driver_of(counter).send = driver_of(counter).send, Measured().send
    counter.heartbeat()
    assert sizes == [10, 0, 100, 100, 50, 10], "no session, open, three to put back, and itself"
    sizes.clear()
    counter.clear_on_instance()
    counter.clear()
    assert sizes == [100, 100, 50] * 2
