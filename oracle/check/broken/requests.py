"""Broken protocols that are wrong about requests, replies, time and epochs."""

from __future__ import annotations

from oracle import model
from oracle.check.broken.protocol import Broken, replaced, with_memory, with_parts, with_session
from oracle.check.call_kinds import kinds
from oracle.check.state import Bounds, Protocol
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
    Reply,
    Request,
    Server,
    Session,
    writes,
)

# --- Rejected designs -----------------------------------------------------------------------------


def _fence_by_slice_alone(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """R11 by the seq of the slice alone; every request is taken to have a session. Once the slice
    has been removed as dead, nothing is left to refuse a late copy."""
    if not isinstance(request, Request):
        return model.serve(server, request, wall)
    held = [server.slice_of(part.key, request.instance) for part in request.parts]
    last = max((mine.seq for mine in held if mine), default=0)
    if last > request.seq:
        return server, Late(last)
    retry = any(writes(part.steps) for part in request.parts) and last == request.seq
    seq = request.seq if retry else request.seq - 1
    session = Session(0, request.threshold, request.session, seq)
    server = with_session(server, request.instance, session)
    return model.serve(server, request._replace(acked=0), wall)


def _speak_without_opening(instance: Instance) -> Instance:
    """There is no separate open: a request without a session opens one, restores the slices of its
    counters, and runs its steps."""
    if instance.session:
        return model.speak(instance)
    instance = model.speak(instance._replace(session=-1))
    assert isinstance(instance.sent, Request)
    return instance._replace(session=0, sent=instance.sent._replace(session=0, restores=True))


def _open_and_execute(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The session is named after the request that opens it. A late copy opens it and runs again."""
    if isinstance(request, Open) or request.session:
        return model.serve(server, request, wall)
    mine = server.sessions.get(request.instance)
    if mine is None or mine.seq < request.seq:
        session = Session(0, request.threshold, request.seq, request.seq - 1)
        server = with_session(server, request.instance, session)
    return model.serve(server, request._replace(session=request.seq), wall)


def _hear_the_session(instance: Instance, reply: Reply, resent: bool) -> Instance:
    """The reply to a request that opened the session names the session as well."""
    sent = instance.sent
    if isinstance(reply, Done) and isinstance(sent, Request) and not sent.session:
        instance = instance._replace(session=sent.seq, fence=sent.seq)
    return model.hear(instance, reply, resent)


def _old_epochs_come_back(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """What an instance remembers is put back, whatever epoch it belongs to."""

    def newest(key: str, memory: Memory) -> Memory:
        return memory._replace(epoch=max(server.counter(key).epoch, memory.epoch))

    if isinstance(request, Request) and request.restores:
        return model.serve(server, with_memory(request, newest), wall)
    return model.serve(server, request, wall)


def _clock_runs_backwards(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The server's time follows the wall clock, even when that goes back."""
    if server.clock is not None and wall < server.wall:
        server = server._replace(clock=server.clock + wall - server.wall, wall=wall)
    return model.serve(server, request, wall)


def _equal_copies_win(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A slice in Redis wins over the instance's memory if both are equally old."""

    def older(_: str, memory: Memory) -> Memory:
        return memory._replace(seq=memory.seq - 1)

    return model.serve(server, with_memory(request, older), wall)


# --- Other faults ---------------------------------------------------------------------------------


def _late_copies_run(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """Every request that arrives is treated as a new one."""
    session = server.sessions.get(request.instance)
    if session is not None and isinstance(request, Request) and session.seq >= request.seq:
        session = session._replace(seq=request.seq - 1)
        server = with_session(server, request.instance, session)
    with replaced(_is_hurt=lambda *_: False):  # the slice is newer than the session now
        return model.serve(server, request, wall)


def _read_is_no_heartbeat(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A request that only reads leaves the heartbeat as it was (R4)."""
    after, reply = model.serve(server, request, wall)
    was = server.sessions.get(request.instance)
    if was is None or not isinstance(request, Request) or not isinstance(reply, Done):
        return after, reply
    if any(writes(part.steps) for part in request.parts):
        return after, reply
    now = after.sessions[request.instance]._replace(heartbeat=was.heartbeat)
    return with_session(after, request.instance, now), reply


def _epoch_of_memory(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The epoch that the instance remembers replaces the counter's, even if it is older."""
    if isinstance(request, Request) and server.sessions.get(request.instance):
        for part in request.parts:
            counter = server.counters.get(part.key, Counter())
            if counter.epoch > part.memory.epoch and writes(part.steps):
                older = counter._replace(epoch=part.memory.epoch)
                counters = server.counters.put(part.key, older)
                after, reply = model.serve(server._replace(counters=counters), request, wall)
                return after, reply
    return model.serve(server, request, wall)


def _stale_slices_count(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The total includes slices of older epochs."""
    after, reply = model.serve(server, request, wall)
    if not isinstance(request, Request) or not isinstance(reply, Done):
        return after, reply
    views = []
    for part, view in zip(request.parts, reply.views, strict=True):
        slices = server.counters.get(part.key, Counter()).slices.values()
        stale = sum(mine.count for mine in slices if mine.epoch < view.epoch)
        views.append(view._replace(total=view.total + stale))
    return after, Done(tuple(views))


def _dead_slices_stay(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The slice of a dead instance is made stale instead of being removed."""
    after, reply = model.serve(server, request, wall)
    counters = after.counters
    for key, counter in counters.items():
        was = server.counters.get(key, Counter()).slices
        gone = {name: was[name]._replace(epoch=-1) for name in was.keys() - counter.slices.keys()}
        slices = Map({**counter.slices, **gone})
        counters = counters.put(key, counter._replace(slices=slices))
    return after._replace(counters=counters), reply


def _sessions_of_the_dead_stay(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """Opening a session closes no other (R14)."""
    after, reply = model.serve(server, request, wall)
    if isinstance(request, Open):
        after = after._replace(sessions=Map({**server.sessions, **after.sessions}))
    return after, reply


def _retry_is_read_again(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A retry runs nothing, but is answered with the current view instead of the recorded one."""
    after, reply = model.serve(server, request, wall)
    mine = server.sessions.get(request.instance)
    if mine is None or mine.seq != request.seq or not isinstance(request, Request):
        return after, reply
    if not isinstance(reply, Done):
        return after, reply
    return after, Done(tuple(after.counters[p.key].view(request.instance) for p in request.parts))


def _return_the_state_before(instance: Instance, reply: Reply, resent: bool) -> Instance:
    """A call that was sent again returns the state before its steps, not the one after them."""
    heard = model.hear(instance, reply, resent)
    if not (resent and isinstance(reply, Done) and heard.call is not None and heard.call.outcomes):
        return heard
    view = reply.views[0]
    told: Map[int, Outcome] = Map({0: CounterState(view.total, view.count)})
    return heard._replace(call=heard.call._replace(outcomes=told))


def _retry_moves_the_epoch(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A retry of a set or delete leaves the slice alone, but moves the epoch once more."""
    after, reply = model.serve(server, request, wall)
    if not isinstance(request, Request) or not isinstance(reply, Done):
        return after, reply
    for part in request.parts:
        mine = server.slice_of(part.key, request.instance)
        if mine and mine.seq == request.seq and any(s.op in model.GLOBAL for s in part.steps):
            counter = after.counters[part.key]
            moved = counter._replace(epoch=counter.epoch + 1)
            after = after._replace(counters=after.counters.put(part.key, moved))
    return after, reply


def _epochs_are_forgotten(instance: Instance, reply: Reply, resent: bool) -> Instance:
    """An instance that opens a session forgets the epochs of what it puts back."""
    heard = model.hear(instance, reply, resent)
    if not isinstance(reply, Opened):
        return heard
    memory = {key: memory._replace(epoch=0) for key, memory in heard.memory.items()}
    return heard._replace(memory=Map(memory))


def _a_write_removes_the_others(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """A write removes the slices of all other instances."""
    if isinstance(request, Request):
        for part in request.parts:
            counter = server.counters.get(part.key)
            if counter is not None and writes(part.steps):
                others = counter.slices.keys() - {request.instance}
                alone = counter._replace(slices=counter.slices.without(*others))
                server = server._replace(counters=server.counters.put(part.key, alone))
    return model.serve(server, request, wall)


def _lost_sessions_stay_lost(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """Only the first open of an instance is accepted."""
    if isinstance(request, Open) and request.acked:
        return model.serve(server, Request(request.instance, -1, request.seq, 0, 1), wall)
    return model.serve(server, request, wall)


def _any_old_entry_proves_a_loss(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """An open does not check which session made the entry that it finds (R10)."""
    if isinstance(request, Open):
        request = request._replace(last=server.opened)
    return model.serve(server, request, wall)


def _conditions_are_ignored(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """Steps run whether or not their conditions hold (R15)."""
    if isinstance(request, Request):
        request = with_parts(
            request, lambda p: p._replace(steps=tuple(s._replace(condition=None) for s in p.steps))
        )
    return model.serve(server, request, wall)


def _leaving_keeps_the_session(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A leave is accepted, but does not close the session (R16)."""
    after, reply = model.serve(server, request, wall)
    if isinstance(reply, Left):
        after = with_session(after, request.instance, server.sessions[request.instance])
    return after, reply


def _a_leave_closes_any_session(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """A leave closes the instance's current session, whichever it names (R16)."""
    mine = server.sessions.get(request.instance)
    if isinstance(request, Leave) and mine is not None:
        request = request._replace(session=mine.number, seq=mine.seq)
    return model.serve(server, request, wall)


INC_SET = kinds("inc,set")
TWO_CALLS = Bounds(operations=2, kinds=INC_SET)
ONE_TICK = Bounds(operations=2, kinds=kinds("inc,get"), ticks=1)

REQUESTS: dict[str, Broken] = {
    "only the seq of a slice keeps late copies out": Broken(
        Protocol(_fence_by_slice_alone),
        ONE_TICK,
        "the total is the sum of what the live instances remember",
    ),
    "one request opens the session and runs steps in it": Broken(
        Protocol(_open_and_execute, _speak_without_opening, _hear_the_session),
        ONE_TICK,
        "no request runs twice, or after a later one of its instance",
    ),
    "a slice is put back although the epoch has moved on": Broken(
        Protocol(_old_epochs_come_back),
        TWO_CALLS._replace(ticks=1),
        "a live instance finds its acknowledged counts again",
    ),
    "the server's time follows the wall clock back": Broken(
        Protocol(_clock_runs_backwards), ONE_TICK, "time never runs backwards"
    ),
    "a slice in Redis wins over an equally old memory": Broken(
        Protocol(_equal_copies_win),
        TWO_CALLS._replace(rollbacks=1),
        "a live instance finds its acknowledged counts again",
    ),
    "a late copy of a request runs": Broken(
        Protocol(_late_copies_run), TWO_CALLS, "no operation counts twice"
    ),
    "a read is not a heartbeat": Broken(
        Protocol(_read_is_no_heartbeat),
        ONE_TICK,
        "an answered request sets the heartbeat of its instance, and no other does",
    ),
    "an instance's older epoch replaces the counter's": Broken(
        Protocol(_epoch_of_memory), TWO_CALLS, "the epoch of a counter never decreases"
    ),
    "the total includes stale slices": Broken(
        Protocol(_stale_slices_count),
        TWO_CALLS._replace(operations=3),
        "a reply is explained by the slices",
    ),
    "the slices of the dead are kept": Broken(
        Protocol(_dead_slices_stay),
        ONE_TICK,
        "the next request on a counter removes the slices of the dead",
    ),
    "an open keeps the sessions of the dead": Broken(
        Protocol(_sessions_of_the_dead_stay),
        ONE_TICK,
        "opening a session closes the sessions of the dead",
    ),
    "a retry is answered with the current view": Broken(
        Protocol(_retry_is_read_again), TWO_CALLS, "a retry gets the first reply again"
    ),
    "a retried call returns the state before it": Broken(
        Protocol(hear=_return_the_state_before),
        TWO_CALLS._replace(linear=True),
        "replies are linearizable",
    ),
    "a retry of a set or delete moves the epoch again": Broken(
        Protocol(_retry_moves_the_epoch), TWO_CALLS, "a set or delete starts one epoch at most"
    ),
    "an instance that opens a session forgets epochs": Broken(
        Protocol(hear=_epochs_are_forgotten),
        TWO_CALLS._replace(losses=1),
        "a live instance finds its acknowledged counts again",
    ),
    "a write removes the slices of the other instances": Broken(
        Protocol(_a_write_removes_the_others),
        TWO_CALLS,
        "a request removes no slice of another instance that lives",
    ),
    "an instance can open only one session": Broken(
        Protocol(_lost_sessions_stay_lost), TWO_CALLS._replace(losses=1), "the next call works"
    ),
    "steps run whether or not their conditions hold": Broken(
        Protocol(_conditions_are_ignored),
        Bounds(operations=2, kinds=kinds("inc,inc_if")),
        "a reply is explained by the slices",
    ),
    "a late copy of an open is taken for lost writes": Broken(
        Protocol(_any_old_entry_proves_a_loss),
        Bounds(operations=3, kinds=kinds("heartbeat"), ticks=1),
        "only lost writes close the session of a live instance",
    ),
    "a leave does not close the session": Broken(
        Protocol(_leaving_keeps_the_session),
        Bounds(operations=2, kinds=kinds("inc,leave")),
        "a leave closes the session that it names, and no other",
    ),
    "a late copy of a leave closes the next session": Broken(
        Protocol(_a_leave_closes_any_session),
        Bounds(1, operations=3, kinds=kinds("inc,leave")),
        "only lost writes close the session of a live instance",
    ),
}
