"""What must be true of the counter, each property once, apart from how any machine achieves it.

First R13, the shortest statement of what the counter means; then the properties that
`oracle.check.fast.search` checks on all that happens, in every state that it visits. Each is stated in words
(its docstring) and in code, with its rules; `PROPERTIES` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from oracle.check.linearizability import Order
from oracle.model import (
    Change,
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
    Slice,
    Step,
    View,
    call_at_once,
    run_steps,
    step_result,
    writes,
)


class Meaning(NamedTuple):
    """R13: without faults every reply is a pure function of the calls so far.

    The total that instance I sees on key K at time T is the sum of the current-epoch counts of I
    and of every J with T - heartbeat(J) < D, where a slice is what its owner last made it. No
    sessions, no messages, no removal: laziness shows nowhere.
    """

    heard: Map[str, int] = Map()
    epochs: Map[str, int] = Map()
    slices: Map[tuple[str, str], tuple[int, int]] = Map()

    def view(self, key: str, instance: str, now: int, threshold: int) -> View:
        epoch = self.epochs.get(key, 0)
        current = {
            owner: count
            for (k, owner), (count, made_in) in self.slices.items()
            if k == key and made_in == epoch
        }
        live = {
            owner
            for owner, heartbeat in self.heard.items()
            if owner == instance or now - heartbeat < threshold
        }
        total = sum(count for owner, count in current.items() if owner in live)
        return View(total, epoch, current.get(instance, 0))

    def call(
        self, instance: str, key: str, step: Step, now: int, threshold: int
    ) -> tuple[Meaning, CounterState | Change | None]:
        """The step's result (None: refused, R2), and what is so after it."""
        heard = self.heard.put(instance, now)
        view = self._replace(heard=heard).view(key, instance, now, threshold)
        after, result = step_result(view, step)
        if after == view:
            return self._replace(heard=heard), result
        slices = self.slices.put((key, instance), (after.count, after.epoch))
        return Meaning(heard, self.epochs.put(key, after.epoch), slices), result

    def leave(self, instance: str) -> Meaning:
        """R16: it is dead to everyone from now on, and has nothing to come back with."""
        slices = Map({place: s for place, s in self.slices.items() if place[1] != instance})
        return self._replace(heard=self.heard.without(instance), slices=slices)


class Violation(AssertionError):
    """A property does not hold; the message says which, and its rule."""


class Property(NamedTuple):
    """One property: its rules, its name, and what it says in words. `holds` looks at one thing that
    happened (`Served`, `Heard`...) and returns nothing, or what is wrong."""

    rules: str
    name: str
    words: str
    holds: Callable[[Any], str]


PROPERTIES: dict[type, list[Property]] = {}
"""Every property that `oracle.check.fast.search` checks, by the kind of thing that it is about."""

Holds = TypeVar("Holds", bound=Callable[[Any], str])


def _about(kind: type, rules: str) -> Callable[[Holds], Holds]:
    def register(holds: Holds) -> Holds:
        name = holds.__name__.replace("_", " ")
        words = " ".join((holds.__doc__ or "").split())
        PROPERTIES.setdefault(kind, []).append(Property(rules, name, words, holds))
        return holds

    return register


def check(thing: NamedTuple) -> None:
    """Raise Violation unless every property of this kind of thing holds."""
    for prop in PROPERTIES[type(thing)]:
        wrong = prop.holds(thing)
        if wrong:
            raise Violation(f"{prop.rules}, {prop.name}: {wrong}")


# --- Whenever the server serves a request --------------------------------------------------------


class Served(NamedTuple):
    """One transition of the server."""

    before: Server
    request: Message
    wall: int
    after: Server
    reply: Reply
    parts: tuple[tuple[Part, View], ...]
    """The counters that were answered, each with the caller's state before its steps."""

    def ran(self, part: Part) -> bool:
        """Whether the steps on a counter ran, as the slice shows, and not only a record was
        read."""
        was = _slice(self.before, part.key, self.request.instance)
        now = _slice(self.after, part.key, self.request.instance)
        return now is not None and now.seq == self.request.seq and now != was

    @property
    def executed(self) -> bool:
        return any(writes(part.steps) and self.ran(part) for part, _ in self.parts)

    @property
    def record(self) -> tuple[View, ...]:
        """What was answered of the counters that are written; a read may be read again (R11)."""
        return tuple(view for part, view in self.parts if writes(part.steps))

    @property
    def closed_alive(self) -> tuple[str, ...]:
        """Whose session is gone, though it is not dead and has not left."""
        gone = self.before.sessions.keys() - self.after.sessions.keys()
        caller = self.request.instance
        just = isinstance(self.reply, Left)
        return tuple(sorted(n for n in gone if not (just if n == caller else self.is_dead(n))))

    @property
    def now(self) -> int:
        assert self.after.clock is not None, "a request has read the clock"
        return self.after.clock

    def is_dead(self, name: str) -> bool:
        """R5, of an instance other than the caller."""
        session = self.before.sessions.get(name)
        return session is None or self.now - session.heartbeat >= self.request.threshold


