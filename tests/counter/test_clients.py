"""Every kind of redis-py client works, with any settings."""

from __future__ import annotations

import threading
from typing import Any

import fakeredis
import pytest
import redis

from distkit import StrictInstanceAwareCounter
from distkit.testing import driver_of
from oracle import InMemoryCounter, InMemoryServer
from tests.harness.servers import RedisServer


def _example(counter: StrictInstanceAwareCounter) -> None:
    assert counter.inc("connections", 5) == (5, 5)
    assert counter.dec("connections", 2) == (3, 3)
    assert counter.get("connections") == (3, 3)
    assert counter.set_on_instance("connections", 10) == (10, 10)
    assert counter.set("connections", 100) == (100, 100)
    assert counter.delete_on_instance("connections") == (0, 100)
    assert counter.delete("connections") == (0, 0)
    counter.inc("ключ")
    counter.heartbeat()
    counter.clear_on_instance()
    counter.clear()
    assert counter.get("ключ") == (0, 0)


@pytest.mark.parametrize("decode_responses", [False, True])
@pytest.mark.parametrize("protocol", [2, 3])
def test_on_a_real_server(real_server: RedisServer, decode_responses: bool, protocol: int) -> None:
    client = real_server.client(decode_responses=decode_responses, protocol=protocol)
    _example(StrictInstanceAwareCounter(client, "p"))


@pytest.mark.parametrize("decode_responses", [False, True])
def test_on_fakeredis(decode_responses: bool) -> None:
    client = fakeredis.FakeRedis(decode_responses=decode_responses, server=fakeredis.FakeServer())
    _example(StrictInstanceAwareCounter(client, "p"))


def test_over_tcp_with_a_small_blocking_pool(real_server: RedisServer) -> None:
    pool_class: Any = redis.BlockingConnectionPool
    pool = pool_class(port=real_server.port, max_connections=1)
    client = redis.Redis(connection_pool=pool)
    _example(StrictInstanceAwareCounter(client, "p"))
    assert client.ping(), "the pool's only connection is free"


@pytest.mark.parametrize("decode_responses", [False, True])
def test_on_a_cluster(cluster: RedisServer, decode_responses: bool) -> None:
    """All keys of a prefix are in one slot, and KEYS names every key that the script touches."""
    client = redis.RedisCluster(
        host="127.0.0.1", port=cluster.port, decode_responses=decode_responses
    )
    client.flushall()
    counter = StrictInstanceAwareCounter(client, "p")
    _example(counter)
    client.script_flush()
    client.flushall()
    assert counter.inc("connections") == (1, 1)


@pytest.mark.parametrize("flush", ["flushall", "script_flush"])
def test_a_foreign_flush_between_any_two_calls_does_no_harm(
    client: redis.Redis, flush: str
) -> None:
    """R10: with one instance no loss can be observed."""
    counter = StrictInstanceAwareCounter(client, "p")
    right = InMemoryCounter(InMemoryServer(), "p")
    for kind, args in [
        ("inc", ("k", 5)),
        ("dec", ("k", 7)),
        ("get", ("k",)),
        ("set", ("k", 9)),
        ("set", ("j", -2)),
        ("inc", ("k", 1)),
        ("set_on_instance", ("j", 4)),
        ("delete_on_instance", ("k",)),
        ("delete", ("j",)),
        ("inc", ("j", 1)),
        ("get", ("k",)),
    ]:
        getattr(client, flush)()
        assert getattr(counter, kind)(*args) == getattr(right, kind)(*args)


def test_clear_after_a_flush_does_not_reach_what_nobody_has_put_back(client: redis.Redis) -> None:
    """R9, R10: `clear` cannot reach what Redis has lost, and a read does not bring it back."""
    one, other = StrictInstanceAwareCounter(client, "p"), StrictInstanceAwareCounter(client, "p")
    server = InMemoryServer()
    right_one, right_other = InMemoryCounter(server, "p"), InMemoryCounter(server, "p")
    real, pure = (one, other, client.flushall), (right_one, right_other, server.flush)
    for first, second, flush in (real, pure):
        assert first.inc("k", 5) == (5, 5)
        flush()
        assert second.get("k") == (0, 0)
        second.clear()
        assert first.get("k") == (5, 5)
        second.clear()
        assert first.get("k") == (0, 0)
        first.inc("k", 5)
        flush()
        assert first.inc("j", 1) == (1, 1)  # which puts k back as well
        second.clear()
        assert first.get("k") == (0, 0)


