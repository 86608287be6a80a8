"""A bounded world at work: what can happen next, what that leads to, and what must then hold.

A world is a server, some instances, and a network. Once a request has been sent, it stays in the
network: it may arrive never, at once, late, or any number of times. The reply is heard or lost. A
caller waits, sends the request again, or gives up. The clock moves; an instance crashes, another
joins, or starts under its id; Redis loses everything or one key, or falls back to any earlier
state, as a whole or one key of it.

`oracle.check.state` has the parts of a world, `oracle.check.events` lists what can happen, and
`oracle.check.transitions` says what each event does. Nothing is left out here for speed: that is
the business of `oracle.check.fast`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from oracle.check import properties
from oracle.check.call_kinds import HEARTBEAT, LEAVE, RELEASE
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
    KeyIsLost,
    Leaves,
    Looks,
    Restarts,
    SnapshotIsRestored,
    SnapshotIsTaken,
    StrangerCalls,
)
from oracle.check.redis_keys import EVERYTHING, held_keys, lose, restore, snapshot
from oracle.check.state import KEYS, NAMES, RIGHT, Context, Protocol, Slot, World
from oracle.check.transitions import NO_ANSWER, Past, ask, befall, note, react
from oracle.model import Instance, Map, Message, Open, Server, tick


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
    slot, effect = react(slots[place], event, answer, protocol, Past.of(context))
    context = note(context, event.who, effect)
    return World(wall, server, context, (*slots[:place], slot, *slots[place + 1 :]))


def inspect(world: World, protocol: Protocol = RIGHT) -> None:
    """Check what must hold in a state, however the world got there.

    Raises:
        Violation: a property does not hold.
    """
    check_stored(world.context, world.server)
    if all(slot.is_quiescent for slot in world.slots):
        inspect_quiescent(world.server, world.wall, world.slots, protocol)


def check_stored(context: Context, server: Server) -> None:
    """Check what must hold of a server and a context in every state. Raises Violation."""
    if not context.lossy:
        properties.check(properties.Stored(server))
    if not context.rolled_back:
        properties.check(properties.Counted(server, context.moves_of_epoch))


def inspect_quiescent(
    server: Server, wall: int, slots: tuple[Slot, ...], protocol: Protocol
) -> None:
    """Check what must hold when no call is under way and no copy arrives any more, in whichever
    order the instances then act. Raises Violation."""
    live = {
        name: (slot.instance._replace(name=name), slot.indeterminate)
        for name, slot in zip(NAMES, slots, strict=False)
        if slot.instance is not None
    }
    instances = Map({name: instance for name, (instance, _) in live.items()})
    indeterminate = Map({name: keys for name, (_, keys) in live.items()})
    quiet = properties.Quiet(server, instances, wall, protocol)
    for order in permutations(live):
        properties.check(properties.look_around(quiet, indeterminate, order))
        heard = properties.hear_all(quiet, order)
        properties.check(properties.only_heard(heard, quiet.keys, order))
        if order:
            properties.check(properties.let_go(heard, order))
            properties.check(properties.find(quiet, order))


# --- What can happen next -------------------------------------------------------------------------


def own_events(context: Context, slot: Slot, who: str) -> Iterator[InstanceEvent]:
    """What an instance can do without the server."""
    left, instance, life = context.left, slot.instance, slot.life
    if slot.joins_later and left.joins:
        yield Joins(who, life.threshold, life.promise)
    if instance is None:
        if left.reuses and not slot.joins_later:
            yield Restarts(who, life.threshold, life.promise)
        return
    if instance.call is None and left.operations:
        yield from _calls(context, instance, who)
    if instance.call is not None and left.give_ups:
        yield GivesUp(who)
    if left.crashes:
        yield Crashes(who)


def _calls(context: Context, instance: Instance, who: str) -> Iterator[Calls | Looks | Leaves]:
    left = context.left
    keys = KEYS[: left.keys]
    zeros = tuple(key for key, memory in sorted(instance.memory.items()) if not memory.count)
    for kind in left.first[:1] or left.kinds:
        if kind == LEAVE:
            yield Leaves(who)
        elif kind == HEARTBEAT:
            yield Looks(who, tuple(sorted(instance.memory)))
        elif kind == RELEASE:
            yield Looks(who, tuple(key for key in keys if key not in zeros), zeros)
        else:
            for steps in kind.steps(keys, left.operations):
                yield Calls(who, steps)


def request_events(slot: Slot, who: str) -> Iterator[HearsReply | CopyArrives]:
    """What can happen to the requests of an instance."""
    if slot.instance is not None and slot.instance.sent is not None:
        if not slot.resent:
            yield HearsReply(who, slot.instance.sent, resent=False)
        yield HearsReply(who, slot.instance.sent, resent=True)
    for message in sorted(slot.network, key=_order):
        yield CopyArrives(who, message)


def _order(message: Message) -> tuple[int, ...]:
    """Some order of the requests of an instance, and of earlier lives of its id."""
    return message.seq, 0 if isinstance(message, Open) else message.session, message.acked


def common_events(context: Context, server: Server, wall: int) -> Iterator[CommonEvent]:
    """What can happen that no instance does."""
    left = context.left
    if left.ticks:
        lengths = {ms for threshold in left.thresholds for ms in (threshold - 1, threshold)}
        for ms in sorted({1, -1, *lengths} - {0}):
            yield ClockMoves(ms)
    if tick(server, wall) != server:
        yield StrangerCalls()
    if left.losses and lose(server, EVERYTHING) != server:
        yield EverythingIsLost()
    if left.key_losses:
        for key in held_keys(server):
            yield KeyIsLost(key)
    yield from _rollbacks(context, server)


def _rollbacks(context: Context, server: Server) -> Iterator[SnapshotIsTaken | SnapshotIsRestored]:
    """A snapshot is taken only if it can be restored, and restored only if that changes anything.
    An earlier state without a key is the same as one where the key is lost."""
    left, whole = context.left, [held.key == EVERYTHING for held in context.snapshots]
    keys = [EVERYTHING] if sum(whole) < left.rollbacks else []
    keys += held_keys(server) if len(whole) - sum(whole) < left.key_rollbacks else []
    for key in keys:
        if snapshot(server, key, context.unfound) not in context.snapshots:
            yield SnapshotIsTaken(key)
    for number, held in enumerate(context.snapshots):
        if restore(server, held) != server:
            yield SnapshotIsRestored(number)
