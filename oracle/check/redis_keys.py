"""The keys that Redis holds for one prefix, and what becomes of the server when one of them is
damaged.

Whatever is lost or comes back, the number of the last session stays: the script takes session
numbers from the clock of Redis, so that no number is ever given twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from oracle.model import Map, Server

EVERYTHING, INSTANCES, LISTING = "", "instances", "keys"
"""All keys together; and two of them: that of the sessions, and that of `Server.keys`. The other
keys are one for each counter: `counter_key`."""

_COUNTER = "counter:"


def counter_key(key: str) -> str:
    """The key that holds a counter."""
    return f"{_COUNTER}{key}"


def held_keys(server: Server) -> Iterator[str]:
    """The keys that exist."""
    if server.clock is not None:
        yield INSTANCES
    if server.keys:
        yield LISTING
    for key in sorted(server.counters):
        yield counter_key(key)


def lose(server: Server, lost: str) -> Server:
    """The server without one key, or without all of them."""
    return restore(server, Snapshot(lost, Server()))


class Snapshot(NamedTuple):
    """A copy of one key, or of all: `held` is a server that has nothing else. When it was made,
    Redis had lost writes so many times, and nobody had found that (`unfound`)."""

    key: str
    held: Server
    unfound: int = 0


def snapshot(server: Server, key: str, unfound: int) -> Snapshot:
    """A copy of one key of the server, or of all."""
    held = restore(Server(), Snapshot(key, server))
    return Snapshot(key, held._replace(opened=0), unfound)


def restore(server: Server, copy: Snapshot) -> Server:
    """The server with one key, or all of them, as they are in the copy."""
    key, held = copy.key, copy.held
    if key == EVERYTHING:
        return held._replace(opened=server.opened)
    if key == INSTANCES:
        return held._replace(opened=server.opened, counters=server.counters, keys=server.keys)
    if key == LISTING:
        return server._replace(keys=held.keys)
    name = key.removeprefix(_COUNTER)
    counters = server.counters.without(name)
    if name in held.counters:
        counters = counters.put(name, held.counters[name])
    return server._replace(counters=Map(counters))
