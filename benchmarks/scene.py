"""Sets up large states quickly: many instances or many keys, written as spec/PROTOCOL.md says."""

from __future__ import annotations

import time
import uuid
from typing import Any

import redis

from distkit import StrictInstanceAwareCounter
from distkit.testing import driver_of

THRESHOLD_MS = 30_000

MANY_KEYS = """
local root, from, to = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local head, slice = ARGV[4], ARGV[5]
for i = from, to do
  redis.call('HSET', root .. 'counter:k' .. i, ':', head, 'somebody', slice)
  redis.call('HSET', root .. 'keys', 'k' .. i, 0)
end
"""


def counter_on(client: redis.Redis, prefix: str = "") -> StrictInstanceAwareCounter:
    """A counter under a prefix of its own, with an open session."""
    counter = StrictInstanceAwareCounter(client, prefix or uuid.uuid4().hex)
    counter.heartbeat()
    return counter


def among_instances(
    client: redis.Redis, others: int, *, silent: bool = False
) -> StrictInstanceAwareCounter:
    """A counter whose key `k` has a slice of 1 from each of `others` further instances, which are
    alive, or have been silent for the threshold."""
    counter = counter_on(client)
    counter.inc("k")
    root = f"distkit:{{{driver_of(counter).space.prefix}}}:"
    now = int(time.time() * 1000)
    expires = now if silent else now + 10 * THRESHOLD_MS
    names = [uuid.uuid4().hex for _ in range(others)]
    fields: Any = client.hget(root + "counter:k", ":")
    layout, epoch, _, _, bound, closed = fields.decode().split()
    bound = expires if silent else bound
    head: Any = {":": f"{layout} {epoch} 0 {others + 1} {bound} {closed}"}
    for first in range(0, others, 1_000):
        some = names[first : first + 1_000]
        entry = f"{expires} {THRESHOLD_MS} 9 0 2 another"
        client.hset(root + "instances", mapping=dict.fromkeys(some, entry))
        client.hset(root + "counter:k", mapping=dict.fromkeys(some, "1 0 2 9 0 0 0 0"))
    client.hset(root + "counter:k", mapping=head)
    return counter


def among_keys(client: redis.Redis, others: int) -> StrictInstanceAwareCounter:
    """A counter under a prefix with `others` further keys."""
    counter = counter_on(client)
    counter.inc("k")
    root = f"distkit:{{{driver_of(counter).space.prefix}}}:"
    fields: Any = client.hget(root + "counter:k", ":")
    layout, _, _, _, expires, closed = fields.decode().split()
    head = f"{layout} 0 0 1 {expires} {closed}"
    for first in range(0, others, 10_000):
        last = min(first + 10_000, others) - 1
        client.eval(MANY_KEYS, 0, root, first, last, head, "1 0 2 9 0 0 0 0")
    return counter
