"""Many instances at once, made quickly."""

from __future__ import annotations

import redis

from distkit import CounterState, StrictInstanceAwareCounter
from distkit.transport import COUNTER, Script, transport_for

THRESHOLD = 30_000


def a_crowd_dies(client: redis.Redis, script: Script = COUNTER, crowd: int = 9_000) -> CounterState:
    """One counter with a slice of 1 from each of many instances, all of which are silent for the
    threshold: the first call of a survivor, which takes its own slice to 1."""
    now = 0
    survivor = StrictInstanceAwareCounter(client, "crowd", clock_ms=lambda: now)
    survivor._transport = transport_for(client, lambda: now, script)
    survivor.inc("k")
    root = "distkit:{crowd}:"
    names = [f"dead{i}" for i in range(crowd)]
    head = str(client.hget(root + "counter:k", ":"), "ascii").split()
    client.hset(root + "instances", mapping={name: "0 9 2" for name in names})
    client.hset(
        root + "counter:k",
        mapping={":": " ".join([head[0], "0", str(crowd + 1), *head[3:]])}
        | {name: "1 0 2 0 0 0 0" for name in names},
    )
    now = THRESHOLD
    return survivor.get("k")
