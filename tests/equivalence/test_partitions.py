"""R21: a counter on a prefix that is divided answers as the oracle's machines do, composed.

A state machine makes the same calls on production, on a Redis, and on the counter in memory, with
1 and with 3 partitions, and compares every outcome. There are several instances, batches over
several partitions, holders, deaths, losses of all data, and outages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import fakeredis
import hypothesis.strategies as st
import pytest
import redis
from fakeredis import aioredis
from hypothesis import Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.backoff import NoBackoff
from redis.retry import Retry

import distkit
import distkit.asyncio
from oracle import InMemoryCounter, InMemoryServer
from oracle.conform.strategies import conditions, counts, jump, jumps, offsets, small_counts
from tests.harness.servers import RedisServer

KEYS = ("k", "другой", "a b", "x", "y1", "z-2")
PREFIX = "p"
HELD_KEYS = ("held", "h2", "slots")
"""On these, instances only hold: what other calls do to them does not last (R20)."""
THRESHOLD_MS = 30_000
"""In production, the real clock sets holders again: a history takes less than a third of this."""
MOST = 4
keys = st.sampled_from(KEYS)
held_keys = st.sampled_from(HELD_KEYS)
plain = st.sampled_from(["inc", "inc", "dec", "get", "set", "set_on_instance", "delete"])
conditional = st.sampled_from(["inc_if", "set_if", "set_on_instance_if"])
batches = st.sampled_from(["inc_all", "set_all", "set_all_on_instance"])
no_count = frozenset({"get", "delete", "delete_on_instance"})


class Production:
    """The synchronous counter on a Redis."""

    def __init__(self, client: Any, admin: Any) -> None:
        self.client, self.admin = client, admin
        self.wall_ms = 0

    def join(self, name: str, partitions: int) -> Any:
        return distkit.StrictInstanceAwareCounter(
            self.client, PREFIX, **self._options(name, partitions)
        )

    def _options(self, name: str, partitions: int) -> dict[str, Any]:
        return {
            "instance_id": name,
            "dead_instance_threshold_ms": THRESHOLD_MS,
            "clock_ms": lambda: self.wall_ms,
            "partitions": partitions,
        }

    def run(self, made: Any) -> Any:
        """The result of a call."""
        return made

    def enter(self, held: Any) -> Any:
        return held.__enter__()

    def exit(self, held: Any) -> None:
        held.__exit__(None, None, None)

    def leave(self, counter: Any) -> None:
        counter.__exit__(None, None, None)


class AsyncProduction(Production):
    """The asyncio counter, in a loop of its own."""

    def __init__(self, client: Any, admin: Any) -> None:
        super().__init__(client, admin)
        self.loop = asyncio.new_event_loop()

    def join(self, name: str, partitions: int) -> Any:
        return distkit.asyncio.StrictInstanceAwareCounter(
            self.client, PREFIX, **self._options(name, partitions)
        )

    def run(self, made: Any) -> Any:
        async def awaited() -> Any:
            return await made

        return self.loop.run_until_complete(asyncio.wait_for(awaited(), 60))

    def enter(self, held: Any) -> Any:
        return self.run(held.__aenter__())

    def exit(self, held: Any) -> None:
        self.run(held.__aexit__(None, None, None))

    def leave(self, counter: Any) -> None:
        self.run(counter.__aexit__(None, None, None))


def outcome_of(call: Callable[[], Any]) -> Any:
    """A result, as plain tuples; or the class of an error, and what became of a batch's steps."""
    try:
        return _plain(call())
    except distkit.DistkitError as error:
        return _name(error), [_plain(each) for each in error.outcomes]


def _plain(result: Any) -> Any:
    if isinstance(result, Exception):
        return _name(result)
    if hasattr(result, "applied"):
        return tuple(result.new), tuple(result.old), result.applied
    return [_plain(each) for each in result] if isinstance(result, list) else result


def _name(error: Exception) -> str:
    return type(error).__name__


