"""Protocols that look right and are not: `oracle.check.fast.search` must find each of them out.

Each is a small change to the machine. The first four are ways that were considered and not taken
(spec/SPEC.md, "What the rules do not follow from"); the others are one per idea that the machine
depends on, so that every property of `oracle.check.properties` is broken by somebody. `BROKEN` lists
them, each with a world in which it shows and the property that it breaks there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from oracle import model
from oracle.check.world import Bounds, Protocol
from oracle.model import (
    Counter,
    CounterState,
    Done,
    Instance,
    Late,
    Leave,
    Left,
    Map,
    Memory,
    Message,
    Open,
    Opened,
    Outcome,
    Part,
    Reply,
    Request,
    Server,
    Session,
    Slice,
    writes,
)


class Broken(NamedTuple):
    """The machine; a world in which its fault shows; the property that it breaks there."""

    protocol: Protocol
    bounds: Bounds
    breaks: str


def _slice(server: Server, key: str, instance: str) -> Slice | None:
    return server.counters.get(key, Counter()).slices.get(instance)


def _with_parts(request: Request, change: Callable[[Part], Part]) -> Request:
    return request._replace(parts=tuple(map(change, request.parts)))


def _with_memory(request: Message, change: Callable[[str, Memory], Memory]) -> Message:
    """The request as if its instance remembered otherwise."""
    if not isinstance(request, Request):
        return request
    return _with_parts(request, lambda p: p._replace(memory=change(p.key, p.memory)))


def _with_session(server: Server, instance: str, session: Session) -> Server:
    return server._replace(sessions=server.sessions.put(instance, session))


# --- Ways that were not taken --------------------------------------------------------------------


def _fence_by_slice_alone(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """R11 by the slice's seq alone: whoever speaks has a session. Nothing is left to refuse a late
    copy once the slice was removed as dead."""
    if not isinstance(request, Request):
        return model.serve(server, request, wall)
    held = [_slice(server, part.key, request.instance) for part in request.parts]
    last = max((mine.seq for mine in held if mine), default=0)
    if last > request.seq:
        return server, Late(last)
    retry = any(writes(part.steps) for part in request.parts) and last == request.seq
    session = Session(0, request.session, request.seq if retry else request.seq - 1)
    server = _with_session(server, request.instance, session)
    return model.serve(server, request._replace(acked=0), wall)


def _speak_at_once(instance: Instance) -> Instance:
    """No open of its own: a request without a session opens one, and is executed."""
    if instance.session:
        return model.speak(instance)
    instance = model.speak(instance._replace(session=-1))
    assert isinstance(instance.sent, Request)
    return instance._replace(session=0, sent=instance.sent._replace(session=0))


def _open_and_execute(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The session is named after the request that opened it; a late copy does both again."""
    if isinstance(request, Open) or request.session:
        return model.serve(server, request, wall)
    mine = server.sessions.get(request.instance)
    if mine is None or mine.seq < request.seq:
        session = Session(0, request.seq, request.seq - 1)
        server = _with_session(server, request.instance, session)
    return model.serve(server, request._replace(session=request.seq), wall)


def _hear_at_once(instance: Instance, reply: Reply, resent: bool) -> Instance:
    sent = instance.sent
    if isinstance(reply, Done) and isinstance(sent, Request) and not sent.session:
        instance = instance._replace(session=sent.seq, fence=sent.seq)
    return model.hear(instance, reply, resent)


