"""The counter as a pure state machine: what every implementation must do, stated plainly.

Two machines and the messages between them. `serve` is the server: one function from
(state, request, wall clock) to (state, reply). `Owner` is an instance: `begin` gives it a call to
make, `speak` says what it sends next, `hear` tells it the reply, `give_up` ends a call that got
none. States are immutable and hashable. There is no I/O, no thread, no clock and no randomness, and
nothing is cached: a total is summed from its slices, a dead slice is found by looking.

The rules that this file keeps are R2 to R16 of `spec/SPEC.md`; each function names its own.
Where they are about messages rather than counts, they come from Raft's client sessions (Ongaro,
"Consensus: Bridging Theory and Practice", 2014, section 6.3) and RIFL's completion records (Lee et
al., SOSP 2015), cut down to one writer per slice.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

LIMIT = 2**53 - 1
"""R2: counts, and totals that a step reports or makes, lie in -LIMIT..LIMIT."""

RESTORE_CHUNK = 100
"""R10: the most slices that an owner puts back in one request."""

PATIENCE = 8
"""How often an owner reopens its session within one call before it stops trying."""

K = TypeVar("K")
V = TypeVar("V")


class Map(dict[K, V]):
    """A dict that is never changed in place, and so can be hashed."""

    __slots__ = ()

    def put(self, key: K, value: V) -> Map[K, V]:
        after = Map(self)
        dict.__setitem__(after, key, value)  # nobody has seen it yet
        return after

    def without(self, *keys: K) -> Map[K, V]:
        return Map({k: v for k, v in self.items() if k not in keys})

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a Map does not change; use put or without")

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = pop = popitem = clear = setdefault = _refuse


# --- Steps: what a call does to one counter ------------------------------------------------------


class Guard(NamedTuple):
    """R15: a step's condition. `test` is a key of `_TESTS`."""

    test: str
    operand: int


class Step(NamedTuple):
    """One operation on one counter. `kind` is a key of `_STEPS`; with a guard, one of `GUARDED`."""

    kind: str
    n: int = 0
    guard: Guard | None = None


class View(NamedTuple):
    """What one instance sees of one counter: the total, the epoch, and its own count."""

    total: int = 0
    epoch: int = 0
    own: int = 0


class Result(NamedTuple):
    """What a call returns: `(cumulative, instance_count)`."""

    cumulative: int
    instance_count: int


class Change(NamedTuple):
    """What a call with a condition returns: the state after it, and before."""

    new: Result
    old: Result


def _get(view: View, _: int) -> tuple[View, Result]:
    return view, Result(view.total, view.own)


def _inc(view: View, n: int) -> tuple[View, Result]:
    after = View(view.total + n, view.epoch, view.own + n)
    return after, Result(after.total, after.own)


def _set_on_instance(view: View, n: int) -> tuple[View, Result]:
    after = View(view.total - view.own + n, view.epoch, n)
    return after, Result(after.total, n)


def _delete_on_instance(view: View, _: int) -> tuple[View, Result]:
    after = View(view.total - view.own, view.epoch, 0)
    return after, Result(after.total, view.own)


def _set(view: View, n: int) -> tuple[View, Result]:
    return View(n, view.epoch + 1, n), Result(n, n)


def _delete(view: View, _: int) -> tuple[View, Result]:
    return View(0, view.epoch + 1, 0), Result(view.total, view.own)


_STEPS = {
    "get": _get,
    "inc": _inc,
    "set_on_instance": _set_on_instance,
    "delete_on_instance": _delete_on_instance,
    "set": _set,
    "delete": _delete,
}
KINDS = tuple(_STEPS)

READS = frozenset({"get"})
"""Steps that change nothing: they may be read again (R11) and need no completion record."""

GLOBAL = frozenset({"set", "delete"})
"""Steps that bump the epoch: their outcome is unknown once the session is lost (R12)."""


