"""The server: one function from (state, request, wall clock) to (state, reply).

It implements the server's part of R3 to R8, R10, R11, R14 and R16 to R19. Each function names its
rules.
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


def serve(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """Handle one request.

    Args:
        server: the state before the request.
        request: what the instance sent.
        wall: the wall clock in ms; it may jump in either direction.

    Returns:
        The state after the request, and the reply.
    """
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
        return _close_every_session(_without_lost_keys(server, request)), NoSession()
    return _execute(server, request, session)


# --- Time -----------------------------------------------------------------------------------------


def tick(server: Server, wall: int) -> Server:
    """Advance the server's time by as much as the wall clock moved forward (R3).

    The first request starts it. A wall clock that jumps back does not move it.

    Time does not pass the moment by which somebody had promised to be heard, if nobody was heard
    until now: Redis was out of reach (R19). A promise stops time once.
    """
    if server.clock is None:
        return server._replace(clock=wall, wall=wall)
    now = server.clock + max(0, wall - server.wall)
    if server.due is not None and now > server.due:
        return server._replace(clock=max(server.clock, server.due), wall=wall, due=None)
    return server._replace(clock=now, wall=wall)


def _now(server: Server) -> int:
    """The server's time T in ms (R3)."""
    assert server.clock is not None, "the clock starts with the first request"
    return server.clock


def _heard(server: Server, request: Open | Request, number: int) -> Server:
    """Set the heartbeat of the instance, whose session has this number, and note its promise. Every
    accepted request does this, including retries (R4, R19)."""
    fresh = isinstance(request, Open)
    session = Session(_now(server), request.threshold, number, request.seq, fresh)
    server = server._replace(sessions=server.sessions.put(request.instance, session))
    if not request.promise:
        return server
    due = _now(server) + request.promise
    return server._replace(due=due if server.due is None else max(server.due, due))


def _is_dead(server: Server, instance: str) -> bool:
    """Whether the instance has no session, or has been silent for its own threshold (R5)."""
    session = server.sessions.get(instance)
    return session is None or _now(server) - session.heartbeat >= session.threshold


# --- Sessions -------------------------------------------------------------------------------------


def _open(server: Server, request: Open) -> tuple[Server, Reply]:
    """Open a session, unless the request is late or a retry (R11).

    A retry gets the session that its first copy opened; a late copy gets nothing.

    If the entry's seq is below a seq whose reply the instance has received, Redis has lost writes,
    and every session is closed (R10). The exception is an entry whose session is newer than the
    instance's last one: a late copy of an earlier open made it, and it proves nothing.

    Opening a session closes the sessions of all dead instances (R14).
    """
    session = server.sessions.get(request.instance)
    if session is not None and _is_retry(session, request):
        return _heard(server, request, session.number), Opened(session.number)
    if session is not None and session.seq >= request.seq:
        return server, Late(session.seq)
    if session is not None and session.seq < request.acked and session.number <= request.last:
        server = _close_every_session(server)
    dead = [n for n in server.sessions if n != request.instance and _is_dead(server, n)]
    number = server.opened + 1
    server = server._replace(opened=number, sessions=server.sessions.without(*dead))
    return _heard(server, request, number), Opened(number)


def _is_retry(session: Session, request: Open) -> bool:
    """Whether this very open has made the session. Another request of the same seq is one of an
    earlier life of the instance's id (R17)."""
    return session.fresh and session.seq == request.seq


def _leave(server: Server, request: Leave, session: Session) -> Server:
    """Close the session (R16). If the last promise to be heard was the caller's, it is withdrawn
    (R19)."""
    mine = request.promise and server.due == session.heartbeat + request.promise
    sessions = server.sessions.without(request.instance)
    return server._replace(sessions=sessions, due=None if mine else server.due)


def _close_every_session(server: Server) -> Server:
    """Close every session after lost writes, so that every instance restores its slices (R10)."""
    return server._replace(sessions=Map())


# --- Lost writes ----------------------------------------------------------------------------------


def _shows_lost_writes(server: Server, request: Request, session: Session) -> bool:
    """Whether a counter is not as the caller, or `keys`, knows that it was (R10).

    A retry shows it too, if a slice that the request wrote lacks its completion record: the session
    says that the request was executed. A caller that drops a slice has forgotten it: that shows
    nothing.
    """
    retry = session.seq == request.seq
    for part in request.parts:
        if retry and writes(part.steps):
            mine = _slice_of(server, part.key, request)
            if mine is None or mine.seq != request.seq:
                return True
        elif not (request.restores or _drops(part)) and _is_hurt(server, part, request, session):
            return True
    return False


def _slice_of(server: Server, key: str, request: Request) -> Slice | None:
    """The caller's slice, if it belongs to this session (R17)."""
    mine = server.slice_of(key, request.instance)
    return mine if mine is not None and mine.session == request.session else None


def _is_hurt(server: Server, part: Part, request: Request, session: Session) -> bool:
    """Whether Redis has lost writes to this counter, or to the sessions (R10).

    Once everything is restored, a counter is at least as new as its owners' memories of it, and
    each slice counts what its owner remembers, unless a newer request of the owner has run. No
    slice is newer than the session to which it belongs. A counter that `keys` lists is there; one
    that has a slice that counts is listed. (A caller that remembers something of the counter does
    not ask whether it is listed: its memory says whether the counter is right.)
    """
    counter, listed = server.counter(part.key), server.keys.get(part.key) == HERE
    if part.key not in server.counters and listed:
        return True
    if part.memory.is_nothing and not listed and _has_live_slices(server, counter):
        return True
    if part.memory.epoch > counter.epoch:
        return True
    mine = _slice_of(server, part.key, request)
    if mine is not None and mine.seq > session.seq:
        return True
    if mine is not None and mine.seq > part.memory.seq:
        return False
    have = mine.count if mine is not None and mine.epoch == counter.epoch else 0
    return _remembered(part.memory, counter) != have


