"""The client side: what an instance sends, learns from replies, and remembers (R10, R12, R16).

A call goes through these functions, in this order:

* `begin` (or `begin_looking`, or `begin_leaving`) starts it;
* `speak` chooses the next request;
* `hear` processes the reply, after which `speak` continues until the call is done;
* `give_up` ends a call that gets no reply;
* `finish` returns the outcomes.
"""

from __future__ import annotations

from typing import NamedTuple

from oracle.model.maps import Map
from oracle.model.messages import (
    Done,
    Late,
    Leave,
    Left,
    Memory,
    Message,
    Open,
    Opened,
    Part,
    Reply,
    Request,
)
from oracle.model.operations import (
    DROP,
    GLOBAL,
    LOOK,
    Change,
    CounterState,
    Step,
    View,
    run_steps,
    writes,
)
from oracle.model.server import Serve, serve
from oracle.model.state import Server

RESTORE_CHUNK = 100
"""The most slices that an instance restores, or drops, in one request (R10, R16)."""

PATIENCE = 8
"""How many lost sessions one call survives; at the next one it fails."""

REFUSED = "CounterOverflowError"
"""The step was refused because a number would leave the range; it changed nothing (R2)."""

UNKNOWN = "OutcomeUnknownError"
"""The step may or may not have been executed (R12)."""

NOT_EXECUTED = "NotExecutedError"
"""The step was certainly not executed: no request that carried it can have arrived (R12)."""

Outcome = CounterState | Change | str
"""The outcome of a step: its result, or the name of one of the three errors above."""


class Call(NamedTuple):
    """A call in progress.

    Attributes:
        todo: the steps without an outcome, as (position in the call, key, step).
        outcomes: the outcomes so far, by position.
        indeterminate: whether an earlier request with these steps may have been executed.
        reopened: how many sessions this call has lost.
        failure: the error that ended the call early, or an empty string.
        done: whether the call is complete.
        leaving: whether the call drops the instance's slices and closes the session (R16).
    """

    todo: tuple[tuple[int, str, Step], ...]
    outcomes: Map[int, Outcome] = Map()
    indeterminate: bool = False
    reopened: int = 0
    failure: str = ""
    done: bool = False
    leaving: bool = False


class Instance(NamedTuple):
    """The state of one instance (R10).

    Attributes:
        name: its id.
        threshold: its dead-instance threshold in ms (R5).
        session: the number of its session, or 0.
        fence: the seq of the request that opened the session. No earlier request of this instance
            can execute any more, so its memory counts as current up to the fence.
        seq: the number of its last request.
        acked: the last seq whose reply it has received.
        memory: what it remembers of its slice of each counter.
        restoring: the keys whose slices it has yet to restore in this session.
        sent: the request in flight; there is at most one.
        call: the call in progress; there is at most one.
        last: the number of its latest session, whether or not it still has it.
        promise: within how many ms it will be heard again if it lives (R19); 0 is no promise.
    """

    name: str
    threshold: int
    session: int = 0
    fence: int = 0
    seq: int = 0
    acked: int = 0
    memory: Map[str, Memory] = Map()
    restoring: tuple[str, ...] = ()
    sent: Message | None = None
    call: Call | None = None
    last: int = 0
    promise: int = 0


def begin(instance: Instance, steps: tuple[tuple[str, Step], ...]) -> Instance:
    """Start a call that runs these (key, step) pairs in order. Without steps it is a heartbeat."""
    assert instance.call is None, "one call at a time"
    todo = tuple((i, key, step) for i, (key, step) in enumerate(steps))
    return instance._replace(call=Call(todo))


def begin_looking(instance: Instance, keys: tuple[str, ...], let_go: tuple[str, ...]) -> Instance:
    """Start a heartbeat that looks at some counters, and lets go of others (R10, R18).

    Args:
        instance: the instance.
        keys: the counters to look at; it need not remember them.
        let_go: counters to let go of. It remembers to count 0 of each, and forgets that now, not
            when it hears the reply: a copy of the request may arrive at any time.
    """
    assert not any(instance.memory[key].count for key in let_go)
    instance = instance._replace(memory=instance.memory.without(*let_go))
    return begin(instance, tuple((key, Step(LOOK)) for key in (*keys, *let_go)))


def begin_leaving(instance: Instance) -> Instance:
    """Start a call that leaves: it drops all slices, and then closes the session (R16).

    The instance forgets its counts now, whatever becomes of the requests. Without a session there
    is no request to send.
    """
    assert instance.call is None, "one call at a time"
    todo = tuple((i, key, Step(DROP)) for i, key in enumerate(sorted(instance.memory)))
    call = Call(todo, leaving=True, done=not instance.session)
    return instance._replace(memory=Map(), call=call)


