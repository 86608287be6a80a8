"""What must hold when no call is under way and no copy arrives any more.

Nothing happens in such a world by itself, so the live instances act: each function here lets them
do what they would do next, in a given order, and observes what comes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from oracle.check.properties.registry import PROPERTIES, declare
from oracle.check.state import Protocol
from oracle.model import (
    HERE,
    CounterState,
    Instance,
    Map,
    Memory,
    Outcome,
    Server,
    Step,
    begin,
    finish,
    tick,
)


class Quiet(NamedTuple):
    """A quiescent world.

    Attributes:
        server: the server.
        instances: the live instances.
        wall: the wall clock, which does not move any more.
        protocol: the machine.
    """

    server: Server
    instances: Map[str, Instance]
    wall: int
    protocol: Protocol

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of which anybody knows anything."""
        memories = (instance.memory for instance in self.instances.values())
        keys = {*self.server.counters, *self.server.keys, *(k for m in memories for k in m)}
        return tuple(sorted(keys))

    def call(self, name: str, steps: Sequence[tuple[str, Step]]) -> tuple[Quiet, list[Outcome]]:
        """The instance calls these steps. Without steps, it is only heard."""
        return self._finish(name, begin(self.instances[name], tuple(steps)))

    def look(self, name: str) -> Quiet:
        """The instance makes a heartbeat, and looks at all that it remembers (R10)."""
        instance = self.instances[name]
        return self._look(name, tuple(sorted(instance.memory)))

    def sweep(self, name: str) -> Quiet:
        """The instance makes a heartbeat, and looks at all that it remembers and all that is
        listed."""
        instance = self.instances[name]
        keys = tuple(sorted({*instance.memory, *_listed(self.server)}))
        return self._look(name, keys)

    def release(self, name: str) -> Quiet:
        """The instance lets go of what it counts 0 of, and looks at the rest (R18)."""
        instance = self.instances[name]
        zeros = tuple(key for key, memory in sorted(instance.memory.items()) if not memory.count)
        others = {*instance.memory, *_listed(self.server)} - set(zeros)
        return self._look(name, tuple(sorted(others)), zeros)

    def _look(self, name: str, keys: tuple[str, ...], let_go: tuple[str, ...] = ()) -> Quiet:
        begun = self.protocol.look(self.instances[name], keys, let_go)
        return self._finish(name, begun)[0]

    def _finish(self, name: str, instance: Instance) -> tuple[Quiet, list[Outcome]]:
        """The call that has begun, over a network that does not fail."""
        server = self.server
        while instance.call is not None and not instance.call.done:
            instance = self.protocol.speak(instance)
            assert instance.sent is not None
            server, reply = self.protocol.serve(server, instance.sent, self.wall)
            instance = self.protocol.hear(instance, reply, False)
        instance, told = finish(instance)
        return self._replace(server=server, instances=self.instances.put(name, instance)), list(
            told
        )


def _listed(server: Server) -> list[str]:
    return [key for key, epoch in server.keys.items() if epoch == HERE]


def _reads(keys: Sequence[str]) -> list[tuple[str, Step]]:
    return [(key, Step("get")) for key in keys]


# --- The instances look at everything -------------------------------------------------------------


class Quiescent(NamedTuple):
    """Each live instance has made a heartbeat, and has then looked at each counter.

    Attributes:
        instances: the live instances before that.
        indeterminate: on which counters each of them gave up a call that may have run.
        server: the server after the looks.
        after: the instances after the looks.
        told: what the instances were told.
    """

    instances: Map[str, Instance]
    indeterminate: Map[str, frozenset[str]]
    server: Server
    after: Map[str, Instance]
    told: tuple[Outcome, ...]


