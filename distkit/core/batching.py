"""Group commit, without I/O: callers wait in line, and those at its head share the next request.

While a request is in flight, further calls queue; the next one carries as many of them as its
bounds allow. Each caller gets its own exact result, since a reply is the state before
(PROTOCOL.md). The line is first in, first out, so that the calls of one caller keep their order.

What this file keeps:
  * A group once taken is settled to the end, whoever of it is still interested: its steps have been
    executed once, or get an error that says what is known.
  * Who gives up while still in the queue is never executed.
  * A request stays below some 1 ms of the server's time: 0.9 us a step and 5 us a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol, cast

from distkit.core.instance import Call, Outcome
from distkit.core.operations import Step

MOST_STEPS: Final = 512
MOST_KEYS: Final = 100
"""Bounds of a request."""


class Waiting(Protocol):
    """A caller in line, with its steps; none at all is a heartbeat."""

    steps: Sequence[Step]
    leaving: bool

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more. If it was not taken yet, it never will be."""
        ...

    def done(self) -> bool:
        """Whether it has its outcomes, or was cancelled."""
        ...

    def finish(self, outcomes: list[Outcome]) -> None:
        """Give it an outcome for each step, or for a heartbeat what ended it, if anything did.
        It may happen twice."""
        ...


class Queue:
    """The queue, and the group that is under way; `is_shared`: the last one was of several callers.

    Not thread-safe: `join`, `take` and `successor` are to be called one at a time."""

    def __init__(self) -> None:
        # One attribute: an interrupt must not find a caller in both, or in neither.
        self._group_and_queue: tuple[list[Waiting], list[Waiting]] = ([], [])
        self._call = Call()
        self.is_shared = False

    def join(self, caller: Waiting) -> None:
        self._group_and_queue[1].append(caller)

    @property
    def is_waiting(self) -> bool:
        """Whether a group is under way, or somebody in the queue."""
        group, queue = self._group_and_queue
        return bool(group or queue)

    def take(self) -> Call | None:
        """The call of the group that is under way, or of the next one; None if nobody waits."""
        group, queue = self._group_and_queue
        if group:
            return self._call
        queue = [caller for caller in queue if not caller.cancelled()]
        if not queue:
            self._group_and_queue = [], []
            return None
        size = _how_many(queue)
        group = queue[:size]
        # First the call: it belongs to nobody until there is a group.
        self._call = _shared_call(group)
        self._group_and_queue = group, queue[size:]
        self.is_shared = size > 1
        return self._call

    def hand_out(self) -> None:
        """The group's call is done: each caller gets its own."""
        group, _ = self._group_and_queue
        outcomes, first = cast(list[Outcome], self._call.outcomes), 0
        failure: list[Outcome] = [self._call.failure] if self._call.failure else []
        for caller in group:
            size = len(caller.steps)
            if size == 1:
                caller.finish([outcomes[first]])
            else:
                caller.finish(outcomes[first : first + size] if size else failure)
            first += size
        self._group_and_queue = [], self._group_and_queue[1]

    def successor(self, leader: Waiting) -> Waiting | None:
        """Who is to go on with the line when its leader stops."""
        for callers in self._group_and_queue:
            for caller in callers:
                if caller is not leader and not caller.done():
                    return caller
        return None


def bounded(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """A long list of steps in pieces that each fit into one request; at least one piece."""
    piece: list[Step] = []
    keys: set[str] = set()
    for step in steps:
        keys.add(step.key)
        if len(piece) == MOST_STEPS or len(keys) > MOST_KEYS:
            yield piece
            piece, keys = [], {step.key}
        piece.append(step)
    yield piece


def _how_many(queue: Sequence[Waiting]) -> int:
    """How many of the queue's first fit into one request. Who leaves, leaves alone (R16)."""
    if len(queue) == 1 or queue[0].leaving:
        return 1
    steps, count = 0, 0
    keys: set[str] = set()
    for caller in queue:
        steps += len(caller.steps)
        for step in caller.steps:
            keys.add(step.key)
        if caller.leaving or ((steps > MOST_STEPS or len(keys) > MOST_KEYS) and count):
            break
        count += 1
    return count


def _shared_call(group: Sequence[Waiting]) -> Call:
    steps = group[0].steps if len(group) == 1 else [step for w in group for step in w.steps]
    return Call(steps, leaving=group[0].leaving)
