"""Lists, requests and the work of a call stay bounded at any size."""

from __future__ import annotations

import redis

from distkit import StrictInstanceAwareCounter
from tests.harness.scale import a_crowd_dies
from tests.harness.servers import RedisServer
from tests.harness.wire import sessions_of

KEYS = [f"k{i}" for i in range(9_000)]


def test_9000_dead_instances_are_removed_in_one_call(client: redis.Redis) -> None:
    """R8: no list is too long for the script."""
    assert a_crowd_dies(client) == (1, 1)
    assert client.hlen("distkit:{crowd}:counter:k") == 2
    assert len(sessions_of(client, "crowd")) == 1


def test_9000_keys_of_a_dead_instance_do_not_burden_a_call(client: redis.Redis) -> None:
    """The Rust crate fails every call from then on."""
    now = 0
    dead, alive = (
        StrictInstanceAwareCounter(client, "many", clock_ms=lambda: now) for _ in range(2)
    )
    dead.inc_all((key, 1) for key in KEYS)
    now = 30_000
    assert alive.inc("k1") == (1, 1)
    assert alive.get("another") == (0, 0)


def test_9000_slices_are_put_back_by_one_heartbeat(client: redis.Redis) -> None:
    """R10: after a loss everything is back before the call returns, in requests of bounded size."""
    counter = StrictInstanceAwareCounter(client, "many")
    counter.inc_all((key, 1) for key in KEYS)
    client.flushall()
    counter.heartbeat()
    assert client.hlen("distkit:{many}:keys") == len(KEYS)
    other = StrictInstanceAwareCounter(client, "many")
    assert other.get_all(KEYS) == [(1, 0)] * len(KEYS)


def test_a_call_costs_five_commands_whatever_the_number_of_keys(real_server: RedisServer) -> None:
    """`inc` is TIME, two HMGET and two HSET."""
    client = real_server.client()
    counter = StrictInstanceAwareCounter(client, "cost")
    for i in range(200):
        counter.inc(f"k{i}")
    client.config_resetstat()
    for _ in range(10):
        counter.inc("k7")
    stats = client.info("commandstats")
    inside = ("cmdstat_time", "cmdstat_hmget", "cmdstat_hset")
    assert [stats[name]["calls"] for name in inside] == [10, 20, 20]
