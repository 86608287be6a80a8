"""An instance: what it sends, what it learns from replies, and what it remembers (R10, R12, R16).

`begin` gives it a call to make, `speak` chooses the next request, `hear` takes the reply, `give_up`
ends a call that got none, and `finish` hands out the outcomes.
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
"""R10: the most slices that an instance puts back in one request."""

PATIENCE = 8
"""How often an instance reopens its session within one call before it stops trying."""

REFUSED = "CounterOverflowError"
"""R2: the step was refused; nothing changed."""

UNKNOWN = "OutcomeUnknownError"
"""R12: the step may or may not have been executed."""

NOT_EXECUTED = "NotExecutedError"
"""The step was surely not executed: no request that carried it can have arrived."""

Outcome = CounterState | Change | str
"""What a step came to: its result, or one of the three names above."""


class Call(NamedTuple):
    """A call under way, until `done`. `todo` holds (position, key, step); `indeterminate` says that
    an earlier transmission of these steps may have been executed; `failure` names what ended the
    call before its time; `leaving` is a call that drops the slices and closes the session."""

    todo: tuple[tuple[int, str, Step], ...]
    outcomes: Map[int, Outcome] = Map()
    indeterminate: bool = False
    reopened: int = 0
    failure: str = ""
    done: bool = False
    leaving: bool = False


class Instance(NamedTuple):
    """An instance: its session, its numbers, and what it remembers of each slice (R10).

    `restoring` holds the keys whose slices are still to be put back into the session. `sent` is the
    request in flight: one at a time. `fence` is the request that opened the session: whatever the
    instance sent before it can no longer execute, so that its memory counts as of then. `last` is
    the number of its last session, which it may have lost. `promise` says within how many ms it
    will be heard again, if it lives (R19; 0: no promise).
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
    """Start a call: steps on keys, in order. No steps at all is a heartbeat."""
    assert instance.call is None, "one call at a time"
    todo = tuple((i, key, step) for i, (key, step) in enumerate(steps))
    return instance._replace(call=Call(todo))


def begin_looking(instance: Instance, keys: tuple[str, ...], let_go: tuple[str, ...]) -> Instance:
    """R10, R18: start a heartbeat that looks at these counters, and lets go of others.

    Args:
        keys: the counters to look at; the instance may remember them or not.
        let_go: those of which it remembers that it counts 0. It forgets them now, and not when it
            hears the reply: a copy of this request may arrive at any time.
    """
    assert not any(instance.memory[key].count for key in let_go)
    instance = instance._replace(memory=instance.memory.without(*let_go))
    return begin(instance, tuple((key, Step(LOOK)) for key in (*keys, *let_go)))


def begin_leaving(instance: Instance) -> Instance:
    """R16: start to leave. Its counts are forgotten now, whatever becomes of the requests: first
    those that drop its slices, then the leave. Without a session there is none to make."""
    assert instance.call is None, "one call at a time"
    todo = tuple((i, key, Step(DROP)) for i, key in enumerate(sorted(instance.memory)))
    call = Call(todo, leaving=True, done=not instance.session)
    return instance._replace(memory=Map(), call=call)


def speak(instance: Instance) -> Instance:
    """Choose the next request; it is then `instance.sent`, to be sent as often as it takes."""
    assert instance.call is not None and instance.sent is None
    if not instance.session:
        return _send(instance, _opening(instance))
    if instance.restoring:
        keys = instance.restoring[:RESTORE_CHUNK]
        parts = tuple(Part(key, recall(instance, key)) for key in keys)
        return _send(instance, _request(instance, parts, restores=True))
    if instance.call.leaving:
        parts = _parts_of_call(instance)[:RESTORE_CHUNK]
        return _send(instance, _request(instance, parts) if parts else _leave(instance))
    parts = _parts_of_call(instance)
    # A key that is written may hold a slice from now on, whether or not a reply says so.
    written = {part.key: recall(instance, part.key) for part in parts if writes(part.steps)}
    instance = instance._replace(memory=Map({**written, **instance.memory}))
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
    """R10: the memory of a slice, as of the session's fence at the least."""
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
    """Take the reply to `instance.sent`. `speak` says what follows, until the call is done.

    Args:
        reply: what the server answered.
        resent: whether the request had been sent before without an answer.
    """
    sent, call = instance.sent, instance.call
    assert sent is not None and call is not None
    instance = instance._replace(sent=None)
    if isinstance(reply, Opened):
        return instance._replace(
            session=reply.session,
            last=reply.session,
            fence=sent.seq,
            acked=sent.seq,
            restoring=tuple(sorted(k for k, m in instance.memory.items() if not m.is_nothing)),
            memory=Map({k: m for k, m in instance.memory.items() if not m.is_nothing}),
        )
    if isinstance(reply, Done):
        assert isinstance(sent, Request)
        return _learn(instance._replace(acked=sent.seq), sent, reply.views)
    if isinstance(reply, Late):
        instance = instance._replace(seq=max(instance.seq, reply.seq))
    if call.leaving:  # whatever the reply, the session is closed
        acked = sent.seq if isinstance(reply, Left) else instance.acked
        call = call._replace(todo=(), done=True)
        return instance._replace(session=0, acked=acked, call=call)
    return _lose_session(instance, resent and isinstance(sent, Request) and not instance.restoring)


