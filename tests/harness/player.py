"""Plays a trace of `oracle.check.trace` on production: the very interleaving, message by message.

`World` (tests/harness/side_by_side.py) has both machines and the server; here each instance's session is driven by
hand, so that a call can be under way while other things happen. After every event these are equal:
the request as it was sent, the reply, all that is stored; and at the end, when every call has been
answered, what each instance is told when it looks.

A trace may come from a broken machine, whose messages were others. What cannot happen here is left
out: a copy of a request that was never sent, a reply to an instance that waits for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.exceptions import NoScriptError

from distkit.core.instance import Call, Request
from distkit.redis.script import COUNTER, Script
from distkit.testing import driver_of
from oracle import model
from oracle.check.trace import Trace
from oracle.check.world import NAMES, STRANGER, Event
from tests.harness import wire
from tests.harness.side_by_side import PREFIX, Backend, SideBySide, _plain, _production


class Life:
    """One instance, twice: production's session and the oracle's owner, in step."""

    def __init__(self, player: Player, name: str) -> None:
        self.player, self.name = player, name
        pair = player.world.instances[player.world.join(name)]
        self.session, self.instance = driver_of(pair.counter).instance, pair.instance
        self.request: Request | None = None
        self.sent: dict[int, tuple[Request, model.Message]] = {}

    def call(self, steps: tuple[tuple[str, model.Step], ...]) -> None:
        if self.instance.call is not None:
            return
        self.session.begin(Call([_production(key, step) for key, step in steps]))
        self.instance = model.begin(self.instance, steps)
        self._go_on()

    def leave(self) -> None:
        if self.instance.call is not None:
            return
        self.session.begin(Call(leaving=True))
        self.instance = model.begin_leaving(self.instance)
        self._go_on()

    def hear(self, resent: bool) -> None:
        if self.request is None or self.instance.sent is None:
            return
        mine, right = self.player.deliver(self.request, self.instance.sent)
        self.instance = model.hear(self.instance, right, resent)
        self.request.resent = resent
        self.session.hear(mine)
        self._go_on()

    def give_up(self) -> None:
        if self.request is None:
            return
        self.instance = model.give_up(self.instance, arrived=True)
        self.request.arrived = True
        self.session.give_up(None)
        self._go_on()

    def _go_on(self) -> None:
        """Both say what they send next, or what the call came to."""
        call, self.request = self.session.call, None
        assert self.instance.call is not None
        assert call.done == self.instance.call.done
        if call.done:
            failure = self.instance.call.failure
            self.instance, told = model.finish(self.instance)
            outcomes = [_plain(outcome) for outcome in call.outcomes]
            failures = [type(call.failure).__name__] if call.failure else []
            right = list(told) or ([failure] if failure else [])
            assert (outcomes or failures) == right, f"{self.name} is told {outcomes}, not {right}"
            return
        self.instance = model.speak(self.instance)
        self.request = self.session.speak()
        assert self.instance.sent is not None
        wall = self.player.world.wall
        words = tuple(map(wire.text, [*COUNTER.by_hash(self.request, wall)[wire.FIRST_ARG :]]))
        right_words = wire.request(self.instance.sent, PREFIX, wall)
        assert words == right_words, f"{self.name} sends {words}, not {right_words}"
        self.sent[self.instance.sent.seq] = (self.request, self.instance.sent)

    def rest(self) -> None:
        """Whatever is under way is answered."""
        while self.instance.call is not None:
            self.hear(resent=True)


class Player:
    """A trace being played on one Redis."""

    def __init__(self, trace: Trace, backend: Backend, script: Script = COUNTER) -> None:
        self.trace, self.script = trace, script
        self.world = SideBySide(backend, trace.bounds.threshold, script)
        self.lives = {n: Life(self, n) for n in NAMES[: trace.bounds.instances]}
        self.requests: dict[str, dict[int, tuple[Request, model.Message]]] = {}
        self.requests = {name: life.sent for name, life in self.lives.items()}
        self.copies: list[int] = []

    def play(self) -> None:
        """AssertionError where production and oracle differ."""
        for event in self.trace.events:
            EVENTS[event.what](self, event)
            self.world.check_state()
        for life in self.lives.values():
            life.rest()
        looks = tuple((key, model.Step("get")) for key in sorted(self.world.server.counters))
        for steps in ((), looks):
            for life in self.lives.values():
                life.call(steps)
                life.rest()
                self.world.check_state()

    def deliver(self, request: Request, message: model.Message) -> tuple[list[int], model.Reply]:
        """A request arrives at both."""
        execute: Any = self.world.backend.admin.execute_command
        command = self.script.by_hash(request, self.world.wall)
        try:
            mine = execute(*command)
        except NoScriptError:
            mine = execute(*self.script.whole(command))
        self.world.server, right = model.serve(self.world.server, message, self.world.wall)
        assert mine == wire.reply(right), f"{message} is answered {mine}, not {right}"
        return mine, right

    def arrive(self, event: Event) -> None:
        """A copy arrives, and its reply goes nowhere."""
        seq = event.message.seq if event.message else 0
        if seq in self.requests[event.who]:
            self.deliver(*self.requests[event.who][seq])

    def join(self, event: Event) -> None:
        self.lives[event.who] = Life(self, event.who)
        self.requests[event.who] = self.lives[event.who].sent

    def crash(self, event: Event) -> None:
        del self.lives[event.who]

    def stranger(self, _: Event) -> None:
        self.world._send_raw(STRANGER)
        self.world.server, _reply = model.serve(self.world.server, STRANGER, self.world.wall)

    def copy(self, _: Event) -> None:
        self.copies.append(len(self.world.snapshots))
        self.world.snapshot()

    def roll_back(self, event: Event) -> None:
        self.world.roll_back(self.copies.pop(event.number))


EVENTS: dict[str, Callable[[Player, Event], None]] = {
    "joins": Player.join,
    "crashes": Player.crash,
    "calls": lambda player, event: player.lives[event.who].call(event.steps),
    "leaves": lambda player, event: player.lives[event.who].leave(),
    "is answered": lambda player, event: player.lives[event.who].hear(event.resent),
    "gives up": lambda player, event: player.lives[event.who].give_up(),
    "arrives": Player.arrive,
    "the clock moves": lambda player, event: player.world.advance(event.number),
    "a stranger calls": Player.stranger,
    "everything is lost": lambda player, _: player.world.flush(),
    "the server is copied": Player.copy,
    "a copy takes over": Player.roll_back,
}
