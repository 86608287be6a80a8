"""Broken protocols that are wrong about which slices there are, and for how long (R5, R17, R18)."""

from __future__ import annotations

from oracle import model
from oracle.check.broken.protocol import Broken, replaced
from oracle.check.call_kinds import kinds
from oracle.check.state import Bounds, Protocol
from oracle.model import (
    DROP,
    HERE,
    LOOK,
    Counter,
    Done,
    Instance,
    Map,
    Message,
    Opened,
    Part,
    Reply,
    Request,
    Server,
    Step,
)
from oracle.model import server as machine

_keep, _run = machine._keep, machine._run


def _slices_outlive_their_session(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """A slice counts as long as its owner has any session."""

    def remove_dead(held: Server, key: str) -> tuple[Server, Counter]:
        counter = held.counter(key)
        dead = [name for name in counter.slices if machine._is_dead(held, name)]
        held = held._replace(sessions=held.sessions.without(*dead))
        return held, counter._replace(slices=counter.slices.without(*dead))

    with replaced(_remove_dead=remove_dead):
        return model.serve(server, request, wall)


def _any_request_is_the_open(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """An open is the retry of whatever request had its number."""
    with replaced(_is_retry=lambda session, sent: session.seq == sent.seq):
        return model.serve(server, request, wall)


def _the_caller_s_threshold_judges(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """An instance is dead if it has been silent for the caller's threshold."""

    def is_dead(held: Server, name: str) -> bool:
        session = held.sessions.get(name)
        return session is None or machine._now(held) - session.heartbeat >= request.threshold

    with replaced(_is_dead=is_dead):
        return model.serve(server, request, wall)


def _empty_counters_stay(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A counter stays when its last slice is gone."""
    after, reply = model.serve(server, request, wall)
    gone = server.counters.keys() - after.counters.keys()
    empty = {key: Counter(server.counters[key].epoch) for key in gone}
    counters = after.counters.put_all(empty)
    return after._replace(
        counters=counters, keys=after.keys.put_all(dict.fromkeys(gone, HERE))
    ), reply


def _epochs_vanish_with_the_counter(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """Of a counter that has lost its last slice, nothing is kept."""
    after, reply = model.serve(server, request, wall)
    gone = server.counters.keys() - after.counters.keys()
    return after._replace(keys=after.keys.without(*gone)), reply


def _a_count_is_released(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A look removes the caller's slice, whatever it counts."""

    def run(counter: Counter, part: Part, sent: Request) -> Counter:
        steps = tuple(step._replace(op=DROP) if step.op == LOOK else step for step in part.steps)
        return _run(counter, part._replace(steps=steps), sent)

    with replaced(_run=run):
        return model.serve(server, request, wall)


def _a_slice_of_zero_stays(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """A look leaves the caller's slice as it is."""

    def run(counter: Counter, part: Part, sent: Request) -> Counter:
        return counter if part.steps == (Step(LOOK),) else _run(counter, part, sent)

    with replaced(_run=run):
        return model.serve(server, request, wall)


def _new_counters_are_not_listed(
    server: Server, request: Message, wall: int
) -> tuple[Server, Reply]:
    """A counter is listed only when somebody looks at it."""

    def keep(held: Server, changed: dict[str, Counter], listed: set[str]) -> Server:
        return _keep(held, changed, listed & held.counters.keys())

    with replaced(_keep=keep):
        return model.serve(server, request, wall)


def _learn_only_what_is_remembered(instance: Instance, reply: Reply, resent: bool) -> Instance:
    """A count that the instance does not remember stays unknown to it."""
    heard = model.hear(instance, reply, resent)
    if not isinstance(reply, Done):
        return heard
    known = {key: memory for key, memory in heard.memory.items() if key in instance.memory}
    return heard._replace(memory=Map(known))


def _restart_from_later_epochs(instance: Instance, reply: Reply, resent: bool) -> Instance:
    """An instance that opens a session forgets every 0, whatever its epoch."""
    heard = model.hear(instance, reply, resent)
    if not isinstance(reply, Opened):
        return heard
    counts = Map({key: memory for key, memory in heard.memory.items() if memory.count})
    return heard._replace(memory=counts, restoring=tuple(sorted(counts)))


REUSES = Bounds(1, kinds=kinds("inc"), crashes=1, reuses=1)
RELEASES = Bounds(kinds=kinds("inc,delete,release"))

SLICES: dict[str, Broken] = {
    "a slice outlives its session": Broken(
        Protocol(_slices_outlive_their_session),
        REUSES._replace(instances=2, kinds=kinds("inc,get")),
        "the next request on a counter removes the slices of earlier sessions",
    ),
    "an open is the retry of any request with its number": Broken(
        Protocol(_any_request_is_the_open),
        REUSES,
        "only lost writes close the session of a live instance",
    ),
    "the caller's threshold judges the others": Broken(
        Protocol(_the_caller_s_threshold_judges),
        Bounds(kinds=kinds("inc,get"), thresholds=(1, 3), ticks=1),
        "opening a session closes the sessions of the dead",
    ),
    "a counter without slices stays": Broken(
        Protocol(_empty_counters_stay),
        Bounds(kinds=kinds("inc,leave")),
        "a counter without slices vanishes, and its epoch stays",
    ),
    "the epoch of a counter that vanishes is forgotten": Broken(
        Protocol(_epochs_vanish_with_the_counter),
        RELEASES,
        "the epoch of a counter never decreases",
    ),
    "a look removes a slice that counts": Broken(
        Protocol(_a_count_is_released), RELEASES, "heartbeats alone make every total whole"
    ),
    "a look leaves a slice of 0": Broken(
        Protocol(_a_slice_of_zero_stays), RELEASES, "what everybody has let go of is gone"
    ),
    "a counter that is made is not listed": Broken(
        Protocol(_new_counters_are_not_listed), RELEASES, "the list of counters is exact"
    ),
    "an instance learns nothing of a counter that it does not remember": Broken(
        Protocol(hear=_learn_only_what_is_remembered),
        RELEASES._replace(give_ups=1),
        "the total is the sum of what the live instances remember",
    ),
    "an instance that opens a session forgets every 0": Broken(
        Protocol(hear=_restart_from_later_epochs),
        Bounds(kinds=kinds("inc,delete"), losses=1),
        "the epoch that an instance remembers never decreases",
    ),
}
