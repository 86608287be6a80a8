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

    Args:
        errand: returns a caller for whom nobody waits, but whose steps every group has to carry; or
            None. It is asked whenever a group is taken.

    Attributes:
        waiting: the callers that were not taken yet. To join, append an entry.
        group: those that were taken, and are served now.
        is_shared: whether the last group had several callers.
    """

    waiting: list[Entry]
    group: list[Entry]
    is_shared: bool

    def __init__(self, errand: Callable[[], Any] = lambda: None) -> None:
        self.waiting = []
        self.is_shared = False
        self._compose_errand = errand
        self._errand_went = False  # alone, before a caller that goes alone
        self._is_taken = False
        # What is taken: an errand, or callers, or both.
        self._errand: Any = None
        self.group = []
        self._call = Call()
        self._are_single = False  # whether each caller of the group has one step

    def __len__(self) -> int:
        """How many callers have not been taken yet."""
        return len(self.waiting)

    @property
    def is_busy(self) -> bool:
        """Whether a group is under way, or a caller waits."""
        return self._is_taken or bool(self.waiting)

    @property
    def is_abandoned(self) -> bool:
        """Whether a group is under way, and nobody waits for it any more."""
        if not self._is_taken or self._errand is not None:
            return False
        return all(caller.cancelled() for _, caller, _ in self.group)

    def forget(self, is_lost: Callable[[Any], bool]) -> None:
        """Remove callers that were not taken yet."""
        self.waiting[:] = [entry for entry in self.waiting if not is_lost(entry[1])]

    def take(self, leader: Caller | None = None) -> Call | None:
        """The call of the group under way, or else of the next group; None if nobody waits.

        Args:
            leader: the caller that asks, if it is one: it waits itself.
        """
        if self._is_taken:
            return self._call
        waiting = self.waiting
        if len(waiting) != 1 or waiting[0][1] is not leader:
            waiting[:] = [entry for entry in waiting if not entry[1].done()]
        errand = self._due_errand()
        if not waiting and errand is None:
            return None
        # The call first: it belongs to nobody until it is taken.
        if len(waiting) == 1 and errand is None:
            size, self._are_single = 1, False
            steps, _, kind = waiting[0]
            self._call = Call(steps, kind)
        else:
            size, self._are_single, self._call = _shared(waiting, errand.steps if errand else ())
        self._errand, self.group = errand, waiting[:size]
        self._is_taken = True
        del waiting[:size]
        self.is_shared = size > 1
        return self._call

    def _due_errand(self) -> Any:
        """The errand that the next group carries. It cannot go with a caller that goes alone: then
        it goes before it, and not twice in a row."""
        went, self._errand_went = self._errand_went, False
        kind = self.waiting[0][2] if self.waiting else Kind.STEPS
        if kind is not Kind.STEPS and (went or kind is Kind.LEAVE):
            return None
        self._errand_went = kind is not Kind.STEPS
        return self._compose_errand()

    def hand_out(self, desk: Desk) -> None:
        """The group's call is done: give each caller its outcomes."""
        errand, group, first = self._errand, self.group, 0
        outcomes = cast(list[Outcome], self._call.outcomes)
        if errand is not None:
            first = len(errand.steps)
            errand.finish(outcomes[:first])
        if self._are_single:
            desk.deal([caller for _, caller, _ in group], outcomes[first:] if first else outcomes)
        else:
            failure: list[Outcome] = [self._call.failure] if self._call.failure else []
            for steps, caller, _ in group:
                size = len(steps)
                desk.finish(caller, steps, outcomes[first : first + size] if size else failure)
                first += size
        self._is_taken = False
        self._errand, self.group = None, []

    def successor(self, leader: Caller | None) -> Any:
        """The caller that leads when this leader stops, if any waits."""
        for entries in (self.group, self.waiting):
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


def _shared(waiting: Sequence[Entry], errand: Sequence[Step]) -> tuple[int, bool, Call]:
    """The call that an errand and the callers at the head of the queue share, how many callers that
    are, and whether each has one step.

    That each has one is the usual case, and quicker to find out than to count.
    """
    head = waiting[: MOST_STEPS - len(errand)] if len(errand) < MOST_STEPS else []
    todo = [steps for steps, _, _ in head]
    if head and [kind for _, _, kind in head].count(Kind.STEPS) == len(head):
        first = todo[0]
        if not errand and len(first) == 1 and todo.count(first) == len(todo):
            return len(todo), True, Call.of_the_same(first[0], len(todo))
        if set(map(len, todo)) == {1}:
            steps = [*errand, *(only for (only,) in todo)]
            if len(steps) <= MOST_KEYS or len({step[0] for step in steps}) <= MOST_KEYS:
                return len(todo), True, Call(steps)
    size = _how_many(waiting, errand)
    kind = waiting[0][2] if size == 1 and not errand else Kind.STEPS
    steps = [*errand, *(step for steps, _, _ in waiting[:size] for step in steps)]
    return size, False, Call(steps, kind)


def _how_many(waiting: Sequence[Entry], errand: Sequence[Step]) -> int:
    """How many callers at the head of the queue fit into one request. A caller that leaves goes
    alone (R16), and so do looks, which share no counter with other steps (R18)."""
    count, total = 0, len(errand)
    keys = {step.key for step in errand}
    for steps, _, kind in waiting:
        total += len(steps)
        for step in steps:
            keys.add(step.key)
        is_full = total > MOST_STEPS or len(keys) > MOST_KEYS
        is_first = not count and not errand
        if (kind is not Kind.STEPS or is_full) and not is_first:
            break
        count += 1
        if kind is not Kind.STEPS:
            break
    return count


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


def results_of(outcomes: list[Outcome]) -> list[Any]:
    """The result of each step of a batch. If any failed, raise the first error, with all of the
    `outcomes`."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            outcome.outcomes = tuple(outcomes)  # type: ignore[attr-defined]
            raise outcome
    return outcomes


def result_of(outcome: Outcome) -> Any:
    """The result; an error is raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
