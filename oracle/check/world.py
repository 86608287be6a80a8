"""A bounded world of the oracle: what is so, what can happen next, and what it leads to.

A world is a server, some instances, and a network. A request, once sent, stays in the network: it
may arrive never, at once, late, or any number of times. A reply is heard or lost. A caller waits,
sends again, or gives up. The clock moves; an instance crashes, another joins; the server loses
everything, or falls back to any earlier state.

A world has three parts. The `Server` is the model's. A `Slot` is one instance with its share of the
network. The `Context` is what can still happen, and what must be remembered of the past to judge
it. Whatever happens is made of three functions, each of which knows one part: `ask` (the server, a
message), `react` (a slot, an event, an answer) and `note` (the context, an effect).
`oracle.check.fast.search` is fast because each of them meets the same arguments again and again. A slot does
not know its instance's name: to rename instances is to permute slots.

Nothing is left out here for speed: that is `oracle.check.fast.reductions`'s business. What must hold is in
`oracle.check.properties`, and is checked at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import NamedTuple

from oracle import model
from oracle.check import properties as invariants
from oracle.check.linearizability import Order
from oracle.model import (
    Change,
    Condition,
    CounterState,
    Done,
    Instance,
    Map,
    Message,
    Outcome,
    Reply,
    Request,
    Server,
    Step,
    View,
)

NAMES = "ABCDEFGH"
KEYS = ("k", "j", "i")
HERE = ""
"""The name that an instance has in its own slot."""

Steps = tuple[tuple[str, Step], ...]

KINDS = (*model.OPERATIONS, *(f"{kind}_if" for kind in model.CONDITIONAL), "heartbeat", "leave")
"""What an instance can call: the operations on a counter, those that may have a condition with one
too (R15), a heartbeat (R4), and to leave (R16)."""

THEN = "_then_"
"""Between the names of operations that are the steps of one call: `inc_then_set`."""

IF_ZERO = Condition("eq", 0)
"""The condition: what is counted makes it false, and a `set` or a `delete` may make it true."""


class Protocol(NamedTuple):
    """The machine's functions; `oracle.check.broken` has others, to be found wrong."""

    serve: model.Serve = model.serve
    speak: Callable[[Instance], Instance] = model.speak
    hear: Callable[[Instance, Reply, bool], Instance] = model.hear


RIGHT = Protocol()


# --- What is so ----------------------------------------------------------------------------------


class Bounds(NamedTuple):
    """How much there is in a world, and how often each thing can happen.

    `kinds` are the operations to draw from, `first` those that come first, in this order.
    `threshold` is in ms; a tick moves the clock by 1, threshold - 1, threshold or -1. `linear` says
    whether replies are checked to be linearizable, for as long as nobody is presumed dead and
    nothing is lost.
    """

    instances: int = 2
    keys: int = 1
    operations: int = 2
    kinds: tuple[str, ...] = KINDS
    first: tuple[str, ...] = ()
    threshold: int = 2
    ticks: int = 0
    crashes: int = 0
    joins: int = 0
    give_ups: int = 0
    losses: int = 0
    rollbacks: int = 0
    linear: bool = False


class Context(NamedTuple):
    """`left` is what can still happen. `saved` are the copies that a rollback can fall back to, and
    `lossy` says that Redis has lost writes. `moves_of_epoch` counts the sets and deletes so far.
    `order` holds each key's `Order` while linearizability is checked, else it is None."""

    left: Bounds
    saved: tuple[Server, ...] = ()
    lossy: bool = False
    moves_of_epoch: int = 0
    order: Map[str, Order] | None = None


