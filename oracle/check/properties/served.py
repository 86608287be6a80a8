"""What must hold whenever the server serves a request: one transition, judged by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from oracle.check.call_kinds import MARKS
from oracle.check.properties.registry import declare
from oracle.model import (
    DROP,
    HERE,
    LOOK,
    Done,
    Leave,
    Left,
    Map,
    Message,
    Opened,
    Part,
    Reply,
    Request,
    Server,
    View,
    run_steps,
    writes,
)


class Served(NamedTuple):
    """One transition of the server. `parts` are the counters that were answered, each with the
    caller's view before its steps."""

    before: Server
    request: Message
    wall: int
    after: Server
    reply: Reply
    parts: tuple[tuple[Part, View], ...]

    def ran(self, part: Part) -> bool:
        """Whether the steps on a counter ran. The slice shows it; a retry that was answered from
        the completion record leaves the slice as it was."""
        was = self.before.slice_of(part.key, self.request.instance)
        now = self.after.slice_of(part.key, self.request.instance)
        return now is not None and now.seq == self.request.seq and now != was

    @property
    def executed(self) -> bool:
        return any(writes(part.steps) and self.ran(part) for part, _ in self.parts)

    @property
    def record(self) -> tuple[View, ...]:
        """What was answered about the counters that the request writes. (A counter that it only
        reads may be read again, R11.)"""
        return tuple(view for part, view in self.parts if writes(part.steps))

    @property
    def closed_alive(self) -> tuple[str, ...]:
        """The instances that lost their session without being dead and without having left."""
        gone = self.before.sessions.keys() - self.after.sessions.keys()
        caller = self.request.instance
        left = isinstance(self.reply, Left)
        return tuple(sorted(n for n in gone if not (left if n == caller else self.is_dead(n))))

    @property
    def now(self) -> int:
        assert self.after.clock is not None, "every request reads the clock"
        return self.after.clock

    @property
    def looked_at(self) -> Iterator[Part]:
        """The counters that the request looked at: all, except those that a retry writes."""
        return (part for part, _ in self.parts if not writes(part.steps) or self.ran(part))

    def is_dead(self, name: str) -> bool:
        """R5, for an instance other than the caller."""
        session = self.before.sessions.get(name)
        return session is None or self.now - session.heartbeat >= session.threshold

    @property
    def passes_due(self) -> bool:
        """Whether the server's time would pass the last promise if nothing held it up (R3, R19)."""
        before = self.before
        if before.clock is None or before.due is None:
            return False
        return before.clock + max(0, self.wall - before.wall) > before.due


def served(before: Server, request: Message, wall: int, after: Server, reply: Reply) -> Served:
    """A transition of the server, as the properties look at it."""
    parts = tuple[tuple[Part, View], ...]()
    if isinstance(request, Request) and isinstance(reply, Done):
        parts = tuple(zip(request.parts, reply.views, strict=True))
    return Served(before, request, wall, after, reply, parts)


@declare(Served, "R3", "time never runs backwards")
def _time(served: Served) -> str:
    """The server's time after a request is not before its time after the previous one."""
    before = served.before.clock
    return "" if before is None or before <= served.now else f"from {before} to {served.now}"


@declare(Served, "R19", "time does not pass a promise")
def _promise(served: Served) -> str:
    """If nobody was heard by the time by which somebody had promised to be, the server's time stops
    there."""
    before = served.before
    fine = not served.passes_due or served.now == before.due
    return "" if fine else f"somebody promised {before.due}, and it is {served.now}"


@declare(Served, "R19", "the last promise that stands is kept, and stops time once")
def _due(served: Served) -> str:
    """Whoever is heard may promise when to be heard again. The latest promise stands until time has
    stopped for it, or until the instance that gave it leaves."""
    before, request = served.before, served.request
    due = None if served.passes_due else before.due
    if isinstance(served.reply, Done | Opened) and request.promise:
        promised = served.now + request.promise
        due = promised if due is None else max(due, promised)
    if isinstance(served.reply, Left) and request.promise:
        heartbeat = before.sessions[request.instance].heartbeat
        due = None if due == heartbeat + request.promise else due
    return "" if served.after.due == due else f"it is {served.after.due}, and not {due}"


@declare(Served, "R4", "an answered request sets the heartbeat of its instance, and no other does")
def _heartbeat(served: Served) -> str:
    """A request that is answered sets its instance's heartbeat to the server's time. A late one, or
    one without a session, sets none."""
    name = served.request.instance
    session, was = served.after.sessions.get(name), served.before.sessions.get(name)
    if isinstance(served.reply, Done | Opened):
        fine = session is not None and session.heartbeat == served.now
    else:
        fine = session is None or session == was
    return "" if fine else f"{name} has {session}, at {served.now}"


@declare(Served, "R6", "the epoch of a counter never decreases")
def _epoch(served: Served) -> str:
    """No request makes the epoch of a counter smaller, whether or not the counter has slices."""
    for key in {*served.before.counters, *served.before.keys}:
        was, now = served.before.counter(key).epoch, served.after.counter(key).epoch
        if now < was:
            return f"the epoch of {key} went from {was} to {now}"
    return ""


@declare(Served, "R7 R9", "a reply is explained by the slices")
def _total(served: Served) -> str:
    """The view that a reply gives, with the steps of the request run on it, is what the slices add
    up to after the request. (A retry is answered from its record: another property covers it.)"""
    views = dict(served.parts)
    for part in served.looked_at:
        if DROP in {step.op for step in part.steps}:
            continue  # what it drops is part of the reply, and then gone
        view, counter = views[part], served.after.counter(part.key)
        explained, _ = run_steps(view, part.steps)
        if explained != counter.view(served.request.instance):
            return f"the reply says {view} of {part.key}, which is {counter}"
    return ""


