"""The server: one function from (state, request, wall clock) to (state, reply).

Rules R3 to R8, R10, R11, R14 and R16 to R19, as far as the server keeps them. Each function names
its own.
"""

from __future__ import annotations

from collections.abc import Callable

from oracle.model.maps import Map
from oracle.model.messages import (
    Done,
    Late,
    Leave,
    Left,
    Memory,
    Message,
    NoSession,
    Open,
    Opened,
    Part,
    Reply,
    Request,
)
from oracle.model.operations import DROP, LOOK, View, run_steps, writes
from oracle.model.state import HERE, Counter, Server, Session, Slice

Serve = Callable[[Server, Message, int], tuple[Server, Reply]]
"""A server's transition: `serve`, or one with a defect planted."""


def serve(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The whole of the server: one request in, one reply out."""
    server = tick(server, wall)
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
        return _leave(server, request, session), Left()
    if _shows_lost_writes(server, request, session):
        return _close_every_session(_unlist_the_lost(server, request)), NoSession()
    return _execute(server, request, session)


# --- Time and sessions ----------------------------------------------------------------------------


def tick(server: Server, wall: int) -> Server:
    """R3: time is the sum of the wall clock's steps forward; the first request starts it.

    R19: time does not pass the moment by which somebody had promised to be heard, if nobody was:
    Redis was out of reach then. One broken promise stops it once.
    """
    if server.clock is None:
        return server._replace(clock=wall, wall=wall)
    now = server.clock + max(0, wall - server.wall)
    if server.due is not None and now > server.due:
        return server._replace(clock=max(server.clock, server.due), wall=wall, due=None)
    return server._replace(clock=now, wall=wall)


def _now(server: Server) -> int:
    assert server.clock is not None, "the clock starts with the first request"
    return server.clock


def _heard(server: Server, request: Open | Request, number: int) -> Server:
    """R4: every request of an instance, a retry too, sets its heartbeat. R19: and its promise."""
    fresh = isinstance(request, Open)
    session = Session(_now(server), request.threshold, number, request.seq, fresh)
    server = server._replace(sessions=server.sessions.put(request.instance, session))
    if not request.promise:
        return server
    due = _now(server) + request.promise
    return server._replace(due=due if server.due is None else max(server.due, due))


def _is_dead(server: Server, instance: str) -> bool:
    """R5: it has no session, or has been silent for its own threshold."""
    session = server.sessions.get(instance)
    return session is None or _now(server) - session.heartbeat >= session.threshold


def _open(server: Server, request: Open) -> tuple[Server, Reply]:
    """R11 holds for opening too: a retry gets the same session, a late copy gets nothing.

    An entry that is older than what the instance has seen answered is proof that Redis lost writes;
    then nobody's session is worth keeping (R10). Not if its session is newer than the instance's
    last: then a late copy of an earlier open has made it. R14: an open closes the sessions of the
    dead.
    """
    session = server.sessions.get(request.instance)
    if session is not None and session.seq >= request.seq and not _is_retry(session, request):
        return server, Late(session.seq)
    if session is not None and _is_retry(session, request):
        return _heard(server, request, session.number), Opened(session.number)
    if session is not None and session.seq < request.acked and session.number <= request.last:
        server = _close_every_session(server)
    dead = [n for n in server.sessions if n != request.instance and _is_dead(server, n)]
    number = server.opened + 1
    server = server._replace(opened=number, sessions=server.sessions.without(*dead))
    return _heard(server, request, number), Opened(number)


def _is_retry(session: Session, request: Open) -> bool:
    """R11, R17: another request of this number is one of an earlier life of the instance's id."""
    return session.fresh and session.seq == request.seq


def _leave(server: Server, request: Leave, session: Session) -> Server:
    """R16: the session is closed. R19: whoever leaves takes its promise back."""
    mine = request.promise and server.due == session.heartbeat + request.promise
    sessions = server.sessions.without(request.instance)
    return server._replace(sessions=sessions, due=None if mine else server.due)


def _close_every_session(server: Server) -> Server:
    """R10: after lost writes each instance is to find out, and to put its slices back."""
    return server._replace(sessions=Map())


# --- Lost writes ----------------------------------------------------------------------------------


def _shows_lost_writes(server: Server, request: Request, session: Session) -> bool:
    """R10: whether a counter is not as this instance, or `keys`, knows that it was."""
    retry = session.seq == request.seq
    for part in request.parts:
        if retry and writes(part.steps):
            if _seq_of_slice(server, part.key, request) != request.seq:
                return True  # the session knows this request, the slice does not
        elif not request.restores and _is_hurt(server, part, request):
            return True
    return False


def _unlist_the_lost(server: Server, request: Request) -> Server:
    """A counter that is listed and not there has been found lost: it is not to be found again."""
    lost = [
        part.key
        for part in request.parts
        if part.key not in server.counters and server.keys.get(part.key) == HERE
    ]
    return server._replace(keys=server.keys.without(*lost))


def _seq_of_slice(server: Server, key: str, request: Request) -> int | None:
    mine = _slice_of(server.counter(key), request)
    return mine.seq if mine else None


def _slice_of(counter: Counter, request: Request) -> Slice | None:
    """R17: the caller's slice, if it is one of its session."""
    mine = counter.slices.get(request.instance)
    return mine if mine and mine.session == request.session else None


def _is_hurt(server: Server, part: Part, request: Request) -> bool:
    """In a session in which all is put back a counter is at least as new as its owner's memory of
    it, and counts the same unless a newer request of the owner has run. And what `keys` names is
    there."""
    key, memory = part.key, part.memory
    if key not in server.counters and server.keys.get(key) == HERE:
        return True
    if DROP in (step.op for step in part.steps):
        return False  # its owner has forgotten what it counts, and wants it gone all the same
    counter = server.counter(key)
    if memory.epoch > counter.epoch:
        return True
    mine = _slice_of(counter, request)
    if mine is not None and mine.seq > memory.seq:
        return False
    have = mine.count if mine is not None and mine.epoch == counter.epoch else 0
    return _remembered(memory, counter) != have


def _remembered(memory: Memory, counter: Counter) -> int:
    """R10: what the owner remembers counts, unless the epoch has moved on."""
    return memory.count if memory.epoch == counter.epoch else 0


# --- Counters -------------------------------------------------------------------------------------


def _execute(server: Server, request: Request, session: Session) -> tuple[Server, Reply]:
    """Heartbeat, remove the dead, put back, run the steps; or answer from the record (R11)."""
    retry = session.seq == request.seq
    server = _heard(server, request, session.number)
    views, changed = [], dict[str, Counter]()
    for part in request.parts:
        if retry and writes(part.steps):
            views.append(server.counters[part.key].slices[request.instance].before)
            continue
        server, counter = _remove_dead(server, part.key)
        if request.restores:
            counter = _put_back(counter, part.memory, request)
        views.append(counter.view(request.instance))
        changed[part.key] = _run(counter, part, request)
    looked = {part.key for part in request.parts if LOOK in (step.op for step in part.steps)}
    return _keep(server, changed, looked), Done(tuple(views))


def _run(counter: Counter, part: Part, request: Request) -> Counter:
    """R9: the counter after the steps. R18: after a look, a slice of 0 is gone; after a drop, any
    slice."""
    name, before = request.instance, counter.view(request.instance)
    ops = {step.op for step in part.steps}
    if writes(part.steps):
        after, _ = run_steps(before, part.steps)
        mine = Slice(after.count, after.epoch, request.seq, request.session, before)
        return Counter(after.epoch, counter.slices.put(name, mine))
    if DROP in ops or (LOOK in ops and not before.count):
        return counter._replace(slices=counter.slices.without(name))
    return counter


def _remove_dead(server: Server, key: str) -> tuple[Server, Counter]:
    """R8: the slices of the dead go, current or stale, and their owners' sessions are closed.
    R17: so do slices of an earlier session of their owner; the session that it has now stays.

    Returns:
        The server without these sessions, and the counter without these slices.
    """
    counter = server.counter(key)
    dead = [name for name in counter.slices if _is_dead(server, name)]
    old = [
        name
        for name, mine in counter.slices.items()
        if name not in dead and mine.session != server.sessions[name].number
    ]
    if dead:
        server = server._replace(sessions=server.sessions.without(*dead))
    return server, counter._replace(slices=counter.slices.without(*dead, *old))


def _put_back(counter: Counter, memory: Memory, request: Request) -> Counter:
    """R10: the owner's memory wins over any copy, unless the epoch has moved on. A newer epoch in
    memory is the true one: Redis has lost the step that made it."""
    if memory.is_nothing:
        return counter
    counter = counter._replace(epoch=max(counter.epoch, memory.epoch))
    count = _remembered(memory, counter)
    restored = Slice(count, counter.epoch, memory.seq, request.session, before=View())
    return counter._replace(slices=counter.slices.put(request.instance, restored))


def _keep(server: Server, changed: dict[str, Counter], looked: set[str]) -> Server:
    """R18: without a slice there is no counter; of a later epoch than 0, its epoch is kept. A
    counter is listed when it is made, and again when somebody looks at it."""
    if not changed:
        return server
    counters, keys = dict(server.counters), dict(server.keys)
    for key, counter in changed.items():
        if counter.slices:
            counters[key] = counter
            if key in looked or key not in server.counters:
                keys[key] = HERE
        elif key in server.counters:
            del counters[key]
            if counter.epoch:
                keys[key] = counter.epoch
            else:
                keys.pop(key, None)
    return server._replace(counters=Map(counters), keys=Map(keys))
