"""What is bounded stays bounded: lists, requests, and the work of a call."""

from __future__ import annotations

import redis

from distkit import StrictInstanceAwareCounter
from distkit.session import RESTORE_CHUNK
from tests.scale import a_crowd_dies


def test_9000_dead_instances_are_removed_in_one_call(client: redis.Redis) -> None:
    """DESIGN 6, and R8: no list is too long for the script."""
    assert a_crowd_dies(client) == (1, 1)
    assert client.hlen("distkit:{crowd}:counter:k") == 2
    assert client.hlen("distkit:{crowd}:instances") == 2


def test_9000_keys_come_back_after_everything_was_lost(client: redis.Redis) -> None:
    """R10: by requests of bounded size, before the first call returns."""
    counter = StrictInstanceAwareCounter(client, "many")
    steps = [f"k{i}" for i in range(9_000)]
    for key in steps[: 3 * RESTORE_CHUNK]:
        counter.inc(key)
    client.flushall()
    counter.heartbeat()
    other = StrictInstanceAwareCounter(client, "many")
    assert all(other.get(key) == (1, 0) for key in steps[: 3 * RESTORE_CHUNK])
    assert client.scard("distkit:{many}:keys") == 3 * RESTORE_CHUNK


def test_a_call_costs_five_commands_whatever_the_number_of_keys(
    real_server: object,
) -> None:
    """DESIGN 4: `inc` is TIME, two HMGET and two HSET."""
    client = real_server.client()  # type: ignore[attr-defined]
    counter = StrictInstanceAwareCounter(client, "cost")
    for i in range(200):
        counter.inc(f"k{i}")
    client.config_resetstat()
    for _ in range(10):
        counter.inc("k7")
    stats = client.info("commandstats")
    inside = ("cmdstat_time", "cmdstat_hmget", "cmdstat_hset")
    assert [stats[name]["calls"] for name in inside] == [10, 20, 20]
    assert set(stats) <= {
        *inside,
        "cmdstat_evalsha",
        "cmdstat_config|resetstat",
        "cmdstat_config",
        "cmdstat_info",
    }
