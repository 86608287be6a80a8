"""A history that was found, for people and for machines.

For people: a numbered story, who did what and what the server held after it. For machines: a trace,
one JSON object a line. The first line is its head (what was found, and in which world), each other
line an event of `oracle.check.world`, whose request is named by its instance and seq. The tests play
traces on production (`tests/harness/player.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from oracle.check.properties import Violation
from oracle.check.world import RIGHT, Bounds, Event, Protocol, World, events, perform, start
from oracle.model import Condition, Leave, Message, Open, Server, Step

FORMAT = 1


class Trace(NamedTuple):
    """A history in a bounded world, and the property that it breaks there, if any."""

    bounds: Bounds
    events: tuple[Event, ...]
    protocol: str = ""
    violation: str = ""


# --- For people ----------------------------------------------------------------------------------


def tell(trace: Trace, protocol: Protocol = RIGHT) -> Iterator[str]:
    """The story, line by line."""
    world = start(trace.bounds)
    for number, event in enumerate(trace.events, 1):
        before = world
        try:
            world = perform(world, event, protocol)
            after = _held(world.server)
        except Violation:
            after = "which breaks a property"
        yield f"{number:3}. {_said(event, before, world)}"
        yield f"     {after}"
    if trace.violation:
        yield f"     {trace.violation}"


def _said(event: Event, before: World, after: World) -> str:
    what = f"{event.who} {event.what}" if event.who else event.what
    if event.what == "calls":
        steps = ", ".join(f"{_operation(step)} on {key}" for key, step in event.steps)
        what += f" {steps or 'heartbeat'}"
    if event.what == "the clock moves":
        what += f" by {event.number} ms"
    if event.what == "a copy takes over":
        what += f": the one numbered {event.number}"
    if event.what == "arrives":
        assert event.message is not None
        what = f"{_name(event.message)} of {event.who} arrives; its reply is lost"
    if event.what == "is answered":
        assert event.message is not None
        what = f"{_name(event.message)} of {event.who} arrives, and {event.who} hears the reply"
        what += ", having sent it more than once" if event.resent else ""
    sent = _sent(after, event.who)
    return f"{what}; sends {_name(sent)}" if sent and sent != _sent(before, event.who) else what


def _sent(world: World, name: str) -> Message | None:
    instance = dict(zip("ABCDEFGH", world.slots, strict=False))[name].instance if name else None
    return instance.sent if instance else None


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
    """All that the server holds, in one line."""
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


# --- For machines --------------------------------------------------------------------------------


def write_trace(trace: Trace) -> Iterator[str]:
    """The lines of a trace."""
    head = {
        "trace": FORMAT,
        "bounds": trace.bounds._asdict(),
        "protocol": trace.protocol,
        "violation": trace.violation,
    }
    yield json.dumps(head)
    for event in trace.events:
        yield json.dumps({key: value for key, value in _fields(event) if value})


def _fields(event: Event) -> Iterator[tuple[str, Any]]:
    yield "what", event.what
    yield "who", event.who
    yield "seq", event.message.seq if event.message else 0
    yield (
        "steps",
        [[key, step.op, step.count, *(step.condition or ())] for key, step in event.steps],
    )
    yield "heartbeat", event.what == "calls" and not event.steps
    yield "resent", event.resent
    yield "number", event.number


def read_trace(lines: Iterable[str], protocol: Protocol = RIGHT) -> Trace:
    """The trace that `write_trace` wrote. Raises ValueError at a line that says what cannot be."""
    head, *rest = [json.loads(line) for line in lines]
    if head.get("trace") != FORMAT:
        raise ValueError(f"not a trace of format {FORMAT}: {head}")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in head["bounds"].items()}
    bounds = Bounds(**fields)  # type: ignore[arg-type]
    world, found = start(bounds), list[Event]()
    for number, line in enumerate(rest, 2):
        event = _find(world, line)
        if event is None:
            raise ValueError(f"line {number}: this cannot happen here: {line}")
        found.append(event)
        try:
            world = perform(world, event, protocol)
        except Violation:
            break
    return Trace(bounds, tuple(found), head["protocol"], head["violation"])


def _find(world: World, line: dict[str, Any]) -> Event | None:
    """Which of the events that can happen the line tells of."""
    steps = tuple(
        (key, Step(kind, n, Condition(*condition) if condition else None))
        for key, kind, n, *condition in line.get("steps", [])
    )
    for event in events(world):
        mine = (event.what, event.who, event.message.seq if event.message else 0, event.steps)
        more = (event.resent, event.number)
        if mine == (line["what"], line.get("who", ""), line.get("seq", 0), steps) and more == (
            line.get("resent", False),
            line.get("number", 0),
        ):
            return event
    return None