@declare(Served, "R5 R8", "the next request on a counter removes the slices of the dead")
def _dead_slices(served: Served) -> str:
    """After a request has looked at a counter, no dead instance has a slice of it, and the sessions
    of those that had one are closed."""
    for part in served.looked_at:
        for name in served.before.counter(part.key).slices:
            if name != served.request.instance and served.is_dead(name):
                if name in served.after.counter(part.key).slices:
                    return f"{name} still has a slice of {part.key}"
                if name in served.after.sessions:
                    return f"{name} still has a session"
    return ""


@declare(Served, "R5 R8 R17", "a request removes no slice of another instance that lives")
def _live_slices(served: Served) -> str:
    """No request changes the slice of another instance that is alive, in the session to which the
    slice belongs."""
    for key, counter in served.before.counters.items():
        for name, mine in counter.slices.items():
            session = served.before.sessions.get(name)
            if name == served.request.instance or session is None or served.is_dead(name):
                continue
            kept = served.after.counter(key).slices.get(name)
            if mine.session == session.number and kept != mine:
                return f"the slice of {name} on {key} was {mine}, and is {kept}"
    return ""


@declare(Served, "R17", "the next request on a counter removes the slices of earlier sessions")
def _earlier_slices(served: Served) -> str:
    """After a request has looked at a counter, every slice of it belongs to the session that its
    owner has."""
    for part in served.looked_at:
        for name, mine in served.after.counter(part.key).slices.items():
            session = served.after.sessions.get(name)
            if session is None or session.number != mine.session:
                return f"{name} has {session}, and {mine} on {part.key}"
    return ""


@declare(Served, "R18", "a counter without slices vanishes, and its epoch stays")
def _vanished(served: Served) -> str:
    """A counter is kept while it has a slice. Of one that has lost its last slice, the epoch is
    kept, or a later one that was kept before; if that is 0, nothing is."""
    for key, counter in served.after.counters.items():
        if not counter.slices:
            return f"{key} is {counter}"
    for key in served.before.counters.keys() - served.after.counters.keys():
        epoch = max(served.before.counters[key].epoch, served.before.keys.get(key, 0))
        kept = served.after.keys.get(key)
        if kept != (epoch or None):
            return f"{key} was in epoch {epoch}, and {kept} is kept"
    return ""


@declare(Served, "R10", "a counter that an instance looks at is listed")
def _looks(served: Served) -> str:
    """After a look at a counter, the counter is listed if it is kept."""
    for part in served.looked_at:
        kept = part.key in served.after.counters and LOOK in {step.op for step in part.steps}
        if kept and served.after.keys.get(part.key) != HERE:
            return f"{part.key} is not"
    return ""


@declare(Served, "R10", "a counter that has lost writes is not answered")
def _lost(served: Served) -> str:
    """A request is answered only if each of its counters is there, if it is listed; is listed, if
    it has slices of others and the caller remembers nothing of it; and is at least as new as what
    the caller remembers, and counts as much, unless a newer request of the caller has run. (A
    request that restores slices or drops them is answered.)"""
    request, before = served.request, served.before
    if not isinstance(request, Request) or request.restores:
        return ""
    for part in served.looked_at:
        memory, counter = part.memory, before.counter(part.key)
        if DROP in {step.op for step in part.steps}:
            continue
        listed = before.keys.get(part.key) == HERE
        if part.key not in before.counters and listed:
            return f"{part.key} is listed, and not there"
        lives = [name for name in counter.slices if served.after.slice_of(part.key, name)]
        if memory.is_nothing and not listed and set(lives) - {request.instance}:
            return f"{part.key} is {counter}, and not listed"
        if memory.epoch > counter.epoch:
            return f"{part.key} is in epoch {counter.epoch}, and {memory} is remembered"
        mine = counter.slices.get(request.instance)
        if mine is None or mine.session != request.session:
            seq, have = 0, 0
        else:
            seq, have = mine.seq, mine.count if mine.epoch == counter.epoch else 0
        want = memory.count if memory.epoch == counter.epoch else 0
        if seq <= memory.seq and have != want:
            return f"{mine} is on {part.key}, and {memory} is remembered"
    return ""


@declare(Served, "R14", "opening a session closes the sessions of the dead")
def _dead_sessions(served: Served) -> str:
    """After a session was opened (a retry of an open only names it again), no other instance with a
    session is dead."""
    new = served.after.opened != served.before.opened
    dead = [n for n in served.after.sessions if n != served.request.instance and served.is_dead(n)]
    return f"{dead} still have one" if new and dead else ""


@declare(Served, "R16", "a leave closes the session that it names, and no other")
def _leave(served: Served) -> str:
    """A leave that is accepted closes the session that it names, and nobody else's. One that is not
    accepted closes none; or all of them, if it shows that Redis has lost writes."""
    request, was, now = served.request, served.before.sessions, served.after.sessions
    if not isinstance(request, Leave):
        return ""
    if isinstance(served.reply, Left):
        mine = was.get(request.instance)
        named = mine is not None and mine.number == request.session
        fine = named and now == was.without(request.instance)
    else:
        fine = now in (was, Map())
    return "" if fine else f"{request} was answered {served.reply}: from {was} to {now}"


_DIGITS = frozenset("-0" + "".join(map(str, MARKS.values())))


@declare(Served, "R11", "no operation counts twice")
def _marks(served: Served) -> str:
    """No slice holds a number that can only result from counting one operation twice."""
    for key, counter in served.after.counters.items():
        for name, mine in counter.slices.items():
            if not _DIGITS.issuperset(str(mine.count)):
                return f"the slice of {name} on {key} is {mine.count}"
    return ""
