"""Sets up thousands of instances quickly."""

from __future__ import annotations

from typing import Any

import redis

from distkit import CounterState, StrictInstanceAwareCounter
from distkit.redis.script import COUNTER, Script
from distkit.testing import use_script
from tests.harness import wire

THRESHOLD = 30_000


def a_crowd_dies(client: redis.Redis, script: Script = COUNTER, crowd: int = 9_000) -> CounterState:
    """Let thousands of instances with a slice of 1 each die, and return what a survivor then reads.

    The survivor's own slice is 1.
    """
    now = 0
    survivor = StrictInstanceAwareCounter(client, "crowd", clock_ms=lambda: now)
    use_script(survivor, script)
    survivor.inc("k")
    root = "distkit:{crowd}:"
    names = [f"dead{i}" for i in range(crowd)]
    layout, epoch, _, _, *bounds = wire.text(client.hget(root + "counter:k", ":")).split()
    head = " ".join([layout, epoch, "0", str(crowd + 1), *bounds])
    slices: Any = dict.fromkeys(names, "1 0 2 9 0 0 0 0")
    entry = f"{THRESHOLD} {THRESHOLD} 9 0 2 "
    client.hset(root + "instances", mapping=dict.fromkeys(names, entry))
    client.hset(root + "counter:k", mapping={":": head, **slices})
    now = THRESHOLD
    return survivor.get("k")