_TESTS: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "gt": operator.gt,
}
TESTS = tuple(_TESTS)

GUARDED = ("inc", "set", "set_on_instance")
"""R15: the steps that may have a condition: on the total, and the last on the caller's slice."""


def step_result(view: View, step: Step) -> tuple[View, Result | Change | None]:
    """R9, R15, and R2: the view after the step and what it returns, or the same view and None."""
    if step.guard is None:
        after, result = _STEPS[step.kind](view, step.n)
        return (after, result) if _in_range(after, *result) else (view, None)
    after = _STEPS[step.kind](view, step.n)[0] if _holds(view, step) else view
    change = Change(Result(after.total, after.own), Result(view.total, view.own))
    return (after, change) if _in_range(after, *change.new, *change.old) else (view, None)


def _holds(view: View, step: Step) -> bool:
    assert step.guard is not None and step.kind in GUARDED
    subject = view.own if step.kind == "set_on_instance" else view.total
    return _TESTS[step.guard.test](subject, step.guard.operand)


def _in_range(after: View, *results: int) -> bool:
    return all(abs(n) <= LIMIT for n in (after.total, after.own, *results))


def run_steps(
    view: View, steps: tuple[Step, ...]
) -> tuple[View, tuple[Result | Change | None, ...]]:
    """Run the steps in order; a refused one changes nothing and the others go on (R2)."""
    results = []
    for step in steps:
        view, result = step_result(view, step)
        results.append(result)
    return view, tuple(results)


def writes(steps: tuple[Step, ...]) -> bool:
    return any(step.kind not in READS for step in steps)


# --- The server's state --------------------------------------------------------------------------


class Slice(NamedTuple):
    """One instance's share of one counter, with the completion record of its last write (R11)."""

    value: int
    epoch: int
    seq: int
    before: View


class Counter(NamedTuple):
    """R6: an epoch that only grows, and at most one slice per instance."""

    epoch: int = 0
    slices: Map[str, Slice] = Map()

    @property
    def total(self) -> int:
        """R7: the sum of the current slices; a stale slice counts as 0."""
        return sum(s.value for s in self.slices.values() if s.epoch == self.epoch)

    def own(self, instance: str) -> int:
        mine = self.slices.get(instance)
        return mine.value if mine and mine.epoch == self.epoch else 0

    def view(self, instance: str) -> View:
        return View(self.total, self.epoch, self.own(instance))


class Session(NamedTuple):
    """R4: when the instance was last heard; which session it is; the last request it made."""

    heartbeat: int
    number: int
    seq: int


class Server(NamedTuple):
    """All that Redis holds of one prefix. `clock` is None until the first request."""

    clock: int | None = None
    wall: int = 0
    opened: int = 0
    sessions: Map[str, Session] = Map()
    counters: Map[str, Counter] = Map()


# --- Messages ------------------------------------------------------------------------------------


class Memory(NamedTuple):
    """What the owner knows of its slice, as of its own request `seq` (R10)."""

    epoch: int = 0
    value: int = 0
    seq: int = 0


class Part(NamedTuple):
    """The share of a request that is about one counter."""

    key: str
    memory: Memory
    steps: tuple[Step, ...] = ()


class Open(NamedTuple):
    """Asks for a session. It runs no steps, so that a late copy of it does no harm. `last` is the
    session that the instance had before, 0 if none."""

    instance: str
    seq: int
    acked: int
    threshold: int
    last: int = 0


class Leave(NamedTuple):
    """Closes the instance's own session (R16)."""

    instance: str
    session: int
    seq: int
    acked: int
    threshold: int


class Request(NamedTuple):
    """A heartbeat (R4), with what is to be done on each counter."""

    instance: str
    session: int
    seq: int
    acked: int
    threshold: int
    parts: tuple[Part, ...] = ()


Message = Open | Request | Leave


class Opened(NamedTuple):
    session: int