def speak(instance: Instance) -> Instance:
    """Choose the next request and put it in `instance.sent`. It may be sent any number of times."""
    assert instance.call is not None and instance.sent is None
    if not instance.session:
        return _send(instance, _opening(instance))
    if instance.restoring:
        keys = instance.restoring[:RESTORE_CHUNK]
        parts = tuple(Part(key, recall(instance, key)) for key in keys)
        return _send(instance, _request(instance, parts, restores=True))
    parts = _parts_of_call(instance)
    if instance.call.leaving:
        some = parts[:RESTORE_CHUNK]
        return _send(instance, _request(instance, some) if some else _leave(instance))
    # Once this is sent, the server may hold a slice of each written key, whether or not a reply
    # arrives. Remember it as 0 now, so that the instance looks after it.
    new = {
        part.key: recall(instance, part.key)
        for part in parts
        if part.key not in instance.memory and writes(part.steps)
    }
    instance = instance._replace(memory=instance.memory.put_all(new))
    return _send(instance, _request(instance, parts))


def _send(instance: Instance, message: Message) -> Instance:
    return instance._replace(seq=message.seq, sent=message)


def _opening(instance: Instance) -> Open:
    name, seq, acked, last = instance.name, instance.seq + 1, instance.acked, instance.last
    return Open(name, seq, acked, instance.threshold, last, instance.promise)


def _leave(instance: Instance) -> Leave:
    name, session, seq = instance.name, instance.session, instance.seq + 1
    return Leave(name, session, seq, instance.acked, instance.threshold, instance.promise)


def _request(instance: Instance, parts: tuple[Part, ...], *, restores: bool = False) -> Request:
    name, session, seq = instance.name, instance.session, instance.seq + 1
    acked, threshold, promise = instance.acked, instance.threshold, instance.promise
    return Request(name, session, seq, acked, threshold, parts, promise, restores)


def recall(instance: Instance, key: str) -> Memory:
    """What the instance remembers of its slice, current up to the fence at least (R10)."""
    memory = instance.memory.get(key, Memory())
    return memory._replace(seq=max(memory.seq, instance.fence))


def _parts_of_call(instance: Instance) -> tuple[Part, ...]:
    """Group the call's steps by key, keys in order of first use."""
    steps = {key: tuple(step for _, step in items) for key, items in _by_key(instance).items()}
    return tuple(Part(key, recall(instance, key), steps[key]) for key in steps)


def _by_key(instance: Instance) -> dict[str, list[tuple[int, Step]]]:
    """The call's steps with their positions, by key in order of first use."""
    assert instance.call is not None
    found: dict[str, list[tuple[int, Step]]] = {}
    for place, key, step in instance.call.todo:
        found.setdefault(key, []).append((place, step))
    return found


def hear(instance: Instance, reply: Reply, resent: bool) -> Instance:
    """Process the reply to `instance.sent`. Unless the call is now done, call `speak` next.

    Args:
        instance: the instance that sent the request.
        reply: what the server replied.
        resent: whether an earlier transmission of the request went unanswered.
    """
    sent, call = instance.sent, instance.call
    assert sent is not None and call is not None
    instance = instance._replace(sent=None)
    if isinstance(reply, Opened):
        remembered = Map({k: m for k, m in instance.memory.items() if not m.is_nothing})
        return instance._replace(
            session=reply.session,
            last=reply.session,
            fence=sent.seq,
            acked=sent.seq,
            memory=remembered,
            restoring=tuple(sorted(remembered)),
        )
    if isinstance(reply, Done):
        assert isinstance(sent, Request)
        return _learn(instance._replace(acked=sent.seq), sent, reply.views)
    if isinstance(reply, Late):
        instance = instance._replace(seq=max(instance.seq, reply.seq))
    if call.leaving:  # whatever the reply, the session is over
        acked = sent.seq if isinstance(reply, Left) else instance.acked
        call = call._replace(todo=(), done=True)
        return instance._replace(session=0, acked=acked, call=call)
    return _lose_session(instance, resent and isinstance(sent, Request) and not instance.restoring)