def test_the_server_clock_is_used_without_a_hook(real_server: RedisServer) -> None:
    """R3, R5: real milliseconds."""
    client = real_server.client()
    one, other = (
        StrictInstanceAwareCounter(client, "p", dead_instance_threshold_ms=300) for _ in range(2)
    )
    one.inc("k")
    assert other.get("k") == (1, 0)
    threading.Event().wait(0.35)
    assert other.get("k") == (0, 0)
    assert one.get("k") == (1, 1)


def test_a_restarted_process_with_an_old_id_starts_from_nothing(client: redis.Redis) -> None:
    """It does not know its old slices; on each key its slice is 0 from the first call on."""
    first = StrictInstanceAwareCounter(client, "p", instance_id="pod-1")
    for _ in range(5):
        first.inc("k")
    second = StrictInstanceAwareCounter(client, "p", instance_id="pod-1")
    assert second.get("k") == (0, 0)
    assert second.inc("k") == (1, 1)


def test_a_restarted_process_does_not_get_the_session_that_its_predecessor_opened(
    client: redis.Redis,
) -> None:
    """R11: a delayed request of the first instance must not pass for one of the second."""
    first, second = (StrictInstanceAwareCounter(client, "p", instance_id="x") for _ in range(2))
    first.heartbeat()
    second.heartbeat()
    assert driver_of(first).instance.session != driver_of(second).instance.session


def test_two_processes_that_share_an_id_take_turns(client: redis.Redis) -> None:
    """It is not supported. Still, neither hangs, and neither slice is counted twice."""
    one, other = (StrictInstanceAwareCounter(client, "p", instance_id="x") for _ in range(2))
    for n in range(1, 4):
        assert one.inc("k") == (n, n)
        assert other.inc("k") == (n, n)


def test_a_client_of_one_connection(real_server: RedisServer) -> None:
    pool_class: Any = redis.ConnectionPool
    pool = pool_class(
        connection_class=redis.UnixDomainSocketConnection,
        path=real_server.socket,
        max_connections=1,
    )
    client = redis.Redis(connection_pool=pool, single_connection_client=True)
    _example(StrictInstanceAwareCounter(client, "p"))


@pytest.mark.parametrize("decode_responses", [False, True])
def test_names_are_utf8_whatever_the_client_encodes(
    real_server: RedisServer, decode_responses: bool
) -> None:
    client = real_server.client(encoding="latin-1", decode_responses=decode_responses)
    one = StrictInstanceAwareCounter(client, "p")
    other = StrictInstanceAwareCounter(real_server.client(), "p")
    one.inc("ö", 7)
    assert other.inc("ö") == (8, 1)
    one.clear()
    assert other.get("ö") == (0, 0)
    assert real_server.client().hgetall("distkit:{p}:keys") == {"ö".encode(): b"0"}


def test_a_lost_hash_of_instances_is_a_loss_like_any_other(client: redis.Redis) -> None:
    """R5, R10: all sessions are lost. The dead lose their slices; the living put theirs back."""
    now = 1_000_000
    silent, alive = (
        StrictInstanceAwareCounter(client, "p", clock_ms=lambda: now) for _ in range(2)
    )
    silent.inc("k", 5)
    alive.inc("k", 2)
    client.delete("distkit:{p}:instances")
    now = 0
    assert alive.get("k") == (2, 2)
    assert silent.get("k") == (7, 5)


def test_an_instance_has_a_name_and_a_readable_repr(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    assert len(counter.instance_id) == 36
    assert counter.instance_id in repr(counter)
    with pytest.raises(AttributeError):
        counter.instance_id = "other"  # type: ignore[misc]


def test_the_constructor_does_no_io(client: redis.Redis) -> None:
    StrictInstanceAwareCounter(client, "p")
    assert client.keys("*") == []