class Slot(NamedTuple):
    """`instance` is None before the instance joins (`unborn`) and after it has crashed. `network`
    holds its requests that may still arrive. For the request in flight, `resent` says that a copy
    may have arrived without the instance's knowing, and `first` what a copy was answered. `indeterminate`
    are the keys on which it gave a call up that may have run; `ran` is its last request that
    changed anything."""

    instance: Instance | None = None
    unborn: bool = False
    network: frozenset[Message] = frozenset()
    resent: bool = False
    first: tuple[View, ...] = ()
    indeterminate: frozenset[str] = frozenset()
    ran: int = 0

    @property
    def is_quiescent(self) -> bool:
        return self.instance is None or self.instance.call is None


class World(NamedTuple):
    wall: int
    server: Server
    context: Context
    slots: tuple[Slot, ...]


class Event(NamedTuple):
    """Something that can happen: what (a key of `REACTIONS` or `SURROUNDINGS`), to whom, and what
    about it: the message that arrives, the steps that are called, whether the instance has sent its
    request more than once, the ms or the copy's number."""

    what: str
    who: str = HERE
    message: Message | None = None
    steps: Steps = ()
    resent: bool = False
    number: int = 0


def start(bounds: Bounds) -> World:
    """Nobody has said anything yet."""
    order = Map({key: Order() for key in KEYS[: bounds.keys]}) if bounds.linear else None
    alive = Slot(Instance(HERE, bounds.threshold))
    slots = (alive,) * bounds.instances + (Slot(unborn=True),) * bounds.joins
    return World(0, Server(), Context(bounds, order=order), slots)


def events(world: World) -> Iterator[Event]:
    """All that can happen next, in a fixed order."""
    for name, slot in zip(NAMES, world.slots, strict=False):
        for event in (*own_events(world.context, slot), *served_events(slot)):
            yield event._replace(who=name)
    yield from common_events(world.context, world.server, world.wall)


def perform(world: World, event: Event, protocol: Protocol = RIGHT) -> World:
    """What the event leads to. Raises Violation if that breaks a property."""
    if not event.who:
        return SURROUNDINGS[event.what](world, event)
    place, server, answer = NAMES.index(event.who), world.server, NOTHING
    slot = world.slots[place]
    if event.message is not None:
        message = event.message._replace(instance=event.who)
        server, answer = ask(server, message, world.wall, protocol)
    slot, effect = react(slot, event, answer, protocol, world.context.lossy)
    context = note(world.context, event.who, effect)
    return World(
        world.wall, server, context, (*world.slots[:place], slot, *world.slots[place + 1 :])
    )


def inspect(world: World, protocol: Protocol = RIGHT) -> None:
    """What must be so in a state, however it came about. Raises Violation."""
    if not world.context.lossy:
        invariants.check(invariants.Counted(world.server, world.context.moves_of_epoch))
    if all(slot.is_quiescent for slot in world.slots):
        inspect_quiescent(world.server, world.wall, world.slots, protocol)


def inspect_quiescent(
    server: Server, wall: int, slots: tuple[Slot, ...], protocol: Protocol
) -> None:
    """What must be so when nobody calls and no copy arrives any more, in whichever order the
    instances look then. Raises Violation."""
    live = {
        name: (slot.instance._replace(name=name), slot.indeterminate)
        for name, slot in zip(NAMES, slots, strict=False)
        if slot.instance is not None
    }
    instances = Map({name: instance for name, (instance, _) in live.items()})
    indeterminate = Map({name: keys for name, (_, keys) in live.items()})
    for order in permutations(live):
        rest = invariants.come_to_rest(
            server, instances, indeterminate, wall, protocol.serve, order
        )
        invariants.check(rest)


# --- The server is asked -------------------------------------------------------------------------


class Answer(NamedTuple):
    """What became of a request: the reply, and its type, for named tuples of different types can be
    equal; whether its steps `ran`; what it said of the counters that are written; whether
    somebody's session was closed, and whose that live and have not left."""

    reply: Reply | None = None
    kind: type = type(None)
    ran: bool = False
    record: tuple[View, ...] = ()
    closed: bool = False
    closed_alive: tuple[str, ...] = ()


NOTHING = Answer()


