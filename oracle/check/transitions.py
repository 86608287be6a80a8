"""What an event does to a world. There are four functions, and each knows only a part of the world.

* `ask`: the server takes a request.
* `react`: an event changes one instance and its requests.
* `note`: the context remembers what that event meant.
* `befall`: an event that is no instance's changes the server, the clock and the context.

`oracle.check.world` makes whole worlds of them. `oracle.check.fast` depends on this division: each
function sees the same arguments again and again, so its results are computed once and looked up.
Each of them raises `Violation` where a property does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from oracle import model
from oracle.check import properties
from oracle.check.events import (
    Calls,
    ClockMoves,
    CommonEvent,
    CopyArrives,
    Crashes,
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
    unhandled,
)
from oracle.check.linearizability import Linearizations
from oracle.check.redis_keys import EVERYTHING, INSTANCES, lose, restore, snapshot
from oracle.check.state import MORE, ONE_KEY, Context, Protocol, Slot
from oracle.model import (
    Change,
    CounterState,
    Done,
    Instance,
    Map,
    Message,
    Outcome,
    Reply,
    Request,
    Server,
    Steps,
    View,
)

# --- The server takes a request -------------------------------------------------------------------


class Answer(NamedTuple):
    """What became of a request.

    Attributes:
        reply: what the server replied.
        kind: the type of the reply, because named tuples of different types can be equal.
        ran: whether the steps of the request ran.
        record: what the reply says about the counters that the request writes.
        closed: whether somebody's session was closed.
        closed_alive: who lost a session without being dead and without having left.
    """

    reply: Reply | None = None
    kind: type = type(None)
    ran: bool = False
    record: tuple[View, ...] = ()
    closed: bool = False
    closed_alive: tuple[str, ...] = ()


NO_ANSWER = Answer()
"""The answer that belongs to an event without a request."""


def ask(server: Server, message: Message, wall: int, protocol: Protocol) -> tuple[Server, Answer]:
    """The server's transition. Checks every property of one."""
    after, reply = protocol.serve(server, message, wall)
    served = properties.served(server, message, wall, after, reply)
    properties.check(served)
    closed = not server.sessions.keys() <= after.sessions.keys()
    alive = served.closed_alive if closed else ()
    return after, Answer(reply, type(reply), served.executed, served.record, closed, alive)


# --- An event changes an instance -----------------------------------------------------------------


class Effect(NamedTuple):
    """What an event of an instance means for the context.

    Attributes:
        spent: the bound that the event uses up; empty if it is not bounded.
        steps: the steps of the call that it begins, or None.
        outcomes: the outcomes of the call that it ends.
        gone: whether the instance is gone.
        closed: whether somebody's session was closed, or is about to be.
        found: whether that was because a loss was found.
    """

    spent: str = ""
    steps: Steps | None = None
    outcomes: tuple[Outcome, ...] = ()
    gone: bool = False
    closed: bool = False
    found: bool = False


class Past(NamedTuple):
    """What an event of an instance has to know of the past: how much of Redis has fallen back to an
    earlier state, and whether there is a loss that nobody has found."""

    rolled_back: int
    unfound: bool

    @classmethod
    def of(cls, context: Context) -> Past:
        return cls(context.rolled_back, context.unfound > 0)


def react(
    slot: Slot, event: InstanceEvent, answer: Answer, protocol: Protocol, past: Past
) -> tuple[Slot, Effect]:
    """Change the instance, or its requests, as the event says.

    Args:
        slot: the instance before the event.
        event: what happens to it.
        answer: what became of the request that arrives; NO_ANSWER if none does.
        protocol: the machine.
        past: what happened to Redis before. Some properties hold only until it rolls back.
    """
    match event:
        case Joins():
            again = slot.life._replace(seq=0)  # HEAD_START is for the first that has the id
            return Slot(instance=slot.life, life=again), Effect("joins")
        case Crashes():
            return _without_instance(slot), Effect("crashes", gone=True)
        case Restarts():
            return slot._replace(instance=slot.life), Effect("reuses", closed=True)
        case Calls(steps=steps):
            slot, _outcomes = _go_on(slot, model.begin(_alive(slot), steps), protocol)
            return slot, Effect("operations", steps)
        case Looks(keys=keys, let_go=let_go):
            slot, _outcomes = _go_on(slot, protocol.look(_alive(slot), keys, let_go), protocol)
            return slot, Effect("operations", ())
        case Leaves():
            slot, _outcomes = _go_on(slot, model.begin_leaving(_alive(slot)), protocol)
            return slot, Effect("operations", (), closed=True)
        case GivesUp():
            return _give_up(slot, protocol)
        case HearsReply(message=message, resent=resent):
            slot = _check_answer(slot, message, answer, past)
            return _hear_reply(slot, answer, resent, protocol)
        case CopyArrives(message=message):
            slot = _check_answer(slot, message, answer, past)
            found = bool(answer.closed_alive)
            return _lose_reply(slot, message), Effect(closed=answer.closed, found=found)
    raise unhandled(event)


