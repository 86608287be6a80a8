"""Compares the script with the oracle's server on explored transitions.

An exploration has met many pairs of a server state and a request. For each pair, this module writes
the state into a Redis as spec/PROTOCOL.md says, runs the script with the request, and compares the
reply and everything that is stored with the oracle's. The explorer keeps states in relative time;
here they are moved to an absolute time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import redis

from distkit.redis.script import COUNTER, Script
from oracle import model
from oracle.check.fast.space import Space
from oracle.check.state import KEYS
from oracle.model import Message, Server
from tests.harness import wire

PREFIX = "explored"
NOW = 1_000_000
ROOT = f"distkit:{{{PREFIX}}}:"
EVERYTHING = [f"{ROOT}instances", f"{ROOT}keys", *(f"{ROOT}counter:{key}" for key in KEYS)]
AT_ONCE = 200
"""How many transitions share a pipeline."""


class Transition(NamedTuple):
    """A state of the server, and a request that reaches it."""

    before: Server
    request: Message


def transitions(space: Space) -> Iterator[Transition]:
    """Everything that the server was asked in an exploration, each pair once."""
    for server, request in space.next.served():
        yield Transition(_at(NOW, server), request)


def _at(now: int, server: Server) -> Server:
    """The same state, with its clocks moved."""
    if server.clock is None:
        return server
    sessions = {
        name: entry._replace(heartbeat=entry.heartbeat + now)
        for name, entry in server.sessions.items()
    }
    return server._replace(
        clock=server.clock + now, wall=server.wall + now, sessions=model.Map(sessions)
    )


def compare(client: redis.Redis, asked: Sequence[Transition], script: Script = COUNTER) -> None:
    """Run the script on each pair. Raises AssertionError where it differs from the oracle."""
    sha = client.script_load(script.text)
    for first in range(0, len(asked), AT_ONCE):
        some = asked[first : first + AT_ONCE]
        pipeline = client.pipeline(transaction=False)
        places = [_ask(pipeline, sha, transition) for transition in some]
        answers = pipeline.execute()
        for transition, place in zip(some, places, strict=True):
            _check(transition, answers[place], answers[place + 1 : place + 1 + len(EVERYTHING)])


def _ask(pipeline: Any, sha: str, transition: Transition) -> int:
    """Queue one transition. Returns the index of the script's reply among the pipeline's
    replies."""
    pipeline.delete(*EVERYTHING)
    wire.store(pipeline, PREFIX, transition.before)
    words = wire.request(transition.request, PREFIX, NOW)
    keys = sum(word.startswith(ROOT) for word in words)
    place = len(pipeline.command_stack)
    pipeline.evalsha(sha, keys, *words)
    for name in EVERYTHING:
        (pipeline.smembers if name.endswith(":keys") else pipeline.hgetall)(name)
    return place


def _check(transition: Transition, mine: list[int], held: list[Any]) -> None:
    after, reply = model.serve(transition.before, transition.request, NOW)
    assert mine == wire.reply(reply), f"{transition}: {mine}, not {reply}"
    stored = wire.Stored.of(PREFIX, dict(zip(EVERYTHING, held, strict=True)))
    right = {key: counter for key, counter in after.counters.items() if counter != model.Counter()}
    written = {
        key: counter for key, counter in stored.counters.items() if counter != model.Counter()
    }
    assert written == right, f"{transition}: {written}, not {right}"
    assert stored.sessions == after.sessions, f"{transition}: {stored.sessions}"
    assert (stored.clock, stored.wall, stored.opened) == (after.clock, after.wall, after.opened)
    assert stored.keys == set(stored.counters)
    for key, counter in stored.counters.items():
        assert stored.totals[key] == counter.total, f"R7: {transition}"
        _check_bound(stored, key, after, transition)


def _check_bound(stored: wire.Stored, key: str, after: Server, transition: Transition) -> None:
    """A counter whose head says that no slice can be dead has no dead slice."""
    sessions = [after.sessions.get(name) for name in stored.counters[key].slices]
    if stored.closed_of[key] == stored.closed:
        assert None not in sessions, (
            f"{transition}: a slice whose instance has no session goes unseen"
        )
        beats = [session.heartbeat for session in sessions if session]
        assert stored.oldest[key] <= min(beats, default=after.clock or 0), (
            f"{transition}: oldest heartbeat"
        )