def ask(server: Server, message: Message, wall: int, protocol: Protocol) -> tuple[Server, Answer]:
    """The server's transition, with all that must be true of it."""
    after, reply = protocol.serve(server, message, wall)
    served = invariants.served(server, message, wall, after, reply)
    invariants.check(served)
    closed = not server.sessions.keys() <= after.sessions.keys()
    alive = served.closed_alive if closed else ()
    return after, Answer(reply, type(reply), served.executed, served.record, closed, alive)


# --- An instance ----------------------------------------------------------------------------------


def own_events(context: Context, slot: Slot) -> Iterator[Event]:
    """What an instance can do without the server."""
    left, instance = context.left, slot.instance
    if slot.unborn and left.joins:
        yield Event("joins", number=left.threshold)
    if instance is None:
        return
    if instance.call is None and left.operations:
        for kind in left.first[:1] or left.kinds:
            yield from _calls(kind, left)
    if instance.call is not None and left.give_ups:
        yield Event("gives up")
    if left.crashes:
        yield Event("crashes")


def served_events(slot: Slot) -> Iterator[Event]:
    """What can happen to an instance's requests."""
    if slot.instance is not None and slot.instance.sent is not None:
        if not slot.resent:
            yield Event("is answered", message=slot.instance.sent)
        yield Event("is answered", message=slot.instance.sent, resent=True)
    for message in sorted(slot.network, key=lambda message: message.seq):
        yield Event("arrives", message=message)


def _calls(kind: str, left: Bounds) -> Iterator[Event]:
    """An operation on each of the counters; or what is about none."""
    if kind == "leave":
        yield Event("leaves")
    elif kind == "heartbeat":
        yield Event("calls")
    else:
        steps = [_step(k, left.operations, i) for i, k in enumerate(kind.split(THEN))]
        for key in KEYS[: left.keys]:
            yield Event("calls", steps=tuple((key, step) for step in steps))


def _step(kind: str, left: int, place: int) -> Step:
    """Each operation leaves its own mark: a digit at its own place, so that none can count twice
    unseen."""
    name = kind.removesuffix("_if")
    mark = invariants.DIGITS.get(name, 0) * 10 ** (left - 1 + MOST_CALLS * place)
    return Step(name, mark, IF_ZERO if name != kind else None)


MOST_CALLS = 7
"""Of steps that come second in a call, the marks are so many digits higher (R2 leaves 15)."""


def is_a_kind(name: str) -> bool:
    """Whether an instance can call this: one of `KINDS`, or two steps of a call."""
    steps = name.split(THEN)
    return name in KINDS or (len(steps) == 2 and all(_is_a_step(step) for step in steps))


def _is_a_step(name: str) -> bool:
    return name in KINDS and name not in ("heartbeat", "leave")


class Effect(NamedTuple):
    """What an event means for the context: which bound it uses up, the steps of the call that it
    begins, the outcomes of the call that it ends, whether the caller is gone, whether somebody's
    session was closed."""

    spent: str = ""
    steps: Steps | None = None
    outcomes: tuple[Outcome, ...] = ()
    gone: bool = False
    closed: bool = False


def react(
    slot: Slot, event: Event, answer: Answer, protocol: Protocol, lossy: bool
) -> tuple[Slot, Effect]:
    """Something happens to an instance or to one of its requests. Raises Violation."""
    if answer.closed and not lossy:
        invariants.check(invariants.Closed(answer.closed_alive))
    if answer.ran and not lossy:
        assert event.message is not None
        invariants.check(invariants.Executed(slot.ran, event.message.seq))
        slot = slot._replace(ran=event.message.seq)
    return REACTIONS[event.what](slot, event, answer, protocol, lossy)


def _join(slot: Slot, event: Event, *_: object) -> tuple[Slot, Effect]:
    return Slot(Instance(HERE, event.number)), Effect("joins")


def _crash(slot: Slot, *_: object) -> tuple[Slot, Effect]:
    """Its requests are still under way; nobody is told."""
    return Slot(network=slot.network, ran=slot.ran), Effect("crashes", gone=True)


