"""Plays a trace of `oracle.check.trace` on production: the same interleaving, message by message.

`SideBySide` (tests/harness/side_by_side.py) has both machines and the server. Here each instance's
production machine is driven by hand, so that a call can be under way while other things happen.
After every event these must be equal: the request as it was sent, the reply, and everything that
is stored; and at the end, when every call has been answered, what each instance is told when it
looks.

A trace may come from a broken protocol, whose messages were different. Whatever cannot happen here
is left out: a copy of a request that was never sent, a reply to an instance that does not wait for
one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

from distkit.core.instance import Call, Kind, Request
from distkit.redis.script import COUNTER, Script
from distkit.testing import driver_of
from oracle import model
from oracle.check.events import (
    Calls,
    ClockMoves,
    CopyArrives,
    Crashes,
    Event,
    EverythingIsLost,
    GivesUp,
    HearsReply,
    InstanceEvent,
    Joins,
    KeyIsLost,
    Leaves,
    Looks,
    Restarts,
    SnapshotIsRestored,
    SnapshotIsTaken,
    StrangerCalls,
    unhandled,
)
from oracle.check.redis_keys import EVERYTHING, counter_key
from oracle.check.state import NAMES, start
from oracle.check.trace import Trace
from oracle.check.transitions import STRANGER
from tests.harness import wire
from tests.harness.side_by_side import PREFIX, Backend, SideBySide, _plain, _production


class Sent(NamedTuple):
    """A request as both machines made it, and the label that production's carries if it is an
    open."""

    request: Request
    message: model.Message
    label: str


class PlayedInstance:
    """One instance, twice: production's machine and the oracle's, in step."""

    def __init__(self, player: Player, name: str, threshold: int, promise: int, seq: int) -> None:
        self.player, self.name = player, name
        world = player.world
        world.join(name, threshold)
        world.promise(name, promise)
        counter, instance, _ = world.instances[name]
        self.production = driver_of(counter).instance
        self.production.seq = seq
        self.instance = instance._replace(seq=seq)
        self.request: Request | None = None
        self.sent = player.requests.setdefault(name, {})

    def call(self, steps: tuple[tuple[str, model.Step], ...]) -> None:
        if self.instance.call is not None:
            return
        self.production.begin(Call([_production(key, step) for key, step in steps]))
        self.instance = model.begin(self.instance, steps)
        self._go_on()

    def look(self, keys: tuple[str, ...], let_go: tuple[str, ...]) -> None:
        memory = self.instance.memory
        if self.instance.call is not None or any(memory[key].count for key in let_go):
            return
        looks = [_production(key, model.Step(model.LOOK)) for key in (*keys, *let_go)]
        for key in let_go:
            self.production.memory.pop(key, None)
        self.production.begin(Call(looks, Kind.LOOKS))
        self.instance = model.begin_looking(self.instance, keys, let_go)
        self._go_on()

    def leave(self) -> None:
        if self.instance.call is not None:
            return
        self.production.begin(Call(kind=Kind.LEAVE))
        self.instance = model.begin_leaving(self.instance)
        self._go_on()

    def hear(self, resent: bool) -> None:
        if self.request is None or self.instance.sent is None:
            return
        mine, right = self.player.deliver(self.sent[self.instance.sent.seq])
        self.instance = model.hear(self.instance, right, resent)
        self.request.resent = resent
        self.production.hear(mine)
        self._go_on()

    def give_up(self) -> None:
        if self.request is None:
            return
        self.instance = model.give_up(self.instance, arrived=True)
        self.request.arrived = True
        self.production.give_up(None)
        self._go_on()

    def _go_on(self) -> None:
        """Compare what both send next, or the outcomes of the call."""
        call, self.request = self.production.call, None
        assert self.instance.call is not None
        assert call.done == self.instance.call.done
        if call.done:
            failure = self.instance.call.failure
            self.instance, told = model.finish(self.instance)
            # The drops of a leave have no outcomes that anybody is told.
            outcomes = [_plain(o) for o in call.outcomes] if call.kind is not Kind.LEAVE else []
            failures = [type(call.failure).__name__] if call.failure else []
            right = list(told) or ([failure] if failure else [])
            assert (outcomes or failures) == right, f"{self.name} is told {outcomes}, not {right}"
            return
        self.instance = model.speak(self.instance)
        self.request = self.production.speak()
        assert self.instance.sent is not None
        wall = self.player.world.wall
        words = tuple(map(wire.text, [*COUNTER.by_hash(self.request, wall)[wire.FIRST_ARG :]]))
        right_words = wire.request(self.instance.sent, PREFIX, wall, self.production.label)
        assert words == right_words, f"{self.name} sends {words}, not {right_words}"
        sent = Sent(self.request, self.instance.sent, self.production.label)
        self.sent[sent.message.seq] = sent

    def settle(self) -> None:
        """Answer whatever is under way."""
        while self.instance.call is not None:
            self.hear(resent=True)


class Player:
    """A trace being played on one Redis."""

    def __init__(self, trace: Trace, backend: Backend, script: Script = COUNTER) -> None:
        self.trace, self.script = trace, script
        self.world = SideBySide(backend, max(trace.bounds.thresholds), script)
        self.played: dict[str, PlayedInstance] = {}
        # Of every life of an id, because copies of old requests may still arrive.
        self.requests: dict[str, dict[int, Sent]] = {}
        for name, slot in zip(NAMES, start(trace.bounds).slots, strict=False):
            if slot.instance is not None:
                one = slot.instance
                self._start(name, one.threshold, one.promise, one.seq)
        self.snapshots: list[tuple[str, int]] = []

    def _start(self, name: str, threshold: int, promise: int, seq: int = 0) -> None:
        self.played[name] = PlayedInstance(self, name, threshold, promise, seq)

    def play(self) -> None:
        """Play all of it. Raises AssertionError where production and oracle differ."""
        for event in self.trace.events:
            self._perform(event)
            self.world.check_state()
        for instance in self.played.values():
            instance.settle()
        looks = tuple((key, model.Step("get")) for key in sorted(self.world.server.counters))
        for steps in ((), looks):
            for instance in self.played.values():
                instance.call(steps)
                instance.settle()
                self.world.check_state()

    def deliver(self, sent: Sent) -> tuple[list[int], model.Reply]:
        """Let a request arrive at both servers; the replies must be equal."""
        request, message, label = sent
        execute: Any = self.world.backend.admin.execute_command
        command = self.script.by_hash(request, self.world.wall)
        try:
            mine = execute(*command)
        except NoScriptError:
            mine = execute(*self.script.whole(command))
        right = self.world._serve(message, mine, label)
        assert mine == wire.reply(right), f"{message} is answered {mine}, not {right}"
        return mine, right

    def _perform(self, event: Event) -> None:
        if isinstance(event, InstanceEvent):
            self._act(event)
            return
        match event:
            case ClockMoves(ms):
                self.world.advance(ms)
            case StrangerCalls():
                self.world._serve(STRANGER, self.world._send_raw(STRANGER))
            case EverythingIsLost():
                self.world.flush()
            case KeyIsLost(key):
                self.world.lose(_named(key))
            case SnapshotIsTaken(key):
                self.snapshots.append((key, len(self.world.snapshots)))
                self.world.snapshot()
            case SnapshotIsRestored(number):
                key, which = self.snapshots.pop(number)
                if key == EVERYTHING:
                    self.world.roll_back(which)
                else:
                    self.world.restore(_named(key), which)
            case _:
                raise unhandled(event)

    def _act(self, event: InstanceEvent) -> None:
        match event:
            case Joins(who, threshold, promise) | Restarts(who, threshold, promise):
                self._start(who, threshold, promise)
            case Crashes(who):
                del self.played[who]
                del self.world.instances[who]
            case Calls(who, steps):
                self.played[who].call(steps)
            case Looks(who, keys, let_go):
                self.played[who].look(keys, let_go)
            case Leaves(who):
                self.played[who].leave()
            case GivesUp(who):
                self.played[who].give_up()
            case HearsReply(who, _, resent):
                self.played[who].hear(resent)
            case CopyArrives(who, message):
                if message.seq in self.requests[who]:
                    self.deliver(self.requests[who][message.seq])
            case _:
                raise unhandled(event)


def _named(key: str) -> str:
    """A key of Redis as `SideBySide` names it: a counter's goes by the counter."""
    return key.removeprefix(counter_key(""))