def served(before: Server, request: Message, wall: int, after: Server, reply: Reply) -> Served:
    """A transition, as the properties look at it."""
    parts = tuple[tuple[Part, View], ...]()
    if isinstance(request, Request) and isinstance(reply, Done):
        parts = tuple(zip(request.parts, reply.views, strict=True))
    return Served(before, request, wall, after, reply, parts)


def _slice(server: Server, key: str, instance: str) -> Slice | None:
    return server.counters.get(key, Counter()).slices.get(instance)


@_about(Served, "R3")
def time_never_runs_backwards(served: Served) -> str:
    """The server's time after a request is not before its time at the last one."""
    before = served.before.clock
    return "" if before is None or before <= served.now else f"from {before} to {served.now}"


@_about(Served, "R4")
def whoever_is_answered_is_heard(served: Served) -> str:
    """A request that is answered sets its instance's heartbeat; a late one sets nobody's."""
    name = served.request.instance
    session, was = served.after.sessions.get(name), served.before.sessions.get(name)
    if isinstance(served.reply, Done | Opened):
        fine = session is not None and session.heartbeat == served.now
    else:
        fine = session is None or session == was
    return "" if fine else f"{name} has {session}, at {served.now}"


@_about(Served, "R6")
def an_epoch_never_shrinks(served: Served) -> str:
    """No request makes the epoch of a counter smaller."""
    for key, counter in served.after.counters.items():
        was = served.before.counters.get(key, Counter()).epoch
        if counter.epoch < was:
            return f"that of {key}, from {was} to {counter.epoch}"
    return ""


@_about(Served, "R7 R9")
def a_total_is_explained_by_slices(served: Served) -> str:
    """The state before that a reply tells, with the request's steps run on it, is what the slices
    add up to after the request. (A retry is answered from its record: that is another property.)"""
    for part, view in served.parts:
        counter = served.after.counters.get(part.key, Counter())
        explained, _ = run_steps(view, part.steps)
        if (not writes(part.steps) or served.ran(part)) and explained != counter.view(
            served.request.instance
        ):
            return f"{part.key} was told as {view}, and is {counter}"
    return ""


@_about(Served, "R5 R8")
def a_dead_slice_is_gone_after_the_next_touch(served: Served) -> str:
    """After a request that looked at a counter no slice of a dead owner is in it, and the owner's
    session is closed."""
    for part, _ in served.parts:
        if writes(part.steps) and not served.ran(part):
            continue  # a retry looks at nothing
        for name in served.before.counters.get(part.key, Counter()).slices:
            if name != served.request.instance and served.is_dead(name):
                if name in served.after.counters[part.key].slices:
                    return f"{name} still has a slice of {part.key}"
                if name in served.after.sessions:
                    return f"{name} still has a session"
    return ""


@_about(Served, "R14")
def a_new_session_closes_those_of_the_dead(served: Served) -> str:
    """After a session was opened (and not only named again) nobody else who has one is dead."""
    new = served.after.opened != served.before.opened
    dead = [n for n in served.after.sessions if n != served.request.instance and served.is_dead(n)]
    return f"{dead} still have one" if new and dead else ""


@_about(Served, "R16")
def a_leave_closes_its_own_session_alone(served: Served) -> str:
    """A leave that is answered so closes the session that it names, and nobody else's; any other
    closes none. (Or all, where it shows that Redis has lost writes.)"""
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


DIGITS = {"inc": 1, "set_on_instance": 3, "set": 5}
"""The digit that an explored operation leaves, each at a place of its own."""

MARKS = frozenset("-0" + "".join(map(str, DIGITS.values())))


@_about(Served, "R11")
def no_operation_counts_twice(served: Served) -> str:
    """No slice holds a number that can only come of counting one operation twice."""
    for key, counter in served.after.counters.items():
        for name, mine in counter.slices.items():
            if not MARKS.issuperset(str(mine.count)):
                return f"the slice of {name} on {key} is {mine.count}"
    return ""


# --- While Redis has lost nothing ----------------------------------------------------------------


class Executed(NamedTuple):
    """Steps of request `seq` ran; `last` is the newest of its instance that had run before."""

    last: int
    seq: int


@_about(Executed, "R11")
def no_request_runs_twice_or_late(executed: Executed) -> str:
    """A request runs at most once, and not after a later one of its instance."""
    fine = executed.seq > executed.last
    return "" if fine else f"request {executed.seq} runs, and {executed.last} had run before"


class Answered(NamedTuple):
    """What the request in flight is answered on what it writes, and was answered at `first`."""

    first: tuple[View, ...]
    now: tuple[View, ...]


