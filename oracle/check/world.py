"""A bounded world at work: what can happen next, what that leads to, and what must then hold.

A world is a server, some instances, and a network. Once a request has been sent, it stays in the
network: it may arrive never, at once, late, or any number of times. The reply is heard or lost. A
caller waits, sends the request again, or gives up. The clock moves; an instance crashes, another
joins; the server loses everything, or falls back to any earlier state.

`oracle.check.state` has the parts of a world, `oracle.check.events` lists what can happen, and
`oracle.check.transitions` says what each event does. Nothing is left out here for speed: that is
the business of `oracle.check.fast`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from oracle.check import properties
from oracle.check.events import (
    Calls,
    ClockMoves,
    CommonEvent,
    CopyArrives,
    Crashes,
    Event,
    EverythingIsLost,
    GivesUp,
    HearsReply,
    InstanceEvent,
    Joins,
    Leaves,
    SnapshotIsRestored,
    SnapshotIsTaken,
    StrangerCalls,
)
from oracle.check.state import KEYS, NAMES, RIGHT, Context, Protocol, Slot, World
from oracle.check.transitions import NO_ANSWER, ask, befall, note, react
from oracle.model import Map, Server


def events(world: World) -> Iterator[Event]:
    """Everything that can happen next, in a fixed order."""
    for name, slot in zip(NAMES, world.slots, strict=False):
        yield from own_events(world.context, slot, name)
        yield from request_events(slot, name)
    yield from common_events(world.context, world.server, world.wall)


def perform(world: World, event: Event, protocol: Protocol = RIGHT) -> World:
    """What the event leads to.

    Raises:
        Violation: the event breaks a property.
    """
    wall, server, context, slots = world
    if not isinstance(event, InstanceEvent):
        return World(*befall(wall, server, context, event), slots)
    place, answer = NAMES.index(event.who), NO_ANSWER
    if isinstance(event, HearsReply | CopyArrives):
        message = event.message._replace(instance=event.who)
        server, answer = ask(server, message, wall, protocol)
    slot, effect = react(slots[place], event, answer, protocol, context.lossy)
    context = note(context, event.who, effect)
    return World(wall, server, context, (*slots[:place], slot, *slots[place + 1 :]))


def inspect(world: World, protocol: Protocol = RIGHT) -> None:
    """Check what must hold in a state, however the world got there.

    Raises:
        Violation: a property does not hold.
    """
    check_epochs(world.context, world.server)
    if all(slot.is_quiescent for slot in world.slots):
        inspect_quiescent(world.server, world.wall, world.slots, protocol)


def check_epochs(context: Context, server: Server) -> None:
    """Check what must hold of a server and a context in every state. Raises Violation."""
    if not context.lossy:
        properties.check(properties.Counted(server, context.moves_of_epoch))


def inspect_quiescent(
    server: Server, wall: int, slots: tuple[Slot, ...], protocol: Protocol
) -> None:
    """Check what must hold when no call is under way and no copy arrives any more, in whichever
    order the instances then look. Raises Violation."""
    live = {
        name: (slot.instance._replace(name=name), slot.indeterminate)
        for name, slot in zip(NAMES, slots, strict=False)
        if slot.instance is not None
    }
    instances = Map({name: instance for name, (instance, _) in live.items()})
    indeterminate = Map({name: keys for name, (_, keys) in live.items()})
    for order in permutations(live):
        quiescent = properties.look_around(
            server, instances, indeterminate, wall, protocol.serve, order
        )
        properties.check(quiescent)


# --- What can happen next -------------------------------------------------------------------------


def own_events(context: Context, slot: Slot, who: str) -> Iterator[InstanceEvent]:
    """What an instance can do without the server."""
    left, instance = context.left, slot.instance
    if slot.joins_later and left.joins:
        yield Joins(who, left.threshold)
    if instance is None:
        return
    if instance.call is None and left.operations:
        yield from _calls(context, who)
    if instance.call is not None and left.give_ups:
        yield GivesUp(who)
    if left.crashes:
        yield Crashes(who)


def _calls(context: Context, who: str) -> Iterator[Calls | Leaves]:
    left = context.left
    for kind in left.first[:1] or left.kinds:
        if kind.leaving:
            yield Leaves(who)
        else:
            for steps in kind.steps(KEYS[: left.keys], left.operations):
                yield Calls(who, steps)


def request_events(slot: Slot, who: str) -> Iterator[HearsReply | CopyArrives]:
    """What can happen to the requests of an instance."""
    if slot.instance is not None and slot.instance.sent is not None:
        if not slot.resent:
            yield HearsReply(who, slot.instance.sent, resent=False)
        yield HearsReply(who, slot.instance.sent, resent=True)
    for message in sorted(slot.network, key=lambda message: message.seq):
        yield CopyArrives(who, message)


def common_events(context: Context, server: Server, wall: int) -> Iterator[CommonEvent]:
    """What can happen that no instance does."""
    left = context.left
    if left.ticks:
        for ms in sorted({1, left.threshold - 1, left.threshold, -1} - {0}):
            yield ClockMoves(ms)
    if server.clock is not None and server.wall != wall:
        yield StrangerCalls()
    if left.losses:
        yield EverythingIsLost()
    if len(context.snapshots) < left.rollbacks and server not in context.snapshots:
        yield SnapshotIsTaken()
    if left.rollbacks:
        for number in range(len(context.snapshots)):
            yield SnapshotIsRestored(number)