def look_around(
    quiet: Quiet, indeterminate: Map[str, frozenset[str]], order: Sequence[str]
) -> Quiescent:
    """Let each live instance make a heartbeat, in this order, and then a look at every counter.

    The heartbeats come first because one of them may show that Redis has lost writes, which closes
    the sessions of the instances that were heard before it.
    """
    before, keys, told = quiet.instances, quiet.keys, list[Outcome]()
    for name in order:
        quiet = quiet.look(name)
    for name in order:
        quiet, outcomes = quiet.call(name, _reads(keys))
        told += outcomes
    return Quiescent(before, indeterminate, quiet.server, quiet.instances, tuple(told))


@declare(Quiescent, "R12", "the next call works")
def _next_call(quiescent: Quiescent) -> str:
    """Whatever happened before, the calls that follow are answered with a result."""
    failed = [outcome for outcome in quiescent.told if not isinstance(outcome, CounterState)]
    return f"{failed}" if failed else ""


@declare(Quiescent, "R10", "a live instance finds its acknowledged counts again")
def _counts_survive(quiescent: Quiescent) -> str:
    """An instance finds its slice as it remembers it; or 0, in a newer epoch."""
    for name, instance in quiescent.instances.items():
        for key, was in instance.memory.items():
            now = quiescent.after[name].memory.get(key, Memory())
            count = was.count if now.epoch == was.epoch else 0
            if key not in quiescent.indeterminate[name] and now.count != count:
                return f"{name} remembered {was} of {key}, and finds {now}"
    return ""


@declare(Quiescent, "R7 R10", "the total is the sum of what the live instances remember")
def _total_is_remembered(quiescent: Quiescent) -> str:
    """Redis holds, of the live instances, exactly what they remember for the counter's epoch."""
    for key, counter in quiescent.server.counters.items():
        remembered = _remembered(key, counter.epoch, quiescent.after)
        held = sum(counter.own(name) for name in quiescent.after)
        if held != remembered:
            return f"{key}: Redis holds {held}, and they remember {remembered}"
    return ""


def _remembered(key: str, epoch: int, instances: Map[str, Instance]) -> int:
    memories = [instance.memory.get(key, Memory()) for instance in instances.values()]
    return sum(memory.count for memory in memories if memory.epoch == epoch)


# --- The instances are only heard, and a stranger looks -------------------------------------------


class OnlyHeard(NamedTuple):
    """Each live instance was heard, and a stranger has then read each counter.

    Attributes:
        server: the server after that.
        instances: the live instances after that.
        told: what the stranger was told, by key.
    """

    server: Server
    instances: Map[str, Instance]
    told: Map[str, Outcome]


STRANGER = Instance("stranger", 1)
"""An instance that comes new into the world."""


def _stranger_reads(quiet: Quiet, keys: Sequence[str]) -> OnlyHeard:
    after = quiet._replace(instances=Map({STRANGER.name: STRANGER}))
    after, told = after.call(STRANGER.name, _reads(keys))
    by_key = Map(dict(zip(keys, told, strict=True)))
    return OnlyHeard(after.server, quiet.instances, by_key)


def hear_all(quiet: Quiet, order: Sequence[str]) -> Quiet:
    """Let each live instance make the heartbeats of one round, in this order: a look at all that it
    remembers and all that is listed. One of them may find a loss, and close the sessions of those
    that were heard before it: so each is then heard once more."""
    for name in order:
        quiet = quiet.sweep(name)
    for name in order:
        quiet, _ = quiet.call(name, ())
    return quiet


def only_heard(heard: Quiet, keys: Sequence[str], order: Sequence[str]) -> OnlyHeard:
    """After `hear_all`, let a stranger read every counter.

    A counter that is there and not listed can be an older copy of one that had vanished. Nobody
    remembers it, so only the stranger can find that. Then each is heard once more, and the stranger
    reads again.
    """
    seen = _stranger_reads(heard, keys)
    if heard.server.counters.keys() <= set(_listed(heard.server)):
        return seen
    heard = heard._replace(server=seen.server)
    for name in order:
        heard, _ = heard.call(name, ())
    return _stranger_reads(heard, keys)


