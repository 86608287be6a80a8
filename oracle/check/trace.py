"""A trace: the events that lead to a violation, told to people and stored for machines.

`tell` makes a numbered list of them: who did what, and what the server held afterwards.

`encode_trace` and `decode_trace` write and read one JSON object a line. The first line is the head:
the bounds of the world, the protocol, and what was found. Every other line is an event: its `type`
(the name of its class in `oracle.check.events`) and its fields. A request is named by its instance
and its seq. The tests play traces on production (`tests/harness/player.py`).
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
    Leaves,
    SnapshotIsRestored,
    SnapshotIsTaken,
    StrangerCalls,
    unhandled,
)
from oracle.check.properties import Violation
from oracle.check.state import NAMES, RIGHT, Bounds, Protocol, World, start
from oracle.check.world import events, perform
from oracle.model import Leave, Message, Open, Server, Step, Steps

FORMAT = 2
"""The version of what `encode_trace` writes."""

Line = dict[str, Any]


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
        case Calls(who, steps):
            calls = ", ".join(f"{_operation(step)} on {key}" for key, step in steps)
            return f"{who} calls {calls or 'heartbeat'}"
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
        case SnapshotIsTaken():
            return "a snapshot of Redis is taken"
        case SnapshotIsRestored(number):
            return f"Redis falls back to snapshot {number}"
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
        steps = " ".join(map(_operation, part.steps)) or "look"
        parts.append(f"{part.key}: {steps}, remembering {part.memory.count}/{part.memory.epoch}")
    return f"request {message.seq} ({'; '.join(parts) or 'heartbeat'})"


def _operation(step: Step) -> str:
    condition = f" if {step.condition.relation} {step.condition.operand}" if step.condition else ""
    return f"{step.op}({step.count or ''}){condition}"


def _held(server: Server) -> str:
    """Everything that the server holds, in one line."""
    if server.clock is None:
        return "the server holds nothing"
    words = [f"T {server.clock}"]
    for name, session in sorted(server.sessions.items()):
        words.append(
            f"{name} has session {session.number}, heard at {session.heartbeat}, seq {session.seq}"
        )
    for key, counter in sorted(server.counters.items()):
        slices = [
            f"{name} {mine.count} of epoch {mine.epoch} by {mine.seq}"
            for name, mine in sorted(counter.slices.items())
        ]
        words.append(
            f"{key} = {counter.total} in epoch {counter.epoch}: {', '.join(slices) or '-'}"
        )
    return "; ".join(words)


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
    return {
        name: [kind.name for kind in value] if isinstance(value, tuple) else value
        for name, value in bounds._asdict().items()
    }


def decode_bounds(line: Line) -> Bounds:
    """The bounds that `encode_bounds` wrote. Raises ValueError or TypeError if there are none."""
    values = {
        name: kinds(",".join(value)) if value else ()
        for name, value in line.items()
        if isinstance(value, list)
    }
    return Bounds(**line | values)


def _encode(event: Event) -> Line:
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    if "message" in values:
        values["seq"] = values.pop("message").seq
    if "steps" in values:
        values["steps"] = _encode_steps(values["steps"])
    return {"type": type(event).__name__, **values}


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
