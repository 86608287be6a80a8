"""A trace: the events that lead to a violation, told to people and stored for machines.

`tell` makes a numbered list of them: who did what, and what the server held afterwards.

`encode_trace` and `decode_trace` write and read one JSON object a line. The first line is the head:
the bounds of the world, the protocol, and what was found. Every other line is an event: its `type`
(the name of its class in `oracle.check.events`) and its fields. A request is named by its instance,
with what tells it from the others of its instance. The tests play traces on production
(`tests/harness/player.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, NamedTuple

from oracle.check.call_kinds import kinds
from oracle.check.events import (
    Calls,
    ClockMoves,
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
    unhandled,
)
from oracle.check.properties import Violation
from oracle.check.state import NAMES, RIGHT, Bounds, Protocol, World, start
from oracle.check.world import events, perform
from oracle.model import Leave, Message, Open, Server, Step, Steps

FORMAT = 3
"""The version of what `encode_trace` writes."""

Line = dict[str, Any]

KINDS, LISTS = ("kinds", "first"), ("thresholds", "promises")
"""The bounds that are lists: of kinds of call, and of numbers."""


class Trace(NamedTuple):
    """A sequence of events in a bounded world, and the property that it breaks there, if any."""

    bounds: Bounds
    events: tuple[Event, ...]
    protocol: str = ""
    violation: str = ""


# --- For people -----------------------------------------------------------------------------------


def tell(trace: Trace, protocol: Protocol = RIGHT) -> Iterator[str]:
    """The trace in words, line by line."""
    world = start(trace.bounds)
    for number, event in enumerate(trace.events, 1):
        before = world
        try:
            world = perform(world, event, protocol)
            after = _held(world.server)
        except Violation:
            after = "this breaks a property"
        yield f"{number:3}. {_told(event)}{_sending(event, before, world)}"
        yield f"     {after}"
    if trace.violation:
        yield f"     {trace.violation}"


def _told(event: Event) -> str:
    match event:
        case Joins(who):
            return f"{who} joins"
        case Crashes(who):
            return f"{who} crashes"
        case Restarts(who):
            return f"a new instance starts under the id {who}"
        case Calls(who, steps):
            return f"{who} calls {', '.join(f'{_operation(step)} on {key}' for key, step in steps)}"
        case Looks(who, keys, let_go):
            looks = f" and looks at {', '.join(keys)}" if keys else ""
            gone = f" and lets go of {', '.join(let_go)}" if let_go else ""
            return f"{who} makes a heartbeat{looks}{gone}"
        case Leaves(who):
            return f"{who} leaves"
        case GivesUp(who):
            return f"{who} gives up"
        case HearsReply(who, message, resent):
            again = ", having sent it more than once" if resent else ""
            return f"{_name(message)} of {who} arrives, and {who} hears the reply{again}"
        case CopyArrives(who, message):
            return f"{_name(message)} of {who} arrives; its reply is lost"
        case ClockMoves(ms):
            return f"the clock moves by {ms} ms"
        case StrangerCalls():
            return "a stranger's request makes the server read the clock"
        case EverythingIsLost():
            return "Redis loses everything"
        case KeyIsLost(key):
            return f"Redis loses the key {key}"
        case SnapshotIsTaken(key):
            return f"a snapshot of {f'the key {key}' if key else 'Redis'} is taken"
        case SnapshotIsRestored(number):
            return f"snapshot {number} is restored"
    raise unhandled(event)


def _sending(event: Event, before: World, after: World) -> str:
    """The request that the event makes an instance send, if any."""
    if not isinstance(event, InstanceEvent):
        return ""
    place = NAMES.index(event.who)
    was, now = (world.slots[place].instance for world in (before, after))
    if now is None or now.sent is None or (was is not None and was.sent == now.sent):
        return ""
    return f"; {event.who} sends {_name(now.sent)}"


def _name(message: Message) -> str:
    if isinstance(message, Open):
        return f"request {message.seq} (an open)"
    if isinstance(message, Leave):
        return f"request {message.seq} (a leave)"
    parts = []
    for part in message.parts:
        steps = " ".join(map(_operation, part.steps)) or "restore"
        memory = f"{part.memory.count} of epoch {part.memory.epoch} by {part.memory.seq}"
        parts.append(f"{part.key}: {steps}, remembering {memory}")
    return f"request {message.seq} in session {message.session} ({'; '.join(parts) or 'heartbeat'})"


def _operation(step: Step) -> str:
    condition = f" if {step.condition.relation} {step.condition.operand}" if step.condition else ""
    return f"{step.op}({step.count})" * bool(step.count) + step.op * (not step.count) + condition


def _held(server: Server) -> str:
    """Everything that the server holds, in one line."""
    if server == Server(opened=server.opened):
        return "the server holds nothing"
    words = [f"T {server.clock}"] + ([f"due {server.due}"] if server.due is not None else [])
    for name, session in sorted(server.sessions.items()):
        words.append(
            f"{name} has session {session.number}, heard at {session.heartbeat}, seq {session.seq}"
        )
    for key, counter in sorted(server.counters.items()):
        slices = [
            f"{name} {mine.count} of epoch {mine.epoch} by {mine.seq} of session {mine.session}"
            for name, mine in sorted(counter.slices.items())
        ]
        words.append(f"{key} = {counter.total} in epoch {counter.epoch}: {', '.join(slices)}")
    listed = [f"{key} {epoch or 'here'}" for key, epoch in sorted(server.keys.items())]
    return "; ".join([*words, f"listed: {', '.join(listed) or '-'}"])


# --- For machines ---------------------------------------------------------------------------------


def encode_trace(trace: Trace) -> Iterator[str]:
    """The lines of a trace."""
    head = {
        "trace": FORMAT,
        "bounds": encode_bounds(trace.bounds),
        "protocol": trace.protocol,
        "violation": trace.violation,
    }
    yield json.dumps(head)
    for event in trace.events:
        yield json.dumps(_encode(event))


def decode_trace(lines: Iterable[str], protocol: Protocol = RIGHT) -> Trace:
    """The trace that `encode_trace` wrote.

    Raises:
        ValueError: a line says something that cannot happen there; the message says which.
    """
    head, *rest = [json.loads(line) for line in lines]
    if head.get("trace") != FORMAT:
        raise ValueError(f"not a trace of format {FORMAT}: {head}")
    bounds = decode_bounds(head["bounds"])
    world, found = start(bounds), list[Event]()
    for number, line in enumerate(rest, 2):
        event = next((event for event in events(world) if _encode(event) == line), None)
        if event is None:
            raise ValueError(f"line {number}: this cannot happen here: {line}")
        found.append(event)
        try:
            world = perform(world, event, protocol)
        except Violation:
            break
    return Trace(bounds, tuple(found), head["protocol"], head["violation"])


def encode_bounds(bounds: Bounds) -> Line:
    """Bounds as JSON: an object by their names, with the kinds of call by theirs."""
    kinds_of_call = {name: [kind.name for kind in getattr(bounds, name)] for name in KINDS}
    lists = {name: list(getattr(bounds, name)) for name in LISTS}
    return {**bounds._asdict(), **kinds_of_call, **lists}


def decode_bounds(line: Line) -> Bounds:
    """The bounds that `encode_bounds` wrote. Raises ValueError or TypeError if there are none."""
    values = {name: tuple(kind for word in line[name] for kind in kinds(word)) for name in KINDS}
    lists = {name: tuple(line[name]) for name in LISTS}
    return Bounds(**{**line, **values, **lists})


def _encode(event: Event) -> Line:
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    if "message" in values:
        values |= _encode_request(values.pop("message"))
    if "steps" in values:
        values["steps"] = _encode_steps(values["steps"])
    values |= {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
    return {"type": type(event).__name__, **values}


def _encode_request(message: Message) -> Line:
    """What tells a request from all others of its instance, and of earlier lives of its id."""
    session = 0 if isinstance(message, Open) else message.session
    return {"seq": message.seq, "session": session, "acked": message.acked}


def _encode_steps(steps: Steps) -> list[Line]:
    return [
        {
            "key": key,
            "op": step.op,
            "count": step.count,
            "condition": step.condition and step.condition._asdict(),
        }
        for key, step in steps
    ]