def _old_epochs_come_back(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """What is remembered is put back without a look at its epoch."""

    def newest(key: str, memory: Memory) -> Memory:
        epoch = server.counters.get(key, Counter()).epoch
        return memory._replace(epoch=max(epoch, memory.epoch))

    return model.serve(server, _with_memory(request, newest), wall)


def _clock_runs_backwards(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The server's time follows the wall clock, wherever that goes."""
    if server.clock is not None and wall < server.wall:
        server = server._replace(clock=server.clock + wall - server.wall, wall=wall)
    return model.serve(server, request, wall)


def _equal_copies_win(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The instance's memory loses to a copy in Redis that is as old as it is."""

    def older(_: str, memory: Memory) -> Memory:
        return memory._replace(seq=memory.seq - 1)

    return model.serve(server, _with_memory(request, older), wall)


# --- Other ways to be wrong ----------------------------------------------------------------------


def _late_copies_run(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """Whatever arrives is taken for new."""
    session = server.sessions.get(request.instance)
    if session is not None and isinstance(request, Request) and session.seq >= request.seq:
        session = session._replace(seq=request.seq - 1)
        server = _with_session(server, request.instance, session)
    return model.serve(server, request, wall)


def _read_is_no_heartbeat(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    after, reply = model.serve(server, request, wall)
    was = server.sessions.get(request.instance)
    if was is None or not isinstance(request, Request) or not isinstance(reply, Done):
        return after, reply
    if any(writes(part.steps) for part in request.parts):
        return after, reply
    now = after.sessions[request.instance]._replace(heartbeat=was.heartbeat)
    return _with_session(after, request.instance, now), reply


def _epoch_of_memory(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The instance's epoch wins, even if it is older."""
    if isinstance(request, Request) and server.sessions.get(request.instance):
        for part in request.parts:
            counter = server.counters.get(part.key, Counter())
            if counter.epoch > part.memory.epoch:
                older = counter._replace(epoch=part.memory.epoch)
                counters = server.counters.put(part.key, older)
                after, reply = model.serve(server._replace(counters=counters), request, wall)
                return after, reply
    return model.serve(server, request, wall)


def _stale_slices_count(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A total that no current slices explain."""
    after, reply = model.serve(server, request, wall)
    if not isinstance(request, Request) or not isinstance(reply, Done):
        return after, reply
    views = []
    for part, view in zip(request.parts, reply.views, strict=True):
        slices = server.counters.get(part.key, Counter()).slices.values()
        stale = sum(mine.count for mine in slices if mine.epoch < view.epoch)
        views.append(view._replace(total=view.total + stale))
    return after, Done(tuple(views))


def _the_dead_stay(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A slice whose instance is dead is made stale, and left where it is."""
    after, reply = model.serve(server, request, wall)
    counters = after.counters
    for key, counter in counters.items():
        was = server.counters.get(key, Counter()).slices
        gone = {name: was[name]._replace(epoch=-1) for name in was.keys() - counter.slices.keys()}
        slices = Map({**counter.slices, **gone})
        counters = counters.put(key, counter._replace(slices=slices))
    return after._replace(counters=counters), reply


def _sessions_of_the_dead_stay(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    after, reply = model.serve(server, request, wall)
    if isinstance(request, Open):
        after = after._replace(sessions=Map({**server.sessions, **after.sessions}))
    return after, reply


def _retry_is_read_again(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A retry executes nothing, but is answered as things stand now."""
    after, reply = model.serve(server, request, wall)
    mine = server.sessions.get(request.instance)
    if mine is None or mine.seq != request.seq or not isinstance(request, Request):
        return after, reply
    if not isinstance(reply, Done):
        return after, reply
    return after, Done(tuple(after.counters[p.key].view(request.instance) for p in request.parts))


def _answers_what_was(instance: Instance, reply: Reply, resent: bool) -> Instance:
    """A call that had to be retried tells its caller the state before, for the state after."""
    heard = model.hear(instance, reply, resent)
    if not (resent and isinstance(reply, Done) and heard.call is not None and heard.call.outcomes):
        return heard
    view = reply.views[0]
    told: Map[int, Outcome] = Map({0: CounterState(view.total, view.count)})
    return heard._replace(call=heard.call._replace(outcomes=told))


def _retry_moves_the_epoch(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A retry of a set or delete writes no slice, but its epoch."""
    after, reply = model.serve(server, request, wall)
    if not isinstance(request, Request) or not isinstance(reply, Done):
        return after, reply
    for part in request.parts:
        mine = _slice(server, part.key, request.instance)
        if mine and mine.seq == request.seq and any(s.op in model.GLOBAL for s in part.steps):
            counter = after.counters[part.key]
            moved = counter._replace(epoch=counter.epoch + 1)
            after = after._replace(counters=after.counters.put(part.key, moved))
    return after, reply


def _epochs_are_forgotten(instance: Instance, reply: Reply, resent: bool) -> Instance:
    """What is put back into a new session is remembered without its epoch."""
    heard = model.hear(instance, reply, resent)
    if not isinstance(reply, Opened):
        return heard
    memory = {key: memory._replace(epoch=0) for key, memory in heard.memory.items()}
    return heard._replace(memory=Map(memory))


def _a_read_takes_it_all(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """Whoever reads a counter is alone with it."""
    if isinstance(request, Request):
        for part in request.parts:
            counter = server.counters.get(part.key)
            if counter is not None and not writes(part.steps):
                others = counter.slices.keys() - {request.instance}
                alone = counter._replace(slices=counter.slices.without(*others))
                server = server._replace(counters=server.counters.put(part.key, alone))
    return model.serve(server, request, wall)


def _lost_sessions_stay_lost(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """Only an instance's first open is answered."""
    if isinstance(request, Open) and request.acked:
        return model.serve(server, Request(request.instance, -1, request.seq, 0, 1), wall)
    return model.serve(server, request, wall)


def _any_old_entry_is_a_loss(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """R10: an open does not look at which session has made the entry."""
    if isinstance(request, Open):
        request = request._replace(last=server.opened)
    return model.serve(server, request, wall)


def _conditions_hold(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """R15: no condition is looked at."""
    if isinstance(request, Request):
        request = _with_parts(
            request, lambda p: p._replace(steps=tuple(s._replace(condition=None) for s in p.steps))
        )
    return model.serve(server, request, wall)


def _the_left_stay(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """R16: who leaves is told so, and its session stays."""
    after, reply = model.serve(server, request, wall)
    if isinstance(reply, Left):
        after = _with_session(after, request.instance, server.sessions[request.instance])
    return after, reply


def _any_leave_closes(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A late copy of a leave closes the next session."""
    mine = server.sessions.get(request.instance)
    if isinstance(request, Leave) and mine is not None:
        request = request._replace(session=mine.number, seq=mine.seq)
    return model.serve(server, request, wall)


INC_SET = ("inc", "set")
INC_GET = ("inc", "get")
TWO = Bounds(operations=2, kinds=INC_SET)
CLOCK = Bounds(operations=2, kinds=INC_GET, ticks=1)

BROKEN = {
    "the slice's own number is the only fence": Broken(
        Protocol(_fence_by_slice_alone), CLOCK, "no request runs twice or late"
    ),
    "the session is opened by the first steps": Broken(
        Protocol(_open_and_execute, _speak_at_once, _hear_at_once),
        CLOCK,
        "no request runs twice or late",
    ),
    "what is put back is of whichever epoch": Broken(
        Protocol(_old_epochs_come_back),
        TWO,
        "what was acknowledged is there while its instance lives",
    ),
    "the clock runs backwards": Broken(
        Protocol(_clock_runs_backwards), CLOCK, "time never runs backwards"
    ),
    "the owner's memory loses to an equal copy": Broken(
        Protocol(_equal_copies_win),
        TWO._replace(rollbacks=1),
        "what was acknowledged is there while its instance lives",
    ),
    "a late copy runs": Broken(Protocol(_late_copies_run), TWO, "no operation counts twice"),
    "a read is no heartbeat": Broken(
        Protocol(_read_is_no_heartbeat), CLOCK, "whoever is answered is heard"
    ),
    "the owner's epoch wins": Broken(Protocol(_epoch_of_memory), TWO, "an epoch never shrinks"),
    "stale slices count": Broken(
        Protocol(_stale_slices_count), TWO._replace(operations=3), "a total is explained by slices"
    ),
    "dead slices stay": Broken(
        Protocol(_the_dead_stay), CLOCK, "a dead slice is gone after the next touch"
    ),
    "the sessions of the dead stay": Broken(
        Protocol(_sessions_of_the_dead_stay), CLOCK, "a new session closes those of the dead"
    ),
    "a retry is answered as things stand": Broken(
        Protocol(_retry_is_read_again), TWO, "a retry is answered as it was first"
    ),
    "a retried call tells the state before": Broken(
        Protocol(hear=_answers_what_was),
        TWO._replace(linear=True),
        "replies are linearizable",
    ),
    "a retry moves the epoch": Broken(
        Protocol(_retry_moves_the_epoch), TWO, "a set or delete moves the epoch once"
    ),
    "epochs are forgotten": Broken(
        Protocol(hear=_epochs_are_forgotten),
        TWO._replace(losses=1),
        "an epoch never shrinks in an instance s eyes",
    ),
    "a read takes it all": Broken(
        Protocol(_a_read_takes_it_all), TWO, "the total is what the live instances remember"
    ),
    "a lost session stays lost": Broken(
        Protocol(_lost_sessions_stay_lost), TWO._replace(losses=1), "the next call works"
    ),
    "conditions are not looked at": Broken(
        Protocol(_conditions_hold),
        Bounds(operations=2, kinds=("inc", "inc_if")),
        "a total is explained by slices",
    ),
    "a late open is taken for lost writes": Broken(
        Protocol(_any_old_entry_is_a_loss),
        Bounds(operations=3, kinds=("heartbeat",), ticks=1),
        "only lost writes close the sessions of the living",
    ),
    "who leaves keeps the session": Broken(
        Protocol(_the_left_stay),
        Bounds(operations=2, kinds=("inc", "leave")),
        "a leave closes its own session alone",
    ),
    "a late leave closes the next session": Broken(
        Protocol(_any_leave_closes),
        Bounds(1, operations=3, kinds=("inc", "leave")),
        "only lost writes close the sessions of the living",
    ),
}