@_about(Answered, "R11")
def a_retry_is_answered_as_it_was_first(answered: Answered) -> str:
    """The same request sent again returns the first reply."""
    fine = answered.first in ((), answered.now)
    return "" if fine else f"first {answered.first}, now {answered.now}"


class Closed(NamedTuple):
    """Whose sessions a request has closed, though they live and have not left."""

    names: tuple[str, ...]


@_about(Closed, "R10")
def only_lost_writes_close_the_sessions_of_the_living(closed: Closed) -> str:
    """No late copy, of whatever, is taken for a sign that Redis has lost writes."""
    return f"that of {', '.join(closed.names)} is closed" if closed.names else ""


class Counted(NamedTuple):
    """The server, and how many sets and deletes have been called so far."""

    server: Server
    moves_of_epoch: int


@_about(Counted, "R6 R11")
def a_set_or_delete_moves_the_epoch_once(counted: Counted) -> str:
    """There are no more epochs than calls of `set` and `delete`."""
    epochs = sum(counter.epoch for counter in counted.server.counters.values())
    fine = epochs <= counted.moves_of_epoch
    return "" if fine else f"{epochs} epochs of {counted.moves_of_epoch} calls"


class Returned(NamedTuple):
    """A call has returned, and these orders of the calls so far are possible, by key."""

    orders: Map[str, Order]


@_about(Returned, "R9 R11 R12")
def replies_are_linearizable(returned: Returned) -> str:
    """Without deaths and loss of data, each call takes effect at one moment between its beginning
    and its end, as on a plain atomic counter (Wing and Gong). A call that was given up takes effect
    once, before the next one of its instance does, or never."""
    for key, order in returned.orders.items():
        if not order.ways:
            return f"no order of the calls on {key} explains the replies"
    return ""


# --- Whenever an instance hears a reply ----------------------------------------------------------


class Heard(NamedTuple):
    """An instance, before and after a reply."""

    before: Instance
    reply: Reply
    after: Instance


@_about(Heard, "R6")
def an_epoch_never_shrinks_in_an_instance_s_eyes(heard: Heard) -> str:
    """What an instance remembers of a counter is never of an older epoch than before."""
    for key, was in heard.before.memory.items():
        now = heard.after.memory[key]
        if now.epoch < was.epoch:
            return f"{key} was remembered in {was.epoch}, and now in {now.epoch}"
    return ""


# --- At rest -------------------------------------------------------------------------------------


class Rest(NamedTuple):
    """No call is under way, and no copy arrives any more. Each live instance was heard, and has
    then looked at each counter: `instances` as they were, `after` as they are then, with the `server`
    and what they were `told`. `indeterminate` says of an instance on which counters it gave up a call that
    may have run."""

    instances: Map[str, Instance]
    indeterminate: Map[str, frozenset[str]]
    server: Server
    after: Map[str, Instance]
    told: tuple[Outcome, ...]


def come_to_rest(
    server: Server,
    instances: Map[str, Instance],
    indeterminate: Map[str, frozenset[str]],
    wall: int,
    transition: Serve,
    order: Sequence[str],
) -> Rest:
    """Let each live instance be heard, and then look, in this order. Twice, for who is heard may
    notice that Redis has lost writes, and close the sessions of those who were heard before."""
    after, told = instances, tuple[Outcome, ...]()
    looks = tuple((key, Step("get")) for key in sorted(server.counters))
    for steps in ((), looks):
        for name in order:
            server, owner, outcomes = call_at_once(server, after[name], steps, wall, transition)
            after = after.put(name, owner)
            told += outcomes
    return Rest(instances, indeterminate, server, after, told)


@_about(Rest, "R12")
def the_next_call_works(rest: Rest) -> str:
    """Whatever happened, the calls that follow are answered with a result."""
    failed = [outcome for outcome in rest.told if not isinstance(outcome, CounterState)]
    return f"{failed}" if failed else ""


@_about(Rest, "R10")
def what_was_acknowledged_is_there_while_its_instance_lives(rest: Rest) -> str:
    """An instance finds its slice as it remembers it, or 0 in a newer epoch."""
    for name, owner in rest.instances.items():
        for key, was in owner.memory.items():
            now = rest.after[name].memory[key]
            count = was.count if now.epoch == was.epoch else 0
            if key not in rest.indeterminate[name] and now.count != count:
                return f"{name} remembered {was} of {key}, and finds {now}"
    return ""


@_about(Rest, "R7 R10")
def the_total_is_what_the_live_instances_remember(rest: Rest) -> str:
    """After each has been heard and has looked, Redis holds of the living what they remember for
    the counter's epoch."""
    for key, counter in rest.server.counters.items():
        memories = [owner.memory.get(key, Memory()) for owner in rest.after.values()]
        remembered = sum(m.count for m in memories if m.epoch == counter.epoch)
        held = sum(counter.own(name) for name in rest.after)
        if held != remembered:
            return f"{key}: Redis holds {held}, they remember {remembered}"
    return ""