def _learn(instance: Instance, sent: Request, views: tuple[View, ...]) -> Instance:
    """Work out each step's result from the state before, and remember the state after."""
    call = instance.call
    assert call is not None
    by_key, learned, outcomes = _by_key(instance), dict[str, Memory](), dict(call.outcomes)
    if call.leaving:
        return instance._replace(call=call._replace(todo=call.todo[len(sent.parts) :]))
    for part, before in zip(sent.parts, views, strict=True):
        after, results = run_steps(before, part.steps)
        if part.key in instance.memory or after.count:
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
    """R12: what an unanswered `set` or `delete` did is unknown; slice-local steps run again.

    They run on the slice as it was remembered, which is exact: the new session's fence keeps every
    earlier copy out, and the slice that one of them made is put back to what it was before.
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
    """End the call without a reply. Its request is abandoned: the next one has a higher number,
    so that a copy of this one either has been executed or never will be. A session whose slices
    were not all put back is not kept.

    Args:
        arrived: whether a copy of the request in flight may have reached the server.
    """
    assert instance.call is not None and instance.sent is not None
    if instance.call.leaving and isinstance(instance.sent, Request):  # R16: it still leaves
        return instance._replace(sent=None, call=instance.call._replace(todo=()))
    carried = not isinstance(instance.sent, Open) and not instance.restoring
    indeterminate = instance.call.indeterminate or (arrived and carried)
    session = 0 if instance.restoring or instance.call.leaving else instance.session
    call = instance.call._replace(indeterminate=indeterminate)
    return _end(instance._replace(session=session, restoring=(), sent=None, call=call))


def _end(instance: Instance) -> Instance:
    """Give every step that is left the same outcome."""
    call = instance.call
    assert call is not None
    failure = UNKNOWN if call.indeterminate else NOT_EXECUTED
    left = {place: failure for place, _, _ in call.todo}
    outcomes: Map[int, Outcome] = Map({**call.outcomes, **left})
    return instance._replace(
        call=call._replace(todo=(), outcomes=outcomes, failure=failure, done=True)
    )


def finish(instance: Instance) -> tuple[Instance, tuple[Outcome, ...]]:
    """Close the call that is done and hand out its outcomes, in the order of its steps."""
    assert instance.call is not None and instance.call.done
    outcomes = instance.call.outcomes
    return instance._replace(call=None), tuple(outcomes[place] for place in sorted(outcomes))


# --- With a server, over a network that does not fail ---------------------------------------------


def call_at_once(
    server: Server,
    instance: Instance,
    steps: tuple[tuple[str, Step], ...],
    wall: int,
    transition: Serve = serve,
) -> tuple[Server, Instance, tuple[Outcome, ...]]:
    """A whole call over a network that does not fail."""
    return finish_at_once(server, begin(instance, steps), wall, transition)


def finish_at_once(
    server: Server, instance: Instance, wall: int, transition: Serve = serve
) -> tuple[Server, Instance, tuple[Outcome, ...]]:
    """The call that has begun, over a network that does not fail."""
    while instance.call is not None and not instance.call.done:
        instance = speak(instance)
        assert instance.sent is not None
        server, reply = transition(server, instance.sent, wall)
        instance = hear(instance, reply, resent=False)
    instance, outcomes = finish(instance)
    return server, instance, outcomes
