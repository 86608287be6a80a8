"""What must hold of the counter, each property once, however the machine achieves it.

Each property is declared with its rules and its name; its docstring states it in words, and its
body in code. It looks at one observation: something that happened (`Served`, `Heard`, ...) or a
state (`Counted`, `Quiescent`). `PROPERTIES` lists them all, by the class of what they look at.

To add a property, add a function here, a row to the table in `spec/`, and a protocol to
`oracle.check.broken` that breaks it: tests ask for all three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from oracle.check.calls import MARKS
from oracle.check.linearizability import Linearizations
from oracle.model import (
    Counter,
    CounterState,
    Done,
    Instance,
    Leave,
    Left,
    Map,
    Memory,
    Message,
    Opened,
    Outcome,
    Part,
    Reply,
    Request,
    Serve,
    Server,
    Step,
    View,
    call_at_once,
    run_steps,
    writes,
)


class Violation(AssertionError):
    """A property does not hold. The message names the property and its rules."""


class Property(NamedTuple):
    """One property.

    Attributes:
        rules: the rules of `spec/` that it follows from.
        name: its name, in the tables of `spec/` and in the message of a violation.
        statement: what it says, in words.
        check: takes an observation; returns what is wrong with it, or an empty string.
    """

    rules: str
    name: str
    statement: str
    check: Callable[[Any], str]


PROPERTIES: dict[type, list[Property]] = {}
"""Every property that is checked, by the class of the observation that it looks at."""

Check = TypeVar("Check", bound=Callable[[Any], str])


def _property(observed: type, rules: str, name: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        statement = " ".join((check.__doc__ or "").split())
        PROPERTIES.setdefault(observed, []).append(Property(rules, name, statement, check))
        return check

    return register


def check(observation: NamedTuple) -> None:
    """Raise Violation unless every property of this kind of observation holds."""
    for prop in PROPERTIES[type(observation)]:
        wrong = prop.check(observation)
        if wrong:
            raise Violation(f"{prop.rules}, {prop.name}: {wrong}")


# --- Whenever the server serves a request ---------------------------------------------------------


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

    def is_dead(self, name: str) -> bool:
        """R5, for an instance other than the caller."""
        session = self.before.sessions.get(name)
        return session is None or self.now - session.heartbeat >= self.request.threshold


def served(before: Server, request: Message, wall: int, after: Server, reply: Reply) -> Served:
    """A transition of the server, as the properties look at it."""
    parts = tuple[tuple[Part, View], ...]()
    if isinstance(request, Request) and isinstance(reply, Done):
        parts = tuple(zip(request.parts, reply.views, strict=True))
    return Served(before, request, wall, after, reply, parts)


@_property(Served, "R3", "time never runs backwards")
def _time(served: Served) -> str:
    """The server's time after a request is not before its time after the previous one."""
    before = served.before.clock
    return "" if before is None or before <= served.now else f"from {before} to {served.now}"


@_property(
    Served, "R4", "an answered request sets the heartbeat of its instance, and no other does"
)
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


@_property(Served, "R6", "the epoch of a counter never decreases")
def _epoch(served: Served) -> str:
    """No request makes the epoch of a counter smaller."""
    for key, counter in served.after.counters.items():
        was = served.before.counters.get(key, Counter()).epoch
        if counter.epoch < was:
            return f"the epoch of {key} went from {was} to {counter.epoch}"
    return ""


@_property(Served, "R7 R9", "a reply is explained by the slices")
def _total(served: Served) -> str:
    """The view that a reply gives, with the steps of the request run on it, is what the slices add
    up to after the request. (A retry is answered from its record: another property covers it.)"""
    for part, view in served.parts:
        counter = served.after.counters.get(part.key, Counter())
        explained, _ = run_steps(view, part.steps)
        if writes(part.steps) and not served.ran(part):
            continue
        if explained != counter.view(served.request.instance):
            return f"the reply says {view} of {part.key}, which is {counter}"
    return ""


@_property(Served, "R5 R8", "the next request on a counter removes the slices of the dead")
def _dead_slices(served: Served) -> str:
    """After a request has looked at a counter, no dead instance has a slice of it, and the sessions
    of those that had one are closed."""
    for part, _ in served.parts:
        if writes(part.steps) and not served.ran(part):
            continue  # a retry does not look at the counter
        for name in served.before.counters.get(part.key, Counter()).slices:
            if name != served.request.instance and served.is_dead(name):
                if name in served.after.counters[part.key].slices:
                    return f"{name} still has a slice of {part.key}"
                if name in served.after.sessions:
                    return f"{name} still has a session"
    return ""


@_property(Served, "R14", "opening a session closes the sessions of the dead")
def _dead_sessions(served: Served) -> str:
    """After a session was opened (a retry of an open only names it again), no other instance with a
    session is dead."""
    new = served.after.opened != served.before.opened
    dead = [n for n in served.after.sessions if n != served.request.instance and served.is_dead(n)]
    return f"{dead} still have one" if new and dead else ""


@_property(Served, "R16", "a leave closes the session that it names, and no other")
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


@_property(Served, "R11", "no operation counts twice")
def _marks(served: Served) -> str:
    """No slice holds a number that can only result from counting one operation twice."""
    for key, counter in served.after.counters.items():
        for name, mine in counter.slices.items():
            if not _DIGITS.issuperset(str(mine.count)):
                return f"the slice of {name} on {key} is {mine.count}"
    return ""


# --- While Redis has lost nothing -----------------------------------------------------------------


