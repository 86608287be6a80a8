"""Compares the script with the oracle's server, one exchange at a time.

An exchange is a state of the server, a request, and when it arrives. The state is written into a
Redis as spec/PROTOCOL.md says, and the script is run with the request; its reply, and everything
that is stored afterwards, must be the oracle's. `transitions` takes exchanges from an exploration,
`states.py` draws them at random.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import redis

from distkit.redis.script import COUNTER, Script
from oracle import model
from oracle.check.fast.space import Space
from oracle.model import Server
from tests.equivalence.states import NOW, Exchange
from tests.harness import wire

PREFIX = "exchange"
ROOT = f"distkit:{{{PREFIX}}}:"
LABEL, EARLIER_LABEL = "a new one", "an earlier one"
AT_ONCE = 100
"""How many exchanges share a pipeline."""


def transitions(space: Space) -> Iterator[Exchange]:
    """Everything that the server was asked in an exploration, each pair once. The explorer keeps
    states in relative time; here they are moved to an absolute one."""
    for server, request in space.next.served():
        labels = dict.fromkeys(server.sessions, EARLIER_LABEL)
        yield Exchange(_at(NOW, server), labels, request, NOW)


def _at(now: int, server: Server) -> Server:
    """The same state, with its clocks moved."""
    if server.clock is None:
        return server
    sessions = {
        name: entry._replace(heartbeat=entry.heartbeat + now)
        for name, entry in server.sessions.items()
    }
    return server._replace(
        clock=server.clock + now,
        wall=server.wall + now,
        due=None if server.due is None else server.due + now,
        sessions=model.Map(sessions),
    )


def compare(client: redis.Redis, asked: Iterable[Exchange], script: Script = COUNTER) -> None:
    """Run the script on each exchange. Raises AssertionError where it differs from the oracle."""
    sha = client.script_load(script.text)
    left = iter(asked)
    while some := list(itertools.islice(left, AT_ONCE)):
        pipeline = client.pipeline(transaction=False)
        places = [
            _ask(pipeline, sha, exchange, lists_closings=bool(number % 4))
            for number, exchange in enumerate(some)
        ]
        answers = pipeline.execute(raise_on_error=False)
        for exchange, (place, names) in zip(some, places, strict=True):
            held = dict(zip(names, answers[place + 1 :], strict=False))
            _check(exchange, answers[place], held)


def _names(exchange: Exchange) -> list[str]:
    """Every Redis key that the exchange can touch."""
    request = exchange.request
    parts = request.parts if isinstance(request, model.Request) else ()
    keys = {*exchange.before.counters, *(part.key for part in parts)}
    return [f"{ROOT}instances", f"{ROOT}keys", *(f"{ROOT}counter:{key}" for key in sorted(keys))]


def _ask(
    pipeline: Any, sha: str, exchange: Exchange, *, lists_closings: bool
) -> tuple[int, list[str]]:
    """Queue one exchange. Returns the index of the script's reply among the pipeline's replies,
    and the keys that are read after it."""
    names = _names(exchange)
    pipeline.flushall()
    wire.store(pipeline, PREFIX, exchange.before, exchange.labels, lists_closings=lists_closings)
    words = wire.request(exchange.request, PREFIX, exchange.wall, LABEL)
    place = len(pipeline.command_stack)
    pipeline.evalsha(sha, sum(word.startswith(ROOT) for word in words), *words)
    for name in names:
        pipeline.hgetall(name)
    return place, names


def _check(exchange: Exchange, reply: list[int], held: dict[str, Any]) -> None:
    before, labels, request, wall = exchange
    before = wire.numbered_by_redis(before, request, reply)
    after, right = model.serve(before, request, wall)
    assert reply == wire.reply(right), exchange
    stored = wire.Stored.of(PREFIX, held)
    mine = stored.server
    if before.clock is None:  # Redis has lost the last number; the oracle's survives
        mine = mine._replace(opened=after.opened)
    assert mine == after, f"{exchange}\n{mine}\n{after}"
    if after.opened != before.opened:
        labels = {**labels, request.instance: LABEL}
    assert stored.labels == {name: labels[name] for name in after.sessions}, exchange
    stored.check_what_only_redis_keeps()