@declare(OnlyHeard, "R10 R17", "heartbeats alone make every total whole")
def _whole(heard: OnlyHeard) -> str:
    """After the heartbeats of one round, a stranger sees what the live instances remember, and what
    those that crashed have left as long as they are not presumed dead."""
    for key, outcome in heard.told.items():
        counter = heard.server.counter(key)
        total = _remembered(key, counter.epoch, heard.instances)
        total += sum(counter.own(name) for name in counter.slices.keys() - heard.instances.keys())
        if not isinstance(outcome, CounterState) or outcome.cumulative != total:
            return f"{key}: a stranger is told {outcome}, and it should be {total}"
    return ""


# --- One instance finds a loss --------------------------------------------------------------------


class Found(NamedTuple):
    """An instance has looked at what it remembers. If that closed its session, or that of another
    one that lives, a loss was found: each other instance was heard, and a stranger has then read
    each counter. Otherwise `whole` is None; and so it is if the stranger finds another loss."""

    whole: OnlyHeard | None


def find(quiet: Quiet, order: Sequence[str]) -> Found:
    """Let the first instance look at what it remembers. If that finds a loss, let the others be
    heard, in this order, and a stranger read every counter."""
    first, *others = order
    after, alive = quiet.look(first), _alive(quiet)
    was, now = quiet.instances[first].session, after.instances[first].session
    mine = first in alive and was == quiet.server.sessions[first].number and was != now
    if not mine and alive.intersection(others) <= after.server.sessions.keys():
        return Found(None)
    for name in others:
        after, _ = after.call(name, ())
    whole = _stranger_reads(after, quiet.keys)
    return Found(whole if after.server.sessions.keys() <= whole.server.sessions.keys() else None)


def _alive(quiet: Quiet) -> set[str]:
    """The instances that have a session and are not dead (R5)."""
    server = tick(quiet.server, quiet.wall)
    now = server.clock or 0
    return {n for n, s in server.sessions.items() if now - s.heartbeat < s.threshold}


@declare(Found, "R10", "a loss that is found is made good by everybody's next call")
def _made_good(found: Found) -> str:
    """Whoever finds a loss lets everybody know: after one more call or heartbeat of each instance,
    whatever it is about, every total is whole."""
    return "" if found.whole is None else _whole(found.whole)


# --- The instances let go of what they count 0 of -------------------------------------------------


class LetGo(NamedTuple):
    """Each live instance was heard, and has then let go of what it counts 0 of.

    Attributes:
        server: the server after that.
        instances: the live instances after that.
    """

    server: Server
    instances: Map[str, Instance]


def let_go(heard: Quiet, order: Sequence[str]) -> LetGo:
    """After `hear_all`, let each live instance look once more, because a loss may just have been
    made good, and then let go, in this order."""
    for name in order:
        heard = heard.sweep(name)
    for name in order:
        heard = heard.release(name)
    return LetGo(heard.server, heard.instances)


@declare(LetGo, "R18", "what everybody has let go of is gone")
def _gone(after: LetGo) -> str:
    """Every counter that is listed is there, because of a slice that counts, or a slice of an
    instance that has crashed and is not presumed dead. An instance remembers only what counts."""
    for key in _listed(after.server):
        counter = after.server.counters.get(key)
        if counter is None:
            return f"{key} is listed, and not there"
        kept = [n for n in counter.slices if n not in after.instances or counter.own(n)]
        if not kept:
            return f"{key} is {counter}"
    for name, instance in after.instances.items():
        if any(not memory.count for memory in instance.memory.values()):
            return f"{name} remembers {instance.memory}"
    return ""


QUIESCENT = frozenset(
    prop.name for seen in (Quiescent, OnlyHeard, Found, LetGo) for prop in PROPERTIES[seen]
)
"""The names of the properties of quiescent worlds."""