def _has_live_slices(server: Server, counter: Counter) -> bool:
    """Whether any slice of the counter would be kept (R8, R17)."""
    return any(not _is_gone(server, name, mine) for name, mine in counter.slices.items())


def _remembered(memory: Memory, counter: Counter) -> int:
    """The remembered count, which no longer applies if the epoch has moved on (R10)."""
    return memory.count if memory.epoch == counter.epoch else 0


def _without_lost_keys(server: Server, request: Request) -> Server:
    """Without the keys of counters that are listed and not there: each is found lost once (R10)."""
    lost = [
        part.key
        for part in request.parts
        if part.key not in server.counters and server.keys.get(part.key) == HERE
    ]
    return server._replace(keys=server.keys.without(*lost))


# --- Counters -------------------------------------------------------------------------------------


def _execute(server: Server, request: Request, session: Session) -> tuple[Server, Reply]:
    """Execute a request, or answer a retry from its completion records (R11).

    The heartbeat is recorded first. Then, for each counter in turn, the dead are removed, the
    caller's slice is restored if the request restores, and the steps run. In a retry, only the
    counters that the request does not write are read again; the others are answered from their
    records.
    """
    retry = session.seq == request.seq
    server = _heard(server, request, session.number)
    views, changed, listed = [], dict[str, Counter](), set[str]()
    for part in request.parts:
        if retry and writes(part.steps):
            views.append(server.counters[part.key].slices[request.instance].before)
            continue
        server, counter = _remove_dead(server, part.key)
        if not counter.slices or _looks(part):
            listed.add(part.key)
        if request.restores:
            counter = _put_back(counter, part.memory, request)
        views.append(counter.view(request.instance))
        changed[part.key] = _run(counter, part, request)
    return _keep(server, changed, listed), Done(tuple(views))


def _looks(part: Part) -> bool:
    return any(step.op == LOOK for step in part.steps)


def _drops(part: Part) -> bool:
    return any(step.op == DROP for step in part.steps)


def _remove_dead(server: Server, key: str) -> tuple[Server, Counter]:
    """Remove the slices of dead instances, current or stale, and close their sessions (R8). Remove
    slices of earlier sessions of their owners too, whose sessions of today stay (R17).

    An instance that was only silent finds its session closed on its next call, and restores its
    slices.

    Returns:
        The server without these sessions, and the counter without these slices.
    """
    counter = server.counter(key)
    gone = [name for name, mine in counter.slices.items() if _is_gone(server, name, mine)]
    if not gone:
        return server, counter
    dead = [name for name in gone if _is_dead(server, name)]
    server = server._replace(sessions=server.sessions.without(*dead))
    kept = counter.slices.without(*gone)
    # Without slices it is a counter that is not there, whose epoch `keys` may know better.
    epoch = counter.epoch if kept else max(counter.epoch, server.keys.get(key, 0))
    return server, Counter(epoch, kept)


def _is_gone(server: Server, owner: str, mine: Slice) -> bool:
    """Whether the owner is dead (R8), or the slice is one of an earlier session of it (R17)."""
    return _is_dead(server, owner) or mine.session != server.sessions[owner].number


def _put_back(counter: Counter, memory: Memory, request: Request) -> Counter:
    """Restore the caller's slice from its memory, which wins over any copy in Redis (R10).

    * If the remembered epoch is newer, Redis has lost the step that advanced it: adopt it.
    * If the epoch has moved on since, the remembered count no longer applies and the slice is 0.
    """
    if memory.is_nothing:
        return counter
    counter = counter._replace(epoch=max(counter.epoch, memory.epoch))
    count = _remembered(memory, counter)
    restored = Slice(count, counter.epoch, memory.seq, request.session, before=View())
    return counter._replace(slices=counter.slices.put(request.instance, restored))


def _run(counter: Counter, part: Part, request: Request) -> Counter:
    """The counter after the steps (R9).

    A drop removes the caller's slice, and a look does so if it counts 0 (R18). If the caller
    remembers another count, a request that it gave up has run, and the look's reply says so. The
    slice is then removed by a later look: a retry of this one would take its absence for a loss.
    """
    name, before = request.instance, counter.view(request.instance)
    if writes(part.steps):
        after, _ = run_steps(before, part.steps)
        mine = Slice(after.count, after.epoch, request.seq, request.session, before)
        return Counter(after.epoch, counter.slices.put(name, mine))
    agreed = not before.count and not _remembered(part.memory, counter)
    if _drops(part) or (_looks(part) and agreed):
        return counter._replace(slices=counter.slices.without(name))
    return counter


def _keep(server: Server, changed: dict[str, Counter], listed: set[str]) -> Server:
    """The server with these counters changed.

    A counter without a slice is not kept; if its epoch is not 0, the epoch is (R18), or a later one
    that was kept before. A counter is listed when it is made, and again when somebody looks at it.

    Args:
        server: the server before.
        changed: the counters as they are now.
        listed: which of them to list, if they are kept.
    """
    counters, keys = {**server.counters, **changed}, dict(server.keys)
    for key, counter in changed.items():
        if counter.slices:
            keys.update({key: HERE} if key in listed else {})
            continue
        del counters[key]
        if key in server.counters:
            epoch = max(counter.epoch, keys.pop(key, 0))
            keys.update({key: epoch} if epoch else {})
    return server._replace(counters=Map(counters), keys=Map(keys))


Serve = Callable[[Server, Message, int], tuple[Server, Reply]]
"""The type of `serve`, which the explorer also uses for servers with a planted defect."""
