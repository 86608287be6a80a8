"""Group commit, without I/O: callers queue, and those at the head share the next request.

Calls that arrive while a request is in flight wait in the queue. The next request carries as many
of them as fit. Each caller gets its own exact result, because a reply is the state before the steps
(PROTOCOL.md). The queue is first in, first out, so the calls of one caller keep their order.

The rules this file keeps:
  * A group that was taken is completed, even if some of its callers have given up: its steps run
    once, or get an error that says what is known.
  * A caller that gives up while queued is never sent.
  * A request needs less than about 1 ms of the server's time: 0.9 us a step and 5 us a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, cast

from distkit.core.instance import Call, Kind, Outcome
from distkit.core.operations import Step
from distkit.errors import NotExecutedError, OutcomeUnknownError

MOST_STEPS: Final = 512
MOST_KEYS: Final = 100
"""The bounds of a request."""


class Caller(Protocol):
    """Somebody who waits for steps to be executed."""

    def cancelled(self) -> bool:
        """Whether nobody waits for the outcomes any more. If it was not taken yet, it never is."""
        ...

    def done(self) -> bool:
        """Whether it has its outcomes, or was cancelled."""
        ...


Entry = tuple[Sequence[Step], Any, Kind]
"""A caller in the queue: its steps, the caller, and what its call is for. A heartbeat, and a caller
that leaves, have no steps of their own. Steps can share a request; everything else goes alone."""


class Desk(Protocol):
    """Hands outcomes to callers, as their driver knows how."""

    def deal(self, callers: Sequence[Any], outcomes: list[Outcome]) -> None:
        """Give each of these callers, which have one step each, its outcome."""
        ...

    def finish(self, caller: Any, steps: Sequence[Step], outcomes: list[Outcome]) -> None:
        """Give a caller an outcome for each of its steps; for a heartbeat, the error that ended it,
        if any. It can be called twice."""
        ...


class Queue:
    """The callers that wait, and the group whose request is in flight.

    It is not thread-safe: the driver calls everything but `len` one at a time. An interrupt may
    come between any two lines. Then a caller can be in the group and still wait as well; since it
    is done after its group, it is not taken again.

    Attributes:
        waiting: the callers that were not taken yet. To join, append an entry.
        is_shared: whether the last group had several callers.
    """

    waiting: list[Entry]
    is_shared: bool

    def __init__(self) -> None:
        self.waiting = []
        self.is_shared = False
        self._group: list[Entry] = []
        self._call = Call()
        self._are_single = False  # whether each caller of the group has one step

    def __len__(self) -> int:
        """How many callers have not been taken yet."""
        return len(self.waiting)

    @property
    def is_busy(self) -> bool:
        """Whether a group is under way, or a caller waits."""
        return bool(self._group or self.waiting)

    @property
    def is_abandoned(self) -> bool:
        """Whether a group is under way, and nobody waits for it any more."""
        return bool(self._group) and all(caller.cancelled() for _, caller, _ in self._group)

    def forget(self, is_lost: Callable[[Any], bool]) -> None:
        """Remove callers that were not taken yet."""
        self.waiting[:] = [entry for entry in self.waiting if not is_lost(entry[1])]

    def take(self, leader: Caller | None = None) -> Call | None:
        """The call of the group under way, or else of the next group; None if nobody waits.

        Args:
            leader: the caller that asks, if it is one: it waits itself.
        """
        if self._group:
            return self._call
        waiting = self.waiting
        if len(waiting) != 1 or waiting[0][1] is not leader:
            waiting[:] = [entry for entry in waiting if not entry[1].done()]
        if not waiting:
            return None
        # The call first: it belongs to nobody until there is a group.
        if len(waiting) == 1:
            size, self._are_single = 1, False
            steps, _, kind = waiting[0]
            self._call = Call(steps, kind)
        elif call := _single_steps(waiting):
            size, self._are_single = len(call.steps), True
            self._call = call
        else:
            size, self._are_single = _how_many(waiting), False
            self._call = _shared_call(waiting[:size])
        self._group = waiting[:size]
        del waiting[:size]
        self.is_shared = size > 1
        return self._call

    def hand_out(self, desk: Desk) -> None:
        """The group's call is done: give each caller its outcomes."""
        group, first = self._group, 0
        outcomes = cast(list[Outcome], self._call.outcomes)
        if self._are_single:
            desk.deal([caller for _, caller, _ in group], outcomes)
        else:
            failure: list[Outcome] = [self._call.failure] if self._call.failure else []
            for steps, caller, _ in group:
                size = len(steps)
                desk.finish(caller, steps, outcomes[first : first + size] if size else failure)
                first += size
        self._group = []

    def successor(self, leader: Caller | None) -> Any:
        """The caller that leads when this leader stops, if any waits."""
        for entries in (self._group, self.waiting):
            for _, caller, _ in entries:
                if caller is not leader and not caller.done():
                    return caller
        return None