def _without_instance(slot: Slot) -> Slot:
    """The slot of an instance that has crashed."""
    return Slot(life=slot.life, network=slot.network, last_run=slot.last_run)


def _alive(slot: Slot) -> Instance:
    assert slot.instance is not None, "only a live instance acts"
    return slot.instance


def _go_on(slot: Slot, instance: Instance, protocol: Protocol) -> tuple[Slot, tuple[Outcome, ...]]:
    """Send the next request of the call; or end the call, and return its outcomes."""
    assert instance.call is not None
    slot = slot._replace(resent=False, first_record=())
    if instance.call.done:
        instance, outcomes = model.finish(instance)
        return slot._replace(instance=instance), outcomes
    instance = protocol.speak(instance)
    assert instance.sent is not None
    return slot._replace(instance=instance, network=slot.network | {instance.sent}), ()


def _give_up(slot: Slot, protocol: Protocol) -> tuple[Slot, Effect]:
    instance = _alive(slot)
    assert instance.call is not None
    written = {key for _, key, step in instance.call.todo if step.op not in model.READS}
    slot = slot._replace(indeterminate=slot.indeterminate | written)
    slot, outcomes = _go_on(slot, model.give_up(instance, arrived=True), protocol)
    return slot, Effect("give_ups", outcomes=outcomes)


def _check_answer(slot: Slot, message: Message, answer: Answer, past: Past) -> Slot:
    """Check what must hold of an answer because of earlier ones, and remember what it shows. A
    rollback makes Redis forget what earlier answers told: from then on they do not count."""
    if answer.closed_alive:
        properties.check(properties.Closed(answer.closed_alive, past.unfound))
    if answer.ran and not past.rolled_back:
        assert isinstance(message, Request)
        properties.check(properties.Executed(slot.last_run, (message.session, message.seq)))
        slot = slot._replace(last_run=(message.session, message.seq))
    in_flight = slot.instance.sent if slot.instance is not None else None
    if answer.record and message == in_flight and past.rolled_back < MORE:
        properties.check(properties.Answered(slot.first_record, answer.record))
        slot = slot._replace(first_record=answer.record)
    return slot


def _hear_reply(
    slot: Slot, answer: Answer, resent: bool, protocol: Protocol
) -> tuple[Slot, Effect]:
    instance = _alive(slot)
    assert answer.reply is not None
    heard = protocol.hear(instance, answer.reply, resent)
    properties.check(properties.Heard(instance, answer.reply, heard))
    if isinstance(answer.reply, Done) and isinstance(instance.sent, Request):
        told = {part.key for part in instance.sent.parts}
        slot = slot._replace(indeterminate=slot.indeterminate - told)
    slot, outcomes = _go_on(slot, heard, protocol)
    found = bool(answer.closed_alive)
    return slot, Effect(outcomes=outcomes, closed=answer.closed, found=found)


def _lose_reply(slot: Slot, message: Message) -> Slot:
    """The sender of a request in flight hears nothing, and will send it again."""
    if slot.instance is not None and slot.instance.sent == message:
        return slot._replace(resent=True)
    return slot


# --- The context remembers it ---------------------------------------------------------------------


def note(context: Context, who: str, effect: Effect) -> Context:
    """What is left to happen after an event of an instance, and which linearizations explain it."""
    if effect.spent:
        context = _spend(context, effect.spent)
    if effect.steps is not None:
        context = _begin(context, who, effect.steps)
    if effect.closed:
        context = context._replace(linearizations=None)  # somebody was presumed dead, or leaves
    if effect.found:
        context = context._replace(unfound=max(0, context.unfound - 1))
    if effect.gone:
        context = _end(context, who, Linearizations.give_up)
    if effect.outcomes:
        context = _end(context, who, _ending(effect.outcomes))
    return context