def _learn(instance: Instance, sent: Request, views: tuple[View, ...]) -> Instance:
    """Compute each step's result from the view before it, and remember the slice after it."""
    call = instance.call
    assert call is not None
    if call.leaving:
        return instance._replace(call=call._replace(todo=call.todo[len(sent.parts) :]))
    by_key, learned, outcomes = _by_key(instance), dict[str, Memory](), dict(call.outcomes)
    for part, before in zip(sent.parts, views, strict=True):
        after, results = run_steps(before, part.steps)
        if part.key in instance.memory or after.count:  # a mere read remembers nothing (R18)
            learned[part.key] = Memory(after.epoch, after.count, sent.seq)
        if part.steps:
            places = [place for place, _ in by_key[part.key]]
            answers = [REFUSED if result is None else result for result in results]
            outcomes.update(zip(places, answers, strict=True))
    instance = instance._replace(memory=instance.memory.put_all(learned))
    if instance.restoring:
        return instance._replace(restoring=instance.restoring[RESTORE_CHUNK:])
    return instance._replace(call=call._replace(todo=(), outcomes=Map(outcomes), done=True))


def _lose_session(instance: Instance, indeterminate: bool) -> Instance:
    """The session is gone: keep the steps that can run again, and fail those that cannot (R12).

    If the steps may have been executed, the outcome of a `set` or `delete` is unknown. The other
    steps run again, on the remembered slice. That is exact: the fence of the new session keeps out
    every earlier copy, and restoring the slice undoes what such a copy had done.
    """
    call = instance.call
    assert call is not None
    call = call._replace(
        indeterminate=call.indeterminate or indeterminate, reopened=call.reopened + 1
    )
    instance = instance._replace(session=0, restoring=(), call=call)
    if call.reopened > PATIENCE:
        return _end(instance)
    if not indeterminate:
        return instance
    unknown = {i: UNKNOWN for i, _, step in call.todo if step.op in GLOBAL}
    todo = tuple(item for item in call.todo if item[0] not in unknown)
    outcomes: Map[int, Outcome] = Map({**call.outcomes, **unknown})
    return instance._replace(call=call._replace(todo=todo, outcomes=outcomes))


def give_up(instance: Instance, arrived: bool) -> Instance:
    """End the call without a reply.

    The request is abandoned. The next request has a higher number; once the server has accepted it,
    no copy of this one can execute. The instance gives up its session if it was leaving, or if the
    session is partial, that is, if some slices are not restored yet. One that could not drop its
    slices still tries to close the session (R16).

    Args:
        instance: the instance whose request is in flight.
        arrived: whether a copy of the request may have reached the server.
    """
    assert instance.call is not None and instance.sent is not None
    if instance.call.leaving and isinstance(instance.sent, Request):
        return instance._replace(sent=None, call=instance.call._replace(todo=()))
    carried = not isinstance(instance.sent, Open) and not instance.restoring
    indeterminate = instance.call.indeterminate or (arrived and carried)
    session = 0 if instance.restoring or instance.call.leaving else instance.session
    call = instance.call._replace(indeterminate=indeterminate)
    return _end(instance._replace(session=session, restoring=(), sent=None, call=call))


def _end(instance: Instance) -> Instance:
    """End the call: every step without an outcome fails with the same error (R12)."""
    call = instance.call
    assert call is not None
    failure = UNKNOWN if call.indeterminate else NOT_EXECUTED
    left = {place: failure for place, _, _ in call.todo}
    outcomes: Map[int, Outcome] = Map({**call.outcomes, **left})
    return instance._replace(
        call=call._replace(todo=(), outcomes=outcomes, failure=failure, done=True)
    )


def finish(instance: Instance) -> tuple[Instance, tuple[Outcome, ...]]:
    """Close a call that is done. Returns its outcomes in the order of its steps."""
    assert instance.call is not None and instance.call.done
    outcomes = instance.call.outcomes
    return instance._replace(call=None), tuple(outcomes[place] for place in sorted(outcomes))


# --- Whole calls over a network that never fails --------------------------------------------------


def call_at_once(
    server: Server,
    instance: Instance,
    steps: tuple[tuple[str, Step], ...],
    wall: int,
    transition: Serve = serve,
) -> tuple[Server, Instance, tuple[Outcome, ...]]:
    """Make one call over a network that never fails."""
    return finish_at_once(server, begin(instance, steps), wall, transition)


def finish_at_once(
    server: Server, instance: Instance, wall: int, transition: Serve = serve
) -> tuple[Server, Instance, tuple[Outcome, ...]]:
    """Complete a call that has begun, over a network that never fails."""
    while instance.call is not None and not instance.call.done:
        instance = speak(instance)
        assert instance.sent is not None
        server, reply = transition(server, instance.sent, wall)
        instance = hear(instance, reply, resent=False)
    instance, outcomes = finish(instance)
    return server, instance, outcomes
