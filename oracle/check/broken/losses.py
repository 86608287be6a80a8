"""Broken protocols that are wrong about what Redis loses (R10), and about time that passes while
nobody can be heard (R19)."""

from __future__ import annotations

from oracle import model
from oracle.check.broken.protocol import Broken, replaced
from oracle.check.call_kinds import kinds
from oracle.check.state import Bounds, Protocol
from oracle.model import (
    HERE,
    Counter,
    Left,
    Message,
    NoSession,
    Part,
    Reply,
    Request,
    Server,
    Session,
)
from oracle.model import server as machine

_is_hurt, _keep = machine._is_hurt, machine._keep


def _numbers_begin_again(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The number of the last session is lost with the sessions."""
    if server.clock is None:
        server = server._replace(opened=0)
    return model.serve(server, request, wall)


def _only_retries_show_a_loss(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A counter that is older than its owner's memory is taken as it is."""
    with replaced(_is_hurt=lambda *_: False):
        return model.serve(server, request, wall)


def _memory_is_put_back_silently(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """Every request restores the slices of its counters, and nobody else hears of the loss."""
    if isinstance(request, Request):
        request = request._replace(restores=True)
    return model.serve(server, request, wall)


def _a_lost_counter_is_new(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A counter that is listed and not there is taken for one that nobody has made."""
    lost = [k for k, epoch in server.keys.items() if epoch == HERE and k not in server.counters]
    return model.serve(server._replace(keys=server.keys.without(*lost)), request, wall)


def _an_unlisted_counter_is_right(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """A counter that counts and is not listed is taken as it is."""
    with replaced(_has_live_slices=lambda *_: False):
        return model.serve(server, request, wall)


def _a_lost_counter_stays_listed(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """A counter that was found lost is still listed, and is found again."""
    with replaced(_without_lost_keys=lambda held, _: held):
        return model.serve(server, request, wall)


def _the_finder_keeps_it_to_itself(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """Whoever finds a loss loses only its own session."""
    after, reply = model.serve(server, request, wall)
    if isinstance(reply, NoSession) and not after.sessions:
        after = after._replace(sessions=server.sessions.without(request.instance))
    return after, reply


def _a_slice_may_be_newer_than_its_session(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """A slice whose seq is greater than its session's is no proof of a loss."""

    def is_hurt(held: Server, part: Part, sent: Request, session: Session) -> bool:
        return _is_hurt(held, part, sent, session._replace(seq=model.LIMIT))

    with replaced(_is_hurt=is_hurt):
        return model.serve(server, request, wall)


def _what_ran_unheard_is_a_loss(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """A slice that differs from the caller's memory is proof of a loss, even if a newer request of
    the caller has written it."""

    def is_hurt(held: Server, part: Part, sent: Request, session: Session) -> bool:
        memory = part.memory._replace(seq=model.LIMIT)
        return _is_hurt(held, part._replace(memory=memory), sent, session)

    with replaced(_is_hurt=is_hurt):
        return model.serve(server, request, wall)


def _a_look_lists_nothing(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A counter is listed only when it is made."""

    def keep(held: Server, changed: dict[str, Counter], listed: set[str]) -> Server:
        return _keep(held, changed, listed - held.counters.keys())

    with replaced(_keep=keep):
        return model.serve(server, request, wall)


def _an_outage_is_silence(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """Time passes whether or not anybody could be heard."""
    if server.clock is not None and server.due is not None:
        now = server.clock + max(0, wall - server.wall)
        server = server._replace(clock=now, wall=wall)
    return model.serve(server, request, wall)


def _a_promise_stops_time_for_ever(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """A promise that was broken once still stands."""
    after, reply = model.serve(server, request, wall)
    return (after if after.due is not None else after._replace(due=server.due)), reply


def _a_promise_outlives_a_leave(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """An instance that leaves does not take its promise back."""
    after, reply = model.serve(server, request, wall)
    if isinstance(reply, Left):
        after = after._replace(due=machine.tick(server, wall).due)
    return after, reply


FALLS_BACK = Bounds(kinds=kinds("inc"), key_rollbacks=1)
LOSES_A_KEY = Bounds(kinds=kinds("inc,heartbeat"), key_losses=1)

LOSSES: dict[str, Broken] = {
    "the number of the last session is lost with the sessions": Broken(
        Protocol(_numbers_begin_again),
        Bounds(kinds=kinds("inc"), losses=1),
        "no request runs twice, or after a later one of its instance",
    ),
    "a counter that is older than the memory of it is taken as it is": Broken(
        Protocol(_only_retries_show_a_loss),
        LOSES_A_KEY,
        "a live instance finds its acknowledged counts again",
    ),
    "memory that is newer than Redis is put back silently": Broken(
        Protocol(_memory_is_put_back_silently),
        LOSES_A_KEY,
        "a counter that has lost writes is not answered",
    ),
    "a listed counter that is lost is taken for a new one": Broken(
        Protocol(_a_lost_counter_is_new),
        LOSES_A_KEY,
        "a counter that has lost writes is not answered",
    ),
    "a counter that is not listed is taken as it is": Broken(
        Protocol(_an_unlisted_counter_is_right),
        Bounds(1, operations=3, kinds=kinds("inc,delete_on_instance,release"), key_rollbacks=1),
        "heartbeats alone make every total whole",
    ),
    "a listed counter that is lost is found again and again": Broken(
        Protocol(_a_lost_counter_stays_listed),
        LOSES_A_KEY,
        "only lost writes close the session of a live instance",
    ),
    "whoever finds a loss loses only its own session": Broken(
        Protocol(_the_finder_keeps_it_to_itself),
        LOSES_A_KEY,
        "a loss that is found is made good by everybody's next call",
    ),
    "a slice may be newer than its session": Broken(
        Protocol(_a_slice_may_be_newer_than_its_session),
        FALLS_BACK._replace(operations=1),
        "no operation counts twice",
    ),
    "a request that was given up and ran is taken for lost writes": Broken(
        Protocol(_what_ran_unheard_is_a_loss),
        Bounds(kinds=kinds("inc"), give_ups=1),
        "only lost writes close the session of a live instance",
    ),
    "a look does not list the counter again": Broken(
        Protocol(_a_look_lists_nothing),
        LOSES_A_KEY,
        "a counter that an instance looks at is listed",
    ),
    "an outage counts as silence": Broken(
        Protocol(_an_outage_is_silence),
        Bounds(kinds=kinds("heartbeat"), promises=(1,), ticks=1),
        "time does not pass a promise",
    ),
    "a promise stops time for ever": Broken(
        Protocol(_a_promise_stops_time_for_ever),
        Bounds(kinds=kinds("heartbeat"), promises=(1,), ticks=1),
        "the last promise that stands is kept, and stops time once",
    ),
    "an instance that leaves does not take its promise back": Broken(
        Protocol(_a_promise_outlives_a_leave),
        Bounds(kinds=kinds("heartbeat,leave"), promises=(1,)),
        "the last promise that stands is kept, and stops time once",
    ),
}