def _call(
    slot: Slot, event: Event, _: Answer, protocol: Protocol, lossy: bool
) -> tuple[Slot, Effect]:
    assert slot.instance is not None
    slot, _ended = _go_on(slot, model.begin(slot.instance, event.steps), protocol)
    return slot, Effect("operations", event.steps)


def _leave(
    slot: Slot, _event: Event, _answer: Answer, protocol: Protocol, lossy: bool
) -> tuple[Slot, Effect]:
    """(To the others it may seem dead from here on.)"""
    assert slot.instance is not None
    slot, _ended = _go_on(slot, model.begin_leaving(slot.instance), protocol)
    return slot, Effect("operations", (), closed=True)


def _be_answered(
    slot: Slot, event: Event, answer: Answer, protocol: Protocol, lossy: bool
) -> tuple[Slot, Effect]:
    """The request arrives, and its reply is heard."""
    instance = slot.instance
    assert instance is not None and answer.reply is not None
    if answer.record and not lossy:
        invariants.check(invariants.Answered(slot.first, answer.record))
    heard = protocol.hear(instance, answer.reply, event.resent)
    invariants.check(invariants.Heard(instance, answer.reply, heard))
    if isinstance(answer.reply, Done) and isinstance(instance.sent, Request):
        slot = slot._replace(
            indeterminate=slot.indeterminate - {part.key for part in instance.sent.parts}
        )
    slot, outcomes = _go_on(slot, heard, protocol)
    return slot, Effect(outcomes=outcomes, closed=answer.closed)


def _give_up(
    slot: Slot, _event: Event, _answer: Answer, protocol: Protocol, lossy: bool
) -> tuple[Slot, Effect]:
    instance = slot.instance
    assert instance is not None and instance.call is not None
    written = {key for _, key, step in instance.call.todo if step.op not in model.READS}
    slot = slot._replace(indeterminate=slot.indeterminate | written)
    slot, outcomes = _go_on(slot, model.give_up(instance, arrived=True), protocol)
    return slot, Effect("give_ups", outcomes=outcomes)


def _arrive(
    slot: Slot, event: Event, answer: Answer, protocol: Protocol, lossy: bool
) -> tuple[Slot, Effect]:
    """A copy arrives and its reply is lost. Its sender, if it still waits, will send again."""
    if slot.instance is not None and slot.instance.sent == event.message:
        slot = slot._replace(resent=True)
        if answer.record and not lossy:
            invariants.check(invariants.Answered(slot.first, answer.record))
            slot = slot._replace(first=answer.record)
    return slot, Effect(closed=answer.closed)


Reaction = Callable[[Slot, Event, Answer, Protocol, bool], tuple[Slot, Effect]]

REACTIONS: dict[str, Reaction] = {
    "joins": _join,
    "crashes": _crash,
    "calls": _call,
    "leaves": _leave,
    "is answered": _be_answered,
    "gives up": _give_up,
    "arrives": _arrive,
}
"""What can happen to an instance or to a request of its."""


def _go_on(slot: Slot, instance: Instance, protocol: Protocol) -> tuple[Slot, tuple[Outcome, ...]]:
    """The next request of the call goes into the network; or the call is over."""
    assert instance.call is not None
    slot = slot._replace(resent=False, first=())
    if instance.call.done:
        instance, outcomes = model.finish(instance)
        return slot._replace(instance=instance), outcomes
    instance = protocol.speak(instance)
    assert instance.sent is not None
    return slot._replace(instance=instance, network=slot.network | {instance.sent}), ()


# --- What is noted -------------------------------------------------------------------------------


def note(context: Context, who: str, effect: Effect) -> Context:
    """What an event leaves possible. Raises Violation if no order explains the replies."""
    if effect.spent:
        context = spend(context, effect.spent)
    if effect.steps is not None:
        context = _begin(context, who, effect.steps)
    if context.order is not None and effect.closed:
        context = context._replace(order=None)  # somebody was presumed dead
    if effect.gone:
        context = _in_order(context, who, Order.give_up)
    if effect.outcomes:
        context = _in_order(context, who, _ending(effect.outcomes))
    return context