class Instance:
    """One instance, twice: in production and in memory."""

    def __init__(self, production: Any, memory: InMemoryCounter) -> None:
        self.production, self.memory = production, memory
        self.holders: list[tuple[Any, AbstractContextManager[Any]]] = []


class PartitionsMachine(RuleBasedStateMachine):
    """The rules. `explore` makes a subclass with a backend and a number of partitions."""

    production: Production
    partitions: int

    @initialize(instances=st.integers(1, 3))
    def begin(self, instances: int) -> None:
        self.production.admin.flushall()
        self.server = InMemoryServer(wall_ms=1_000_000)
        self.production.wall_ms = self.server.wall_ms
        self.instances: dict[str, Instance] = {}
        self.number = 0
        self.have_held = False
        for _ in range(instances):
            self.join()

    def _who(self, data: st.DataObject) -> Instance:
        return self.instances[data.draw(st.sampled_from(sorted(self.instances)), label="who")]

    def _same(self, who: Instance, method: str, *arguments: Any) -> None:
        """Make a call on both, and compare."""
        run, production, memory = self.production.run, who.production, who.memory
        ours = outcome_of(lambda: run(getattr(production, method)(*arguments)))
        assert ours == outcome_of(lambda: getattr(memory, method)(*arguments)), method

    @precondition(lambda self: len(self.instances) < MOST)
    @rule()
    def join(self) -> None:
        self.number += 1
        name = f"i{self.number}"
        production = self.production.join(name, self.partitions)
        self.instances[name] = Instance(production, self._in_memory(name))

    def _in_memory(self, name: str) -> InMemoryCounter:
        return InMemoryCounter(
            self.server,
            PREFIX,
            instance_id=name,
            dead_instance_threshold_ms=THRESHOLD_MS,
            partitions=self.partitions,
        )

    @rule(data=st.data(), key=keys, method=plain, count=counts)
    def call(self, data: st.DataObject, key: str, method: str, count: int) -> None:
        arguments = (key,) if method in no_count else (key, count)
        self._same(self._who(data), method, *arguments)

    @rule(data=st.data(), key=keys, method=conditional, count=small_counts, condition=conditions)
    def call_if(
        self, data: st.DataObject, key: str, method: str, count: int, condition: Any
    ) -> None:
        comparator = getattr(distkit, condition.relation)(condition.operand)
        self._same(self._who(data), method, key, comparator, count)

    @rule(
        data=st.data(),
        method=batches,
        updates=st.lists(st.tuples(keys, counts), max_size=8),
    )
    def batch(self, data: st.DataObject, method: str, updates: list[tuple[str, int]]) -> None:
        self._same(self._who(data), method, updates)

    @rule(data=st.data(), asked=st.lists(keys, max_size=8))
    def read(self, data: st.DataObject, asked: list[str]) -> None:
        self._same(self._who(data), "get_all", asked)

    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        self._same(self._who(data), "heartbeat")

    @precondition(lambda self: not self.have_held)
    @rule(data=st.data(), method=st.sampled_from(["clear_on_instance", "clear"]))
    def call_for_all(self, data: st.DataObject, method: str) -> None:
        self._same(self._who(data), method)

    @rule(data=st.data(), key=held_keys)
    def look_at_the_held(self, data: st.DataObject, key: str) -> None:
        self._same(self._who(data), "get", key)

    @rule(data=st.data(), key=held_keys, count=st.integers(1, 3))
    def hold(self, data: st.DataObject, key: str, count: int) -> None:
        who, self.have_held = self._who(data), True
        pair = who.production.held(key, count), who.memory.held(key, count)
        ours = outcome_of(lambda: self.production.enter(pair[0]))
        assert ours == outcome_of(pair[1].__enter__)
        if not isinstance(ours[0], str):
            who.holders.append(pair)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        who = self._who(data)
        if who.holders:
            ours, theirs = who.holders.pop()
            self.production.exit(ours)
            theirs.__exit__(None, None, None)

    @rule(data=st.data(), key=held_keys)
    def take_a_slot(self, data: st.DataObject, key: str) -> None:
        who, self.have_held = self._who(data), True
        limits = who.production.limit(key, 2), who.memory.limit(key, 2)
        taken = outcome_of(lambda: self.production.run(limits[0].acquire(blocking=False)))
        assert taken == outcome_of(lambda: limits[1].acquire(blocking=False))

    @rule(off=offsets, how=jumps)
    def clock(self, off: int, how: str) -> None:
        self.server.advance(jump(how, THRESHOLD_MS) + off)
        self.production.wall_ms = self.server.wall_ms

    @precondition(lambda self: len(self.instances) > 1)
    @rule(data=st.data(), leaves=st.booleans())
    def go(self, data: st.DataObject, leaves: bool) -> None:
        """An instance leaves (R16) or crashes."""
        name = data.draw(st.sampled_from(sorted(self.instances)), label="who")
        who = self.instances.pop(name)
        if leaves:
            self.production.leave(who.production)
            who.memory.__exit__(None, None, None)

    @rule()
    def lose_everything(self) -> None:
        self.production.admin.flushall()
        self.server.flush()

    @rule(others=st.sampled_from([1, 2, 3, 5]))
    def divide_otherwise(self, others: int) -> None:
        """A counter that was told another number is refused, once an instance has begun."""
        assert self._begins(self.partitions) == (0, 0)
        refused: Any = ("PartitionsError", [])
        assert self._begins(others) == (refused if others != self.partitions else (0, 0))

    def _begins(self, partitions: int) -> Any:
        """What the first call of another instance comes to. In memory too it calls, unless it is
        refused: by its request the server learns the time (R3)."""
        self.number += 1
        name = f"other{self.number}"
        if partitions == self.partitions:
            self._in_memory(name).get("nobody counts here")
        counter = self.production.join(name, partitions)
        return outcome_of(lambda: self.production.run(counter.get("nobody counts here")))


