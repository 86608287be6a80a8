"""How much memory a prefix takes, by Redis's own `MEMORY USAGE` of each of its Redis keys."""

from __future__ import annotations

from typing import Any

import redis

from distkit import StrictInstanceAwareCounter
from tests.harness.servers import RedisServer, find_binaries

HOUR_MS = 3_600_000
"""Nobody is presumed dead meanwhile, however slow this machine is."""
KEYS = 1_000
INSTANCES = 300
SMALL = (1, 2, 8, 9, 100)


def _size(client: redis.Redis, name: str) -> int:
    used: Any = client.memory_usage(name, samples=0)
    return int(used or 0)


def _counter(client: redis.Redis) -> StrictInstanceAwareCounter:
    return StrictInstanceAwareCounter(client, "my_app", dead_instance_threshold_ms=HOUR_MS)


def measure() -> dict[str, Any]:
    server = RedisServer(find_binaries().binaries[-1])
    client = server.client()
    counters = [_counter(client) for _ in range(INSTANCES)]
    rows: list[list[Any]] = []
    by_slices = {}
    for number, counter in enumerate(counters, 1):
        counter.inc("room-00000")
        by_slices[number] = _size(client, "distkit:{my_app}:counter:room-00000")
    for number in SMALL:
        each = "slice" if number == 1 else "slices"
        rows.append([f"the hash of a counter with {number} {each}", by_slices[number]])
    each_more = (by_slices[INSTANCES] - by_slices[100]) / (INSTANCES - 100)
    rows.append([f"each further slice, from 100 to {INSTANCES} of them", round(each_more)])
    rows.append(
        ["the entry of an instance", round(_size(client, "distkit:{my_app}:instances") / INSTANCES)]
    )
    listed = _size(client, "distkit:{my_app}:keys")
    names = [f"room-{number:05d}" for number in range(1, KEYS + 1)]
    for first in range(0, KEYS, 100):
        counters[0].inc_all([(name, 1) for name in names[first : first + 100]])
    each_listed = (_size(client, "distkit:{my_app}:keys") - listed) / KEYS
    rows.append(["the entry of a counter in the list of counters", round(each_listed)])
    client.incr("room-00000")
    rows.append(["for comparison: a plain key with `INCR`", _size(client, "room-00000")])
    server.stop()
    return {"rows": rows}