def spend(context: Context, what: str) -> Context:
    left = context.left._replace(**{what: getattr(context.left, what) - 1})
    return context._replace(left=left)


def _begin(context: Context, who: str, steps: Steps) -> Context:
    left = context.left
    moved = sum(step.op in model.GLOBAL for _, step in steps)
    context = context._replace(
        left=left._replace(first=left.first[1:]), moves_of_epoch=context.moves_of_epoch + moved
    )
    if context.order is not None and steps:
        key = steps[0][0]  # the world's calls are on one counter each
        order = context.order[key].call(who, -left.operations, *(step for _, step in steps))
        context = context._replace(order=context.order.put(key, order))
    return context


def _ending(outcomes: tuple[Outcome, ...]) -> Callable[[Order, str], Order]:
    results = [outcome for outcome in outcomes if isinstance(outcome, CounterState | Change)]
    if len(results) == len(outcomes):
        return lambda order, who: order.reply(who, *results)
    executed = any(outcome != model.NOT_EXECUTED for outcome in outcomes)
    return Order.give_up if executed else Order.withdraw


def _in_order(context: Context, who: str, end: Callable[[Order, str], Order]) -> Context:
    """A call has ended: keep the orders that explain how."""
    if context.order is None:
        return context
    order = Map({key: end(o, who) if o.awaits(who) else o for key, o in context.order.items()})
    invariants.check(invariants.Returned(order))
    return context._replace(order=order)


# --- What happens to everybody -------------------------------------------------------------------


def common_events(context: Context, server: Server, wall: int) -> Iterator[Event]:
    """What can happen that is nobody's doing."""
    left = context.left
    if left.ticks:
        for ms in sorted({1, left.threshold - 1, left.threshold, -1} - {0}):
            yield Event("the clock moves", number=ms)
    if server.clock is not None and server.wall != wall:
        yield Event("a stranger calls")
    if left.losses:
        yield Event("everything is lost")
    if len(context.saved) < left.rollbacks and server not in context.saved:
        yield Event("the server is copied")
    if left.rollbacks:
        for number in range(len(context.saved)):
            yield Event("a copy takes over", number=number)


def _move_clock(world: World, event: Event) -> World:
    return world._replace(wall=world.wall + event.number, context=spend(world.context, "ticks"))


STRANGER = Request("stranger", 1, 1, 0, 1)
"""A request of a session that there is not, of an instance that has nothing to do with the
others."""


def _read_clock(world: World, _: Event) -> World:
    """R3: somebody's request, whatever comes of it, makes the server read the clock."""
    return world._replace(server=model.serve(world.server, STRANGER, world.wall)[0])


def _lose(world: World, _: Event) -> World:
    context = spend(world.context, "losses")
    return world._replace(server=Server(), context=context._replace(lossy=True, order=None))


def _copy(world: World, _: Event) -> World:
    saved = (*world.context.saved, world.server)
    return world._replace(context=world.context._replace(saved=saved))


def _roll_back(world: World, event: Event) -> World:
    """The copy that took over is used up; the others stay, as long as they can still be used."""
    context, number = spend(world.context, "rollbacks"), event.number
    saved = context.saved[:number] + context.saved[number + 1 :] if context.left.rollbacks else ()
    context = context._replace(saved=saved, lossy=True, order=None)
    return world._replace(server=world.context.saved[number], context=context)


SURROUNDINGS: dict[str, Callable[[World, Event], World]] = {
    "the clock moves": _move_clock,
    "a stranger calls": _read_clock,
    "everything is lost": _lose,
    "the server is copied": _copy,
    "a copy takes over": _roll_back,
}
"""What can happen that is nobody's doing."""
