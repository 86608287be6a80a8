"""Any redis-py client will do, with any settings."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import redis

from distkit import CounterState, StrictInstanceAwareCounter
from oracle import InMemoryCounter, InMemoryServer
from tests.conftest import REAL
from tests.servers import Binary, RedisServer

CLUSTER_OPTIONS = ("--cluster-enabled", "yes")


@pytest.fixture(params=REAL, ids=lambda binary: binary.name, scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A cluster of one node that owns every slot."""
    binary: Binary = request.param
    server = RedisServer(binary, *CLUSTER_OPTIONS, tcp=True)
    node: Any = server.client()
    node.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
    while b"cluster_state:ok" not in node.execute_command("CLUSTER", "INFO", NEVER_DECODE=True):
        threading.Event().wait(0.02)
    yield server
    server.stop()


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
    assert client.ping(), "the connection went back to the pool"


@pytest.mark.parametrize("decode_responses", [False, True])
def test_on_a_cluster(cluster: RedisServer, decode_responses: bool) -> None:
    """Everything of a prefix is in one slot, and every key that the script touches in KEYS."""
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
    """R10: with one instance, none that can be seen."""
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


def test_threads_share_a_counter(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    seen: list[CounterState] = []

    def work() -> None:
        seen.extend(counter.inc("k") for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(n, n) for n in range(1, 401)], "each its own exact reply"


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
    """It cannot know its slices; each key's is 0 from its first touch."""
    first = StrictInstanceAwareCounter(client, "p", instance_id="pod-1")
    for _ in range(5):
        first.inc("k")
    second = StrictInstanceAwareCounter(client, "p", instance_id="pod-1")
    assert second.get("k") == (0, 0)
    assert second.inc("k") == (1, 1)


def test_two_processes_that_share_an_id_are_told(client: redis.Redis) -> None:
    """Neither hangs; each call takes the session over."""
    one, other = (StrictInstanceAwareCounter(client, "p", instance_id="x") for _ in range(2))
    for _ in range(3):
        assert one.inc("k").instance_count > 0
        assert other.inc("k").instance_count > 0


def test_an_instance_has_a_name_and_a_readable_repr(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    assert len(counter.instance_id) == 36
    assert counter.instance_id in repr(counter)
    with pytest.raises(AttributeError):
        counter.instance_id = "other"  # type: ignore[misc]


def test_the_constructor_does_no_io(client: redis.Redis) -> None:
    StrictInstanceAwareCounter(client, "p")
    assert client.keys("*") == []