def _spend(context: Context, bound: str) -> Context:
    left = context.left._replace(**{bound: getattr(context.left, bound) - 1})
    return context._replace(left=left)


def _begin(context: Context, who: str, steps: Steps) -> Context:
    left = context.left
    context = context._replace(left=left._replace(first=left.first[1:]))
    if not context.rolled_back:
        moved = sum(step.op in model.GLOBAL for _, step in steps)
        context = context._replace(moves_of_epoch=context.moves_of_epoch + moved)
    if context.linearizations is not None and steps:
        key = steps[0][0]  # where linearizability is checked, a call is on one counter
        calls = context.linearizations[key]
        calls = calls.call(who, -left.operations, *(step for _, step in steps))
        context = context._replace(linearizations=context.linearizations.put(key, calls))
    return context


Ending = Callable[[Linearizations, str], Linearizations]


def _ending(outcomes: tuple[Outcome, ...]) -> Ending:
    results = [outcome for outcome in outcomes if isinstance(outcome, CounterState | Change)]
    if len(results) == len(outcomes):
        return lambda calls, who: calls.reply(who, *results)
    may_have_run = any(outcome != model.NOT_EXECUTED for outcome in outcomes)
    return Linearizations.give_up if may_have_run else Linearizations.withdraw


def _end(context: Context, who: str, ending: Ending) -> Context:
    """A call has ended: keep the linearizations that explain how."""
    if context.linearizations is None:
        return context
    kept = Map(
        {
            key: ending(calls, who) if calls.awaits(who) else calls
            for key, calls in context.linearizations.items()
        }
    )
    properties.check(properties.Returned(kept))
    return context._replace(linearizations=kept)


# --- An event changes what all share --------------------------------------------------------------

STRANGER = Request("stranger", 1, 1, 0, 1)
"""A request of an instance that has nothing to do with the others, in a session that does not
exist."""


def befall(
    wall: int, server: Server, context: Context, event: CommonEvent
) -> tuple[int, Server, Context]:
    """Change the wall clock, the server and the context as the event says."""
    match event:
        case ClockMoves(ms=ms):
            return wall + ms, server, _spend(context, "ticks")
        case StrangerCalls():
            return wall, model.serve(server, STRANGER, wall)[0], context
        case EverythingIsLost():
            context = _lose_writes(_spend(context, "losses"), unfound=0)
            return wall, lose(server, EVERYTHING), context
        case KeyIsLost(key=key):
            # Without its session, every instance restores all its slices: nothing is left to find.
            context = _lose_writes(_spend(context, "key_losses"), unfound=int(key != INSTANCES))
            return wall, lose(server, key), context
        case SnapshotIsTaken(key=key):
            taken = snapshot(server, key, context.unfound)
            return wall, server, context._replace(snapshots=(*context.snapshots, taken))
        case SnapshotIsRestored(number=number):
            return wall, restore(server, context.snapshots[number]), _restore(context, number)
    raise unhandled(event)


def _lose_writes(context: Context, unfound: int) -> Context:
    """Redis has lost writes. So many losses can be found from now on that nobody has found."""
    return context._replace(
        lossy=True,
        rolled_back=MORE if context.rolled_back else 0,
        unfound=context.unfound + unfound,
        linearizations=None,
    )


def _restore(context: Context, number: int) -> Context:
    """The restored snapshot is used up. The others stay as long as they can still be restored.
    Losses that nobody had found when it was made are there again.

    With the sessions, one that was closed comes back: that of an instance whose slices have been
    removed as those of a dead one, without any loss."""
    restored = context.snapshots[number]
    whole = restored.key == EVERYTHING
    rolled_back = MORE if whole or context.lossy or restored.key == INSTANCES else ONE_KEY
    context = _spend(context, "rollbacks" if whole else "key_rollbacks")
    context = _lose_writes(context, 1 + restored.unfound)
    others = context.snapshots[:number] + context.snapshots[number + 1 :]
    left = context.left
    kept = tuple(
        other
        for other in others
        if (left.rollbacks if other.key == EVERYTHING else left.key_rollbacks)
    )
    return context._replace(snapshots=kept, rolled_back=rolled_back, moves_of_epoch=0)