def explore(production: Production, partitions: int, how: settings | None = None) -> None:
    content = {"production": production, "partitions": partitions}
    run: Any = run_state_machine_as_test
    run(type("PartitionsMachine", (PartitionsMachine,), content), settings=how)


divided = pytest.mark.parametrize("partitions", [1, 3])


@divided
def test_a_divided_prefix_answers_as_the_composed_oracle(partitions: int) -> None:
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    explore(Production(client, client), partitions)


@divided
def test_so_it_does_on_a_real_server(newest_server: RedisServer, partitions: int) -> None:
    client = newest_server.client(retry=Retry(NoBackoff(), 2))
    explore(Production(client, client), partitions)


@divided
def test_the_asyncio_counter_answers_so_too(partitions: int) -> None:
    server = fakeredis.FakeServer()
    admin = fakeredis.FakeRedis(server=server)
    production = AsyncProduction(aioredis.FakeRedis(server=server), admin)
    explore(production, partitions)
    production.loop.close()


@divided
def test_an_empty_batch_restores_what_was_lost_only_where_a_prefix_is_not_divided(
    partitions: int,
) -> None:
    """Without partitions it is a request, and so a heartbeat (R4); with partitions it has none."""
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    server, production = InMemoryServer(), Production(client, client)
    memory = [
        InMemoryCounter(server, PREFIX, instance_id=name, partitions=partitions) for name in "ab"
    ]
    ours = [production.join(name, partitions) for name in "ab"]
    for first, second in (memory, ours):
        first.inc("k", 2)
        client.flushall()
        server.flush()
        assert first.get_all([]) == []
        assert second.get("k") == ((2, 0) if partitions == 1 else (0, 0))


def test_the_machine_finds_a_batch_that_is_put_together_wrongly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planted defect: the results of the partitions, one after the other."""

    def joined(_: Any, outcomes: Any) -> list[Any]:
        return [outcome for part in outcomes for outcome in part]

    monkeypatch.setattr("distkit.core.partitions.Split.joined", joined)
    client: redis.Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    # It need not be shrunk.
    how = settings(settings.get_profile("default"), phases=[Phase.generate], max_examples=100)
    with pytest.raises(AssertionError):
        explore(Production(client, client), 3, how)
