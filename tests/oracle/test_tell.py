"""A trace is told so that somebody can follow it: every kind of event, and what it sends."""

from __future__ import annotations

from typing import Any

import pytest

from oracle.check.call_kinds import kinds
from oracle.check.events import (
    EVENT_TYPES,
    Calls,
    ClockMoves,
    CopyArrives,
    Crashes,
    Event,
    EverythingIsLost,
    GivesUp,
    HearsReply,
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
from oracle.check.state import Bounds, start
from oracle.check.trace import Trace, tell
from oracle.check.world import events, perform

WORLD = Bounds(
    2, operations=6, kinds=kinds("inc,release,leave"), crashes=1, joins=1, reuses=1, give_ups=2,
    ticks=1, losses=1, key_losses=1, rollbacks=1,
)  # fmt: skip
EVERYTHING_HAPPENS: tuple[tuple[type[Any], str], ...] = (
    (StrangerCalls, "a stranger's request makes the server read the clock"),
    (Joins, "C joins"),
    (Calls, "A calls inc(100000) on k; A sends request 21 (an open)"),
    (GivesUp, "A gives up"),
    (Calls, "A calls inc(10000) on k; A sends request 22 (an open)"),
    (CopyArrives, "request 21 (an open) of A arrives; its reply is lost"),
    (HearsReply, "request 22 (an open) of A arrives, and A hears the reply; A sends request 23 in "
                 "session 2 (k: inc(10000), remembering 0 of epoch 0 by 22)"),
    (HearsReply, "request 23 in session 2 (k: inc(10000), remembering 0 of epoch 0 by 22) of A "
                 "arrives, and A hears the reply"),
    (SnapshotIsTaken, "a snapshot of Redis is taken"),
    (Looks, "A makes a heartbeat and looks at k; A sends request 24 in session 2 (k: look, "
            "remembering 10000 of epoch 0 by 23)"),
    (GivesUp, "A gives up"),
    (ClockMoves, "the clock moves by -1 ms"),
    (KeyIsLost, "Redis loses the key instances"),
    (SnapshotIsRestored, "snapshot 0 is restored"),
    (Leaves, "A leaves; A sends request 25 in session 2 (k: drop, remembering 0 of epoch 0 by 22)"),
    (EverythingIsLost, "Redis loses everything"),
    (Crashes, "A crashes"),
    (Restarts, "a new instance starts under the id A"),
)  # fmt: skip
"""A history in which every kind of event happens, and how it is told."""


def test_every_kind_of_event_is_told() -> None:
    assert {kind for kind, _ in EVERYTHING_HAPPENS} == {*EVENT_TYPES}
    world, path = start(WORLD), list[Event]()
    for kind, _ in EVERYTHING_HAPPENS:
        path.append(next(event for event in events(world) if isinstance(event, kind)))
        world = perform(world, path[-1])
    told = list(tell(Trace(WORLD, tuple(path))))
    sentences = [line.split(". ", 1)[1] for line in told[::2]]
    assert sentences == [sentence for _, sentence in EVERYTHING_HAPPENS]
    assert told[-1].strip() == "the server holds nothing"


@pytest.mark.parametrize("resent", [False, True])
def test_a_trace_tells_whether_a_request_was_sent_before(resent: bool) -> None:
    world = start(WORLD)
    path: list[Event] = [next(e for e in events(world) if isinstance(e, Calls))]
    world = perform(world, path[0])
    replies = [e for e in events(world) if isinstance(e, HearsReply)]
    assert [reply.resent for reply in replies] == [False, True]
    *_, said, _ = tell(Trace(WORLD, (*path, replies[resent])))
    assert ("having sent it more than once" in said) == resent


def test_an_event_that_nobody_handles_is_an_error_that_names_it() -> None:
    """As when a new kind of event is missing in a match, and mypy was not asked."""
    stray: Any = "an event of no kind"
    with pytest.raises(AssertionError, match=stray):
        raise unhandled(stray)
    with pytest.raises(AssertionError, match=stray):
        perform(start(WORLD), stray)
