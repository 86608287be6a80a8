"""The server: one function from (state, request, wall clock) to (state, reply).

It implements the server's part of R3 to R8, R10, R11, R14 and R16. Each function names its rules.
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
    Reply,
    Request,
)
from oracle.model.operations import View, run_steps, writes
from oracle.model.state import Counter, Server, Session, Slice


def serve(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """Handle one request.

    Args:
        server: the state before the request.
        request: what the instance sent.
        wall: the wall clock in ms; it may jump in either direction.

    Returns:
        The state after the request, and the reply.
    """
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
    """Advance the server's time by as much as the wall clock moved forward (R3).

    The first request starts it. A wall clock that jumps back does not move it.
    """
    now = wall if server.clock is None else server.clock + max(0, wall - server.wall)
    return server._replace(clock=now, wall=wall)


def _now(server: Server) -> int:
    """The server's time T in ms (R3)."""
    assert server.clock is not None, "the clock starts with the first request"
    return server.clock


def _open(server: Server, request: Open) -> tuple[Server, Reply]:
    """Open a session, unless the request is late or a retry (R11).

    A retry gets the session that its first copy opened; a late copy gets nothing.

    If the entry's seq is below a seq whose reply the instance has received, Redis has lost writes,
    and every session is closed (R10). The exception is an entry whose session is newer than the
    instance's last one: a late copy of an earlier open made it, and it proves nothing.

    Opening a session closes the sessions of all dead instances (R14).
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
    """Close every session after lost writes, so that every instance restores its slices (R10)."""
    return server._replace(sessions=Map())


def _lacks_a_record(server: Server, request: Request) -> bool:
    """Whether a retry's completion record is missing, which proves that Redis lost writes (R10).

    The session says that the request was executed, so each slice it wrote should carry its seq.
    """
    written = [part.key for part in request.parts if writes(part.steps)]
    slices = [server.slice_of(key, request.instance) for key in written]
    return any(mine is None or mine.seq != request.seq for mine in slices)


def _execute(server: Server, request: Request, session: Session) -> tuple[Server, Reply]:
    """Execute a request, or answer a retry from its completion records (R11).

    The heartbeat is recorded first. Then, for each counter in turn, the dead are removed, the
    caller's slice is restored and the steps run. In a retry, only the counters that the request
    does not write are read again; the others are answered from their records.
    """
    retry = session.seq == request.seq
    server = _heard(server, request.instance, session._replace(seq=request.seq))
    views, changed = [], dict[str, Counter]()
    for part in request.parts:
        if retry and writes(part.steps):
            views.append(server.counters[part.key].slices[request.instance].before)
            continue
        server, counter = _remove_dead(server, part.key, request)
        counter = _put_back(counter, request.instance, part.memory)
        before = counter.view(request.instance)
        views.append(before)
        if writes(part.steps):
            after, _ = run_steps(before, part.steps)
            mine = Slice(after.count, after.epoch, request.seq, before)
            counter = Counter(after.epoch, counter.slices.put(request.instance, mine))
        changed[part.key] = counter
    return server._replace(counters=server.counters.put_all(changed)), Done(tuple(views))


def _heard(server: Server, instance: str, session: Session) -> Server:
    """Set the instance's heartbeat. Every accepted request does this, including retries (R4)."""
    session = session._replace(heartbeat=_now(server))
    return server._replace(sessions=server.sessions.put(instance, session))


def _is_dead(server: Server, instance: str, threshold: int) -> bool:
    """Whether a caller with this threshold considers the instance dead (R5)."""
    session = server.sessions.get(instance)
    return session is None or _now(server) - session.heartbeat >= threshold


def _remove_dead(server: Server, key: str, request: Request) -> tuple[Server, Counter]:
    """Remove the slices of dead instances, current or stale, and close their sessions (R8).

    An instance that was only silent finds its session closed on its next call, and restores its
    slices.

    Returns:
        The server without these sessions, and the counter without these slices.
    """
    counter = server.counters.get(key, Counter())
    dead = [
        name
        for name in counter.slices
        if name != request.instance and _is_dead(server, name, request.threshold)
    ]
    if not dead:
        return server, counter
    server = server._replace(sessions=server.sessions.without(*dead))
    return server, counter._replace(slices=counter.slices.without(*dead))


def _put_back(counter: Counter, instance: str, memory: Memory) -> Counter:
    """Restore the caller's slice from its memory (R10).

    * If the remembered epoch is newer, Redis has lost the step that advanced it: adopt it.
    * A slice with a higher seq than the memory stands. Otherwise the memory wins, even over a slice
      with the same seq.
    * If the epoch has moved on since, the remembered count no longer applies and the slice is 0.
    * A slice that already counts the right amount is not rewritten.
    """
    counter = counter._replace(epoch=max(counter.epoch, memory.epoch))
    mine = counter.slices.get(instance)
    if mine is not None and mine.seq > memory.seq:
        return counter
    count = memory.count if memory.epoch == counter.epoch else 0
    if count == counter.own(instance):
        return counter
    restored = Slice(count, counter.epoch, memory.seq, View())
    return counter._replace(slices=counter.slices.put(instance, restored))


Serve = Callable[[Server, Message, int], tuple[Server, Reply]]
"""The type of `serve`, which the explorer also uses for servers with a planted defect."""