class Left(NamedTuple):
    """The session is closed."""


class NoSession(NamedTuple):
    """Nothing was executed: the owner opens a session, puts its slices back, sends again."""


class Late(NamedTuple):
    """Nothing was executed: this instance has already made request `seq`."""

    seq: int


class Done(NamedTuple):
    """The state before: what the caller saw of each counter just before its steps ran."""

    views: tuple[View, ...]


Reply = Opened | Left | NoSession | Late | Done


# --- The server's transition ---------------------------------------------------------------------


def serve(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The whole of the server: one request in, one reply out."""
    server = _tick(server, wall)
    if isinstance(request, Open):
        return _open(server, request)
    session = server.sessions.get(request.instance)
    if session is None or session.number != request.session:
        return server, NoSession()
    if session.seq < request.acked:
        return _close_every_session(server), NoSession()
    if session.seq > request.seq:
        return server, Late(session.seq)
    if isinstance(request, Leave):
        return server._replace(sessions=server.sessions.without(request.instance)), Left()
    if session.seq == request.seq and _lacks_a_record(server, request):
        return _close_every_session(server), NoSession()
    return _execute(server, request, session)


def _tick(server: Server, wall: int) -> Server:
    """R3: time is the sum of the wall clock's steps forward; the first request starts it."""
    now = wall if server.clock is None else server.clock + max(0, wall - server.wall)
    return server._replace(clock=now, wall=wall)


def _now(server: Server) -> int:
    assert server.clock is not None, "the clock starts with the first request"
    return server.clock


def _open(server: Server, request: Open) -> tuple[Server, Reply]:
    """R11 holds for opening too: a retry gets the same session, a late copy gets nothing.

    An entry that is older than what the instance has seen answered is proof that Redis lost writes;
    then nobody's session is worth keeping (R10). Not if its session is newer than the instance's
    last: then a late copy of an earlier open has made it. R14: an open closes the sessions of the
    dead.
    """
    session = server.sessions.get(request.instance)
    if session is not None and session.seq > request.seq:
        return server, Late(session.seq)
    if session is not None and session.seq == request.seq:
        return _heard(server, request.instance, session), Opened(session.number)
    if session is not None and session.seq < request.acked and session.number <= request.last:
        server = _close_every_session(server)
    dead = [
        name
        for name in server.sessions
        if name != request.instance and _is_dead(server, name, request.threshold)
    ]
    number = server.opened + 1
    sessions = server.sessions.without(*dead)
    sessions = sessions.put(request.instance, Session(_now(server), number, request.seq))
    return server._replace(opened=number, sessions=sessions), Opened(number)


def _close_every_session(server: Server) -> Server:
    """R10: after lost writes each instance is to find out, and to put its slices back."""
    return server._replace(sessions=Map())


def _lacks_a_record(server: Server, request: Request) -> bool:
    """The session says that this request was executed, its slice does not: Redis lost writes."""
    return any(
        _slice_seq(server, part.key, request.instance) != request.seq
        for part in request.parts
        if writes(part.steps)
    )


def _slice_seq(server: Server, key: str, instance: str) -> int | None:
    mine = server.counters.get(key, Counter()).slices.get(instance)
    return mine.seq if mine else None


def _execute(server: Server, request: Request, session: Session) -> tuple[Server, Reply]:
    """Heartbeat, remove the dead, put back, run the steps; or answer from the record (R11)."""
    retry = session.seq == request.seq
    server = _heard(server, request.instance, session._replace(seq=request.seq))
    views = []
    for part in request.parts:
        if retry and writes(part.steps):
            views.append(server.counters[part.key].slices[request.instance].before)
            continue
        server = _remove_dead(server, part.key, request)
        counter = _put_back(server.counters.get(part.key, Counter()), request.instance, part.memory)
        before = counter.view(request.instance)
        views.append(before)
        if writes(part.steps):
            after, _ = run_steps(before, part.steps)
            mine = Slice(after.own, after.epoch, request.seq, before)
            counter = Counter(after.epoch, counter.slices.put(request.instance, mine))
        server = server._replace(counters=server.counters.put(part.key, counter))
    return server, Done(tuple(views))


def _heard(server: Server, instance: str, session: Session) -> Server:
    """R4: every request of an instance, a retry too, sets its heartbeat."""
    session = session._replace(heartbeat=_now(server))
    return server._replace(sessions=server.sessions.put(instance, session))


def _is_dead(server: Server, instance: str, threshold: int) -> bool:
    """R5, as seen by a caller with this threshold."""
    session = server.sessions.get(instance)
    return session is None or _now(server) - session.heartbeat >= threshold


def _remove_dead(server: Server, key: str, request: Request) -> Server:
    """R8: the slices of the dead go, current or stale, and their owners' sessions are closed."""
    counter = server.counters.get(key, Counter())
    dead = [
        name
        for name in counter.slices
        if name != request.instance and _is_dead(server, name, request.threshold)
    ]
    counter = counter._replace(slices=counter.slices.without(*dead))
    return server._replace(
        sessions=server.sessions.without(*dead),
        counters=server.counters.put(key, counter),
    )


def _put_back(counter: Counter, instance: str, memory: Memory) -> Counter:
    """R10: the owner's memory wins over an older or equal copy, unless the epoch has moved on.

    A newer epoch in memory is the true one: Redis has lost the step that made it. What already
    counts the same is left as it is.
    """
    counter = counter._replace(epoch=max(counter.epoch, memory.epoch))
    mine = counter.slices.get(instance)
    if mine is not None and mine.seq > memory.seq:
        return counter
    count = memory.value if memory.epoch == counter.epoch else 0
    if count == counter.own(instance):
        return counter
    restored = Slice(count, counter.epoch, memory.seq, View())
    return counter._replace(slices=counter.slices.put(instance, restored))


# --- The instance --------------------------------------------------------------------------------

REFUSED = "CounterOverflowError"
"""R2: the step was refused; nothing changed."""

UNKNOWN = "OutcomeUnknownError"
"""R12: the step may or may not have been executed."""

NOT_EXECUTED = "NotExecutedError"
"""The step was surely not executed: no request that carried it can have arrived."""

Outcome = Result | Change | str
"""What a step came to: its result, or one of the three names above."""


class Call(NamedTuple):
    """A call under way, until `done`. `todo` holds (position, key, step); `doubtful` says that an
    earlier transmission of these steps may have been executed; `failure` names what ended the call
    before its time; `leaving` is a call that closes the session, and does nothing else."""

    todo: tuple[tuple[int, str, Step], ...]
    outcomes: Map[int, Outcome] = Map()
    doubtful: bool = False
    reopened: int = 0
    failure: str = ""
    done: bool = False
    leaving: bool = False


class Owner(NamedTuple):
    """An instance: its session, its numbers, and what it remembers of each slice (R10).

    `restoring` holds the keys whose slices are still to be put back into the session. `sent` is the
    request in flight: one at a time. `fence` is the request that opened the session: whatever the
    instance sent before it can no longer execute, so that its memory counts as of then. `last` is
    the number of its last session, which it may have lost.
    """

    instance: str
    threshold: int
    session: int = 0
    fence: int = 0
    seq: int = 0
    acked: int = 0
    memory: Map[str, Memory] = Map()
    restoring: tuple[str, ...] = ()
    sent: Message | None = None
    call: Call | None = None
    last: int = 0


def begin(owner: Owner, steps: tuple[tuple[str, Step], ...]) -> Owner:
    """Start a call: steps on keys, in order. No steps at all is a heartbeat."""
    assert owner.call is None, "one call at a time"
    todo = tuple((i, key, step) for i, (key, step) in enumerate(steps))
    return owner._replace(call=Call(todo))


def begin_leaving(owner: Owner) -> Owner:
    """R16: start to leave. Its counts are forgotten now, whatever becomes of the request; without a
    session there is none to make."""
    assert owner.call is None, "one call at a time"
    memory = Map({key: memory._replace(value=0) for key, memory in owner.memory.items()})
    return owner._replace(memory=memory, call=Call((), leaving=True, done=not owner.session))


def speak(owner: Owner) -> Owner:
    """Choose the next request; it is then `owner.sent`, to be sent as often as it takes."""
    assert owner.call is not None and owner.sent is None
    seq = owner.seq + 1
    if owner.call.leaving:
        leave = Leave(owner.instance, owner.session, seq, owner.acked, owner.threshold)
        return owner._replace(seq=seq, sent=leave)
    if not owner.session:
        opening = Open(owner.instance, seq, owner.acked, owner.threshold, owner.last)
        return owner._replace(seq=seq, sent=opening)
    if owner.restoring:
        keys = owner.restoring[:RESTORE_CHUNK]
        parts = tuple(Part(key, recall(owner, key)) for key in keys)
    else:
        parts = _parts_of_call(owner)
        # A key that is written may hold a slice from now on, whether or not a reply says so: it
        # belongs among those that are put back (as 0) when the session is lost.
        written = {part.key: recall(owner, part.key) for part in parts if writes(part.steps)}
        owner = owner._replace(memory=Map({**written, **owner.memory}))
    request = Request(owner.instance, owner.session, seq, owner.acked, owner.threshold, parts)
    return owner._replace(seq=seq, sent=request)


def recall(owner: Owner, key: str) -> Memory:
    """R10: the memory of a slice, as of the session's fence at the least."""
    memory = owner.memory.get(key, Memory())
    return memory._replace(seq=max(memory.seq, owner.fence))


def _parts_of_call(owner: Owner) -> tuple[Part, ...]:
    """The call's steps, gathered by key in order of first use."""
    assert owner.call is not None
    keys = dict.fromkeys(key for _, key, _ in owner.call.todo)
    return tuple(
        Part(key, recall(owner, key), tuple(s for _, k, s in owner.call.todo if k == key))
        for key in keys
    )


def hear(owner: Owner, reply: Reply, resent: bool) -> Owner:
    """Take the reply to `owner.sent`. What follows is for `speak` to say, until the call is done.

    Args:
        reply: what the server answered.
        resent: whether the request had been sent before without an answer.
    """
    sent, call = owner.sent, owner.call
    assert sent is not None and call is not None
    owner = owner._replace(sent=None)
    if isinstance(reply, Opened):
        return owner._replace(
            session=reply.session,
            last=reply.session,
            fence=sent.seq,
            acked=sent.seq,
            restoring=tuple(sorted(owner.memory)),
        )
    if isinstance(reply, Done):
        assert isinstance(sent, Request)
        return _learn(owner._replace(acked=sent.seq), sent, reply.views)
    if isinstance(reply, Late):
        owner = owner._replace(seq=max(owner.seq, reply.seq))
    if isinstance(sent, Leave):  # whatever the reply, the session is closed
        acked = sent.seq if isinstance(reply, Left) else owner.acked
        return owner._replace(session=0, acked=acked, call=call._replace(done=True))
    return _lose_session(owner, resent and isinstance(sent, Request) and not owner.restoring)


def _learn(owner: Owner, sent: Request, views: tuple[View, ...]) -> Owner:
    """Work out each step's result from the state before, and remember the state after."""
    call = owner.call
    assert call is not None
    memory, outcomes = owner.memory, dict(call.outcomes)
    for part, before in zip(sent.parts, views, strict=True):
        after, results = run_steps(before, part.steps)
        if part.key in memory or after.epoch or after.own:
            memory = memory.put(part.key, Memory(after.epoch, after.own, sent.seq))
        if part.steps:
            places = [place for place, key, _ in call.todo if key == part.key]
            answers = [REFUSED if result is None else result for result in results]
            outcomes.update(zip(places, answers, strict=True))
    owner = owner._replace(memory=memory)
    if owner.restoring:
        return owner._replace(restoring=owner.restoring[RESTORE_CHUNK:])
    return owner._replace(call=call._replace(todo=(), outcomes=Map(outcomes), done=True))


def _lose_session(owner: Owner, doubtful: bool) -> Owner:
    """R12: what an unanswered `set` or `delete` did is unknown; slice-local steps run again.

    They run on the slice as it was remembered, which is exact: the new session's fence keeps every
    earlier copy out, and the slice that one of them made is put back to what it was before.
    """
    call = owner.call
    assert call is not None
    call = call._replace(doubtful=call.doubtful or doubtful, reopened=call.reopened + 1)
    owner = owner._replace(session=0, restoring=(), call=call)
    if call.reopened > PATIENCE:
        return _end(owner)
    if not doubtful:
        return owner
    unknown = {i: UNKNOWN for i, _, step in call.todo if step.kind in GLOBAL}
    todo = tuple(item for item in call.todo if item[0] not in unknown)
    outcomes: Map[int, Outcome] = Map({**call.outcomes, **unknown})
    return owner._replace(call=call._replace(todo=todo, outcomes=outcomes))


def give_up(owner: Owner, arrived: bool) -> Owner:
    """End the call without a reply. Its request is abandoned: the next one has a higher number,
    so that a copy of this one either has been executed or never will be. A session whose slices
    were not all put back is not kept.

    Args:
        arrived: whether a copy of the request in flight may have reached the server.
    """
    assert owner.call is not None and owner.sent is not None
    carried = not isinstance(owner.sent, Open) and not owner.restoring
    doubtful = owner.call.doubtful or (arrived and carried)
    session = 0 if owner.restoring or owner.call.leaving else owner.session
    call = owner.call._replace(doubtful=doubtful)
    return _end(owner._replace(session=session, restoring=(), sent=None, call=call))


def _end(owner: Owner) -> Owner:
    """Give every step that is left the same outcome."""
    call = owner.call
    assert call is not None
    failure = UNKNOWN if call.doubtful else NOT_EXECUTED
    left = {place: failure for place, _, _ in call.todo}
    outcomes: Map[int, Outcome] = Map({**call.outcomes, **left})
    return owner._replace(
        call=call._replace(todo=(), outcomes=outcomes, failure=failure, done=True)
    )


def finish(owner: Owner) -> tuple[Owner, tuple[Outcome, ...]]:
    """Close the call that is done and hand out its outcomes, in the order of its steps."""
    assert owner.call is not None and owner.call.done
    outcomes = owner.call.outcomes
    return owner._replace(call=None), tuple(outcomes[place] for place in sorted(outcomes))


# --- Both together -------------------------------------------------------------------------------

Serve = Callable[[Server, Message, int], tuple[Server, Reply]]
"""A server's transition: `serve`, or one with a defect planted."""


def call_at_once(
    server: Server,
    owner: Owner,
    steps: tuple[tuple[str, Step], ...],
    wall: int,
    transition: Serve = serve,
) -> tuple[Server, Owner, tuple[Outcome, ...]]:
    """A whole call over a network that does not fail."""
    return finish_at_once(server, begin(owner, steps), wall, transition)


def finish_at_once(
    server: Server, owner: Owner, wall: int, transition: Serve = serve
) -> tuple[Server, Owner, tuple[Outcome, ...]]:
    """The call that has begun, over a network that does not fail."""
    while owner.call is not None and not owner.call.done:
        owner = speak(owner)
        assert owner.sent is not None
        server, reply = transition(server, owner.sent, wall)
        owner = hear(owner, reply, resent=False)
    owner, outcomes = finish(owner)
    return server, owner, outcomes
