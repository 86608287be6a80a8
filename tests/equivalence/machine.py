"""The Hypothesis state machine that drives production and oracle through the same history.

Histories have 1 to 5 instances, several keys, every operation, counts at the ends of the range, and
clock jumps to the millisecond around the threshold. Instances die silently, come back and join,
promise to be heard, and let go of counters. Requests meet every fault of `side_by_side.Fate`, and
Redis loses data and is rolled back, all of it or a single key.

There are no assertions here: `SideBySide` compares the two after each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from distkit.redis.script import COUNTER, Script
from oracle import model
from oracle.conform.strategies import (
    KEYS,
    KINDS,
    MOST_INSTANCES,
    PLAIN_KINDS,
    conditions,
    counts,
    jump,
    jumps,
    keys,
    kinds,
    offsets,
    plain_kinds,
    small_counts,
    steps,
    thresholds,
    touches,
)
from tests.harness.side_by_side import INSTANCES, AsyncBackend, Backend, Fate, SideBySide
from tests.harness.side_by_side import KEYS as PREFIX_KEYS

_given_up = st.sampled_from(
    [
        (Fate.REPLY_LOST, Fate.REQUEST_LOST, Fate.REQUEST_LOST),
        (Fate.DELAYED, Fate.REQUEST_LOST, Fate.REPLY_LOST),
        (Fate.DELAYED, Fate.REQUEST_LOST, Fate.REQUEST_LOST),
    ]
)
fates = st.one_of(
    st.just(()),
    st.just(()),
    _given_up,
    st.lists(st.sampled_from(Fate), max_size=4).map(tuple),
)


each_kind = st.sampled_from(sorted(set(KINDS)))
"""Each as often as the others."""

redis_keys = st.one_of(keys, keys, st.sampled_from([INSTANCES, PREFIX_KEYS]))
"""The Redis keys of a prefix, as `SideBySide.lose` calls them."""


class CounterMachine(RuleBasedStateMachine):
    """The rules. `machine_on` makes a subclass with a backend."""

    backend: Callable[[], Backend]
    script: Script
    faults: bool
    world: SideBySide

    @initialize(threshold=thresholds, instances=st.integers(1, 3))
    def begin(self, threshold: int, instances: int) -> None:
        self.world = SideBySide(type(self).backend(), threshold, self.script)
        for _ in range(instances):
            self.world.join()

    def _who(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.world.instances)), label="who")

    def _met(self, fates: Sequence[Fate]) -> Sequence[Fate]:
        return fates if self.faults else ()

    @rule(data=st.data(), key=keys, kind=kinds, count=counts, fates=fates)
    def call(
        self, data: st.DataObject, key: str, kind: str, count: int, fates: Sequence[Fate]
    ) -> None:
        self.world.call(self._who(data), key, kind, count, self._met(fates))

    @rule(data=st.data(), key=keys, kind=plain_kinds, count=small_counts)
    def plain_call(self, data: st.DataObject, key: str, kind: str, count: int) -> None:
        """Ordinary calls, drawn more often, so that somebody notices what went wrong before."""
        self.world.call(self._who(data), key, kind, count)

    @rule(
        data=st.data(),
        key=keys,
        kind=st.sampled_from(model.CONDITIONAL),
        count=counts,
        condition=conditions,
        fates=fates,
    )
    def call_if(
        self,
        data: st.DataObject,
        key: str,
        kind: str,
        count: int,
        condition: model.Condition,
        fates: Sequence[Fate],
    ) -> None:
        self.world.call(self._who(data), key, kind, count, self._met(fates), condition)

    @rule(data=st.data(), kind=st.sampled_from(model.CONDITIONAL), off=st.integers(-1, 1))
    def call_if_nearby(self, data: st.DataObject, kind: str, off: int) -> None:
        """A condition at its edge: the number that is there, give or take 1 (R15)."""
        who, key = self._who(data), KEYS[0]
        self.world.call(self._who(data), key, "inc", 3)
        total, _, own = self.world.server.counters.get(key, model.Counter()).view(who)
        there = own if kind == "set_on_instance" else total
        test = data.draw(st.sampled_from(model.RELATIONS))
        condition = model.Condition(test, max(-model.LIMIT, min(model.LIMIT, there + off)))
        self.world.call(who, key, kind, 1, (), condition)

    @rule(
        data=st.data(),
        todo=st.lists(st.tuples(keys, steps), min_size=1, max_size=6),
        fates=fates,
    )
    def call_many(
        self, data: st.DataObject, todo: list[tuple[str, model.Step]], fates: Sequence[Fate]
    ) -> None:
        self.world.call_many(self._who(data), todo, self._met(fates))

    @rule(data=st.data(), key=keys, edge=st.sampled_from([model.LIMIT, -model.LIMIT]))
    def call_on_after_a_refusal(self, data: st.DataObject, key: str, edge: int) -> None:
        """A step in the middle of a request is refused, and the others run (R2)."""
        sign = 1 if edge > 0 else -1
        todo = [("set_on_instance", sign * 3), ("inc", edge), ("inc", sign)]
        self.world.call_many(self._who(data), [(key, model.Step(*step)) for step in todo])

    @rule(data=st.data(), key=keys, count=small_counts, times=st.integers(2, 5), fates=fates)
    def call_again_and_again(
        self, data: st.DataObject, key: str, count: int, times: int, fates: Sequence[Fate]
    ) -> None:
        """The same step several times in one request."""
        same = [(key, model.Step("inc", count))] * times
        self.world.call_many(self._who(data), same, self._met(fates))

    @precondition(lambda self: isinstance(self.world.backend, AsyncBackend))
    @rule(
        data=st.data(),
        callers=st.lists(st.lists(st.tuples(keys, steps), max_size=3), min_size=2, max_size=5),
        fates=fates,
    )
    def together(
        self,
        data: st.DataObject,
        callers: list[list[tuple[str, model.Step]]],
        fates: Sequence[Fate],
    ) -> None:
        """Several callers of one instance have calls in flight at once, and share requests."""
        self.world.together(self._who(data), callers, self._met(fates))

    @rule(data=st.data(), fates=fates)
    def heartbeat(self, data: st.DataObject, fates: Sequence[Fate]) -> None:
        self.world.heartbeat(self._who(data), self._met(fates))

    @rule(data=st.data(), looked=st.lists(keys, unique=True, min_size=1))
    def look(self, data: st.DataObject, looked: list[str]) -> None:
        """The sweep's looks, at counters that the instance need not remember (R18)."""
        self.world.look(self._who(data), looked)

    @rule(data=st.data(), key=keys, unheard=st.booleans())
    def come_to_nothing(self, data: st.DataObject, key: str, unheard: bool) -> None:
        """An instance counts, stops, and lets go; then somebody looks (R18)."""
        who = self._who(data)
        self.world.call(who, key, "set_on_instance", 2)
        unanswered = self._met((Fate.REPLY_LOST,) * 3 if unheard else ())
        self.world.call(who, key, "set_on_instance", 0, unanswered)
        self.world.heartbeat(who)
        self.world.heartbeat(who)
        self.world.call(self._who(data), key, "get")

    @rule(data=st.data(), part=st.sampled_from([0, 2 / 5, 2 / 5, 1, 2]))
    def promise(self, data: st.DataObject, part: float) -> None:
        """From now on an instance says within what part of its threshold it is heard (R19)."""
        who = self._who(data)
        threshold = self.world.instances[who].instance.threshold
        self.world.promise(who, math.ceil(part * threshold))

    @rule(data=st.data(), key=keys, off=touches)
    def outage(self, data: st.DataObject, key: str, off: int) -> None:
        """Two instances promise to be heard, and nobody is, for longer than the threshold (R19)."""
        names = sorted(self.world.instances)
        for who in names[:2]:
            threshold = self.world.instances[who].instance.threshold
            self.world.promise(who, math.ceil(2 / 5 * threshold))
            self.world.call(who, key, "inc", 1)
        self.world.advance(self.world.threshold * 3 // 2 + off)
        self.world.call(self._who(data), key, "get")
        self.world.advance(self.world.threshold // 2)
        self.world.call(self._who(data), key, "get")

    @rule(data=st.data(), fates=fates)
    def leave(self, data: st.DataObject, fates: Sequence[Fate]) -> None:
        """An instance leaves (R16). It may call again."""
        self.world.leave(self._who(data), self._met(fates))

    @precondition(lambda self: self.faults)
    @rule(data=st.data(), key=keys)
    def come_back(self, data: st.DataObject, key: str) -> None:
        """An instance leaves and comes back, and then a copy of its leave arrives (R16)."""
        who = self._who(data)
        self.world.leave(who, (Fate.COPIED, Fate.COPIED))
        self.world.call(who, key, "inc", 1)
        if self.world.copies:
            self.world.deliver_copy(len(self.world.copies) - 1)
        self.world.call(who, key, "get")

    @precondition(lambda self: len(self.world.instances) > 1)
    @rule(data=st.data(), key=keys)
    def touch_the_edge(self, data: st.DataObject, key: str) -> None:
        """A death and a return at the end of the range push a total out of it (R2)."""
        one, other = data.draw(
            st.permutations(sorted(self.world.instances)).map(lambda names: names[:2])
        )
        self.world.call(one, key, "set_on_instance", model.LIMIT)
        self.world.advance(self.world.threshold)
        self.world.call(other, key, "set_on_instance", model.LIMIT)
        self.world.call(one, key, "get")
        self.world.call(other, key, "set", 1, (), data.draw(conditions))
        self.world.call(one, key, "set_on_instance", data.draw(small_counts))
        self.world.call(other, key, "get")

    @precondition(lambda self: len(self.world.instances) > 2)
    @rule(data=st.data(), key=keys, edge=st.sampled_from([model.LIMIT, -model.LIMIT]))
    def hold_in_range(self, data: st.DataObject, key: str, edge: int) -> None:
        """A slice alone keeps the total in the range, and its owner cannot take it away (R2)."""
        one, other, third = data.draw(
            st.permutations(sorted(self.world.instances)).map(lambda names: names[:3])
        )
        sign = 1 if edge > 0 else -1
        self.world.call(other, key, "set", edge)
        self.world.call(one, key, "set_on_instance", -sign)
        self.world.call(third, key, "set_on_instance", sign)
        self.world.call(one, key, "delete_on_instance")
        self.world.call(other, key, "get")

    @rule(data=st.data(), everybody=st.booleans())
    def clear(self, data: st.DataObject, everybody: bool) -> None:
        who = self._who(data)
        if everybody:
            self.world.clear(who)
        else:
            self.world.clear_on_instance(who)

    @rule(
        data=st.data(),
        off=offsets,
        how=jumps,
    )
    def clock(self, data: st.DataObject, off: int, how: str) -> None:
        self.world.advance(jump(how, self.world.threshold) + off)

    @rule(data=st.data(), key=keys, off=offsets)
    def jump_back(self, data: st.DataObject, key: str, off: int) -> None:
        """The wall clock jumps back, and time goes on from there (R3)."""
        self.world.call(self._who(data), key, "inc", 1)
        self.world.advance(jump("back", self.world.threshold))
        self.world.call(self._who(data), key, "get")
        self.world.advance(self.world.threshold + off)
        self.world.call(self._who(data), key, "get")

    @precondition(lambda self: len(self.world.instances) > 1)
    @rule(data=st.data(), key=keys, off=touches)
    def fall_silent(self, data: st.DataObject, key: str, off: int) -> None:
        """An instance is silent for the threshold, give or take 1 ms, and another one reads."""
        silent, watcher = data.draw(
            st.permutations(sorted(self.world.instances)).map(lambda names: names[:2])
        )
        kind = data.draw(st.sampled_from(PLAIN_KINDS), label="the watcher's calls")
        self.world.call(watcher, key, kind, 1)
        self.world.call(silent, key, "inc", 1)
        self.world.advance(self.world.instances[silent].instance.threshold + off)
        self.world.call(watcher, key, kind, 1)

    @precondition(lambda self: len(self.world.instances) < MOST_INSTANCES)
    @rule(factor=st.sampled_from([1, 1, 2, 1 / 2, 1 / 3]))
    def join(self, factor: float) -> None:
        """With a threshold of its own (R5)."""
        self.world.join("", math.ceil(self.world.threshold * factor))

    @precondition(lambda self: len(self.world.instances) > 1)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.world.die(self._who(data))

    @precondition(lambda self: self.faults)
    @rule(data=st.data(), key=keys, lost=st.integers(0, 3))
    def live_again(self, data: st.DataObject, key: str, lost: int) -> None:
        """An instance crashes, and a new one with its id starts from nothing (R17), perhaps after
        some requests of it were lost. The life before it may have been short, so that the numbers
        of their requests meet."""
        who = self._who(data)
        self.world.live_again(who)
        if data.draw(st.booleans(), label="a short life"):
            self.world.call(who, key, "inc", 1)
            self.world.live_again(who)
        for _ in range(lost):
            self.world.call(who, key, "get", 0, (Fate.REQUEST_LOST,) * 3)
        self.world.heartbeat(who)
        self.world.call(self._who(data), key, "get")

    @precondition(lambda self: self.faults)
    @rule(data=st.data(), key=keys, fate=st.sampled_from([Fate.COPIED, Fate.COPIED_REPLY_LOST]))
    def overtake(self, data: st.DataObject, key: str, fate: Fate) -> None:
        """A copy of a request arrives after the next one (R11)."""
        who = self._who(data)
        self.world.call(who, key, "inc", 1, (fate,))
        self.world.call(who, key, "get")
        self.world.deliver_copy(len(self.world.copies) - 1)
        self.world.call(self._who(data), key, "get")

    @precondition(lambda self: self.world.copies)
    @rule(data=st.data())
    def late_copy(self, data: st.DataObject) -> None:
        last = len(self.world.copies) - 1
        self.world.deliver_copy(data.draw(st.integers(0, last), label="copy"))

    @precondition(lambda self: self.faults)
    @rule(data=st.data(), key=keys, kind=each_kind, count=small_counts, fates=st.none() | _given_up)
    def get_no_answer(
        self,
        data: st.DataObject,
        key: str,
        kind: str,
        count: int,
        fates: tuple[Fate, ...] | None,
    ) -> None:
        """A call is given up: perhaps it was executed, or there is no server at all (R12)."""
        who = self._who(data)
        if fates is None:
            self.world.server_down()
        self.world.call(who, key, kind, count, fates or ())
        self.world.server_up()
        self.world.call(who, key, "get")

    @rule()
    def flush_scripts(self) -> None:
        self.world.flush_scripts()

    @precondition(lambda self: self.faults and len(self.world.instances) < MOST_INSTANCES)
    @rule(data=st.data(), key=keys)
    def open_late(self, data: st.DataObject, key: str) -> None:
        """A copy of an open that was given up arrives in a Redis that was emptied (R10, R11)."""
        world = self.world
        who = world.join()
        world.call(who, key, "inc", 1, (Fate.DELAYED, Fate.REQUEST_LOST, Fate.REQUEST_LOST))
        world.call(who, key, "inc", 1)
        world.flush()
        world.deliver_copy(-1)
        world.call(who, key, "get")
        world.call(self._who(data), key, "get")

    @precondition(lambda self: self.faults)
    @rule(data=st.data(), key=keys)
    def drop_what_is_lost(self, data: st.DataObject, key: str) -> None:
        """An instance leaves, and its counter is not there any more (R10, R16)."""
        who = self._who(data)
        self.world.call(who, key, "inc", 1)
        self.world.lose(key)
        self.world.leave(who)
        self.world.call(self._who(data), key, "get")

    @precondition(lambda self: self.faults)
    @rule()
    def flush(self) -> None:
        self.world.flush()

    @precondition(lambda self: self.faults)
    @rule()
    def snapshot(self) -> None:
        self.world.snapshot()

    @precondition(lambda self: self.world.snapshots)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        last = len(self.world.snapshots) - 1
        self.world.roll_back(data.draw(st.integers(0, last), label="snapshot"))

    @precondition(lambda self: self.faults)
    @rule(name=redis_keys)
    def lose(self, name: str) -> None:
        """Redis loses a single key (R10)."""
        self.world.lose(name)

    @precondition(lambda self: self.world.snapshots)
    @rule(data=st.data(), name=redis_keys)
    def restore(self, data: st.DataObject, name: str) -> None:
        """A single key is as it was in a snapshot (R10)."""
        last = len(self.world.snapshots) - 1
        self.world.restore(name, data.draw(st.integers(0, last), label="snapshot"))

    @precondition(lambda self: self.faults)
    @rule(data=st.data(), key=keys, old=st.booleans())
    def hurt(self, data: st.DataObject, key: str, old: bool) -> None:
        """A single key is lost or old, and a late copy may arrive; the owner's heartbeats find that
        out, or a stranger (R10)."""
        world, owner = self.world, self._who(data)
        world.call(owner, key, "set_on_instance", 1, (Fate.COPIED,))
        world.snapshot()
        world.call(owner, key, data.draw(kinds, label="then"), 2, (Fate.COPIED,))
        for _ in range(data.draw(st.sampled_from([0, 0, 2]), label="heartbeats")):
            world.heartbeat(owner)
        lost = data.draw(st.sampled_from([key, key, PREFIX_KEYS, INSTANCES]), label="what")
        if old:
            world.restore(lost, -1)
        else:
            world.lose(lost)
        is_late = data.draw(st.booleans(), label="late copy")
        if is_late and world.copies:
            world.deliver_copy(-1)
        if data.draw(st.booleans(), label="heartbeat"):
            world.heartbeat(owner)
        world.call(self._who(data), key, "get")
        world.call(owner, key, "get")

    @precondition(lambda self: self.faults)
    @rule(data=st.data(), key=keys)
    def lose_the_list(self, data: st.DataObject, key: str) -> None:
        """The list of counters is lost, and an owner counts on from 0 (R10)."""
        world, who = self.world, self._who(data)
        world.call(who, key, "inc", 1)
        world.call(who, key, "dec", 1)
        world.call(self._who(data), key, "inc", 5)
        world.lose(PREFIX_KEYS)
        world.call(who, key, "inc", 1)
        world.call(self._who(data), key, "get")

    @precondition(lambda self: self.faults)
    @rule(data=st.data(), key=keys)
    def restore_what_has_vanished(self, data: st.DataObject, key: str) -> None:
        """A counter vanishes, and then an older copy of it is there again (R10, R18)."""
        world, who = self.world, self._who(data)
        world.call(who, key, "inc", 3)
        world.snapshot()
        world.call(who, key, data.draw(st.sampled_from(["delete", "delete_on_instance"])), 0)
        world.heartbeat(who)
        world.heartbeat(who)
        world.restore(key, -1)
        world.call(self._who(data), key, "get")
        world.call(who, key, "inc", 1)

    @precondition(lambda self: self.faults)
    @rule(data=st.data(), key=keys, given_up=_given_up)
    def hide_a_rollback(self, data: st.DataObject, key: str, given_up: tuple[Fate, ...]) -> None:
        """A late copy makes an entry as new as its instance's last request (R10)."""
        world, owner = self.world, self._who(data)
        world.heartbeat(owner)
        world.snapshot()
        world.call(owner, key, "inc", 10, given_up)
        world.call(owner, key, "inc", 1, (Fate.COPIED,))
        world.roll_back(-1)
        world.deliver_copy(-1)
        if data.draw(st.booleans(), label="heartbeat"):
            world.heartbeat(owner)
        world.call(self._who(data), key, "get")
        world.call(owner, key, "get")

    @precondition(lambda self: self.faults)
    @rule(data=st.data(), key=keys, kind=kinds, count=small_counts)
    def fail_over(self, data: st.DataObject, key: str, kind: str, count: int) -> None:
        """A failover loses answered calls, and a late copy of the last one then arrives (R10)."""
        world, name = self.world, self._who(data)
        world.snapshot()
        world.call(self._who(data), key, kind, count)
        world.call(name, key, "inc", 1, (Fate.COPIED,))
        world.roll_back(-1)
        world.deliver_copy(-1)
        world.call(name, key, "get")

    @invariant()
    def stored_as_in_the_oracle(self) -> None:
        if hasattr(self, "world"):
            self.world.check_state()


def machine_on(
    backend: Callable[[], Backend], script: Script = COUNTER, *, faults: bool = True
) -> type[CounterMachine]:
    """The state machine on one Redis.

    Args:
        backend: makes the Redis and the counter to be tested.
        script: production's script, or one with a planted defect.
        faults: whether there are faults. Without any, every result must satisfy R13's formula.
    """
    content = {"backend": staticmethod(backend), "script": script, "faults": faults}
    return type("CounterMachine", (CounterMachine,), content)


def explore(machine: type[CounterMachine], how: settings | None = None) -> None:
    """Let Hypothesis search for a failing history. The profile says for how long, unless `how`
    does."""
    run: Any = run_state_machine_as_test  # untyped in the older releases that Python 3.10 gets
    run(machine, settings=how)