class Executed(NamedTuple):
    """The steps of request `seq` ran. `last` is the newest request of the same instance that had
    run before."""

    last: int
    seq: int


@_property(Executed, "R11", "no request runs twice, or after a later one of its instance")
def _executed_once(executed: Executed) -> str:
    """A request runs at most once, and never after a later request of its instance."""
    fine = executed.seq > executed.last
    return "" if fine else f"request {executed.seq} runs, and {executed.last} had run before"


class Answered(NamedTuple):
    """What the request in flight is told about the counters that it writes: what the first copy was
    told (empty if none has arrived), and what this copy is told."""

    first: tuple[View, ...]
    now: tuple[View, ...]


@_property(Answered, "R11", "a retry gets the first reply again")
def _same_reply(answered: Answered) -> str:
    """The same request, sent again, is told the same about the counters that it writes."""
    fine = answered.first in ((), answered.now)
    return "" if fine else f"first {answered.first}, now {answered.now}"


class Closed(NamedTuple):
    """The instances whose sessions a request closed, although they live and have not left."""

    names: tuple[str, ...]


@_property(Closed, "R10", "only lost writes close the session of a live instance")
def _no_false_loss(closed: Closed) -> str:
    """No late copy of any request is taken for proof that Redis has lost writes."""
    return f"the session of {', '.join(closed.names)} is closed" if closed.names else ""


class Counted(NamedTuple):
    """The server, and how many sets and deletes have been called so far."""

    server: Server
    moves_of_epoch: int


@_property(Counted, "R6 R11", "a set or delete starts one epoch at most")
def _epochs(counted: Counted) -> str:
    """There are no more epochs than calls of `set` and `delete`."""
    epochs = sum(counter.epoch for counter in counted.server.counters.values())
    fine = epochs <= counted.moves_of_epoch
    return "" if fine else f"{epochs} epochs after {counted.moves_of_epoch} calls"


class Returned(NamedTuple):
    """A call has returned. These linearizations of the calls so far are left, by key."""

    linearizations: Map[str, Linearizations]


@_property(Returned, "R9 R11 R12", "replies are linearizable")
def _linearizable(returned: Returned) -> str:
    """Without deaths and lost writes, each call takes effect at one moment between its beginning
    and its end, as on a plain atomic counter (Wing and Gong). A call that was given up takes
    effect once, before its instance's next call does, or never."""
    for key, calls in returned.linearizations.items():
        if not calls.configurations:
            return f"no order of the calls on {key} explains the replies"
    return ""


# --- Whenever an instance hears a reply -----------------------------------------------------------


class Heard(NamedTuple):
    """An instance before and after it hears a reply."""

    before: Instance
    reply: Reply
    after: Instance


@_property(Heard, "R6", "the epoch that an instance remembers never decreases")
def _remembered_epoch(heard: Heard) -> str:
    """An instance never remembers an older epoch of a counter than before."""
    for key, was in heard.before.memory.items():
        now = heard.after.memory[key]
        if now.epoch < was.epoch:
            return f"the epoch of {key} was remembered as {was.epoch}, and now as {now.epoch}"
    return ""


# --- When the world is quiescent ------------------------------------------------------------------


class Quiescent(NamedTuple):
    """No call is under way, and no copy arrives any more; each live instance has been heard, and
    has then looked at each counter.

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
    server: Server,
    instances: Map[str, Instance],
    indeterminate: Map[str, frozenset[str]],
    wall: int,
    transition: Serve,
    order: Sequence[str],
) -> Quiescent:
    """Let each live instance make a heartbeat, in this order, and then a look at every counter.

    The heartbeats come first because one of them may show that Redis has lost writes, which closes
    the sessions of the instances that were heard before it.
    """
    after, told = instances, tuple[Outcome, ...]()
    looks = tuple((key, Step("get")) for key in sorted(server.counters))
    for steps in ((), looks):
        for name in order:
            server, instance, outcomes = call_at_once(server, after[name], steps, wall, transition)
            after = after.put(name, instance)
            told += outcomes
    return Quiescent(instances, indeterminate, server, after, told)


@_property(Quiescent, "R12", "the next call works")
def _next_call(quiescent: Quiescent) -> str:
    """Whatever happened before, the calls that follow are answered with a result."""
    failed = [outcome for outcome in quiescent.told if not isinstance(outcome, CounterState)]
    return f"{failed}" if failed else ""


@_property(Quiescent, "R10", "a live instance finds its acknowledged counts again")
def _counts_survive(quiescent: Quiescent) -> str:
    """An instance finds its slice as it remembers it; or 0, in a newer epoch."""
    for name, instance in quiescent.instances.items():
        for key, was in instance.memory.items():
            now = quiescent.after[name].memory[key]
            count = was.count if now.epoch == was.epoch else 0
            if key not in quiescent.indeterminate[name] and now.count != count:
                return f"{name} remembered {was} of {key}, and finds {now}"
    return ""


@_property(Quiescent, "R7 R10", "the total is the sum of what the live instances remember")
def _total_is_remembered(quiescent: Quiescent) -> str:
    """Redis holds, of the live instances, exactly what they remember for the counter's epoch."""
    for key, counter in quiescent.server.counters.items():
        memories = [instance.memory.get(key, Memory()) for instance in quiescent.after.values()]
        remembered = sum(m.count for m in memories if m.epoch == counter.epoch)
        held = sum(counter.own(name) for name in quiescent.after)
        if held != remembered:
            return f"{key}: Redis holds {held}, and they remember {remembered}"
    return ""