def bounded(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Cut a long list of steps into pieces that each fit into one request; at least one piece."""
    piece: list[Step] = []
    keys: set[str] = set()
    for step in steps:
        keys.add(step.key)
        if len(piece) == MOST_STEPS or len(keys) > MOST_KEYS:
            yield piece
            piece, keys = [], {step.key}
        piece.append(step)
    yield piece


def _single_steps(waiting: Sequence[Entry]) -> Call | None:
    """The call of the callers at the head, if each has one step and they fit into one request. This
    is the usual case, and quicker to find out than to count."""
    head = waiting[:MOST_STEPS]
    if [kind for _, _, kind in head].count(Kind.STEPS) != len(head):
        return None
    todo = [steps for steps, _, _ in head]
    first = todo[0]
    if len(first) == 1 and todo.count(first) == len(todo):
        return Call.of_the_same(first[0], len(todo))
    if set(map(len, todo)) != {1}:
        return None
    steps = [only for (only,) in todo]
    if len(steps) > MOST_KEYS and len({step[0] for step in steps}) > MOST_KEYS:
        return None
    return Call(steps)


def _how_many(waiting: Sequence[Entry]) -> int:
    """How many callers at the head of the queue fit into one request. A caller that leaves goes
    alone (R16), and so do looks, which share no counter with other steps (R18)."""
    count = total = 0
    keys: set[str] = set()
    for steps, _, kind in waiting:
        total += len(steps)
        for step in steps:
            keys.add(step.key)
        is_full = total > MOST_STEPS or len(keys) > MOST_KEYS
        if kind is not Kind.STEPS or (is_full and count):
            break
        count += 1
    return count or 1


def _shared_call(group: Sequence[Entry]) -> Call:
    first_steps, _, kind = group[0]
    if len(group) == 1:
        return Call(first_steps, kind)
    return Call([step for steps, _, _ in group for step in steps])


class Batch:
    """The steps of one call in as many requests as they need, one after the other.

    After a request without a reply the rest is not sent: Redis cannot be reached for it either.
    """

    def __init__(self, todo: Sequence[Step]) -> None:
        self.outcomes: list[Outcome] = []
        self._todo = todo

    def pieces(self) -> Iterator[list[Step]]:
        """The steps to run next. Add their outcomes to `outcomes` before asking for more."""
        for piece in bounded(self._todo):
            yield piece
            if any(isinstance(o, NotExecutedError | OutcomeUnknownError) for o in self.outcomes):
                break
        for _ in self._todo[len(self.outcomes) :]:
            self.outcomes.append(
                NotExecutedError("an earlier part of the batch got no reply: this was not sent")
            )

    def results(self) -> list[Any]:
        """The result of each step. If any failed, raise the first error, with all `outcomes`."""
        for outcome in self.outcomes:
            if isinstance(outcome, Exception):
                outcome.outcomes = tuple(self.outcomes)  # type: ignore[attr-defined]
                raise outcome
        return self.outcomes


def result_of(outcome: Outcome) -> Any:
    """The result; an error is raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
