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
    """Somebody who waits for steps to be executed.

    Attributes:
        steps: what it waits for. A heartbeat, and a caller that leaves, have none of their own.
        kind: what its call is for. Steps can share a request; everything else goes alone.
    """

    steps: Sequence[Step]
    kind: Kind

    def cancelled(self) -> bool:
        """Whether nobody waits for the outcomes any more. If it was not taken yet, it never is."""
        ...

    def done(self) -> bool:
        """Whether it has its outcomes, or was cancelled."""
        ...

    def finish(self, outcomes: list[Outcome]) -> None:
        """Hand over an outcome for each step; for a heartbeat, the error that ended it, if any. It
        can be called twice."""
        ...


class Queue:
    """The callers that wait, and the group whose request is in flight.

    It is not thread-safe: the driver calls `join`, `take` and `successor` one at a time.

    Attributes:
        is_shared: whether the last group had several callers.
    """

    is_shared: bool

    def __init__(self) -> None:
        # A single attribute: an interrupt must not find a caller in both lists, or in neither.
        self._group_and_queue: tuple[list[Caller], list[Caller]] = ([], [])
        self._call = Call()
        self.is_shared = False

    def join(self, caller: Caller) -> None:
        self._group_and_queue[1].append(caller)

    def __len__(self) -> int:
        """How many callers have not been taken yet."""
        return len(self._group_and_queue[1])

    @property
    def is_busy(self) -> bool:
        """Whether a group is under way, or a caller queued."""
        group, queue = self._group_and_queue
        return bool(group or queue)

    @property
    def is_abandoned(self) -> bool:
        """Whether a group is under way, and nobody waits for it any more."""
        group, _ = self._group_and_queue
        return bool(group) and all(caller.cancelled() for caller in group)

    def forget(self, is_lost: Callable[[Any], bool]) -> None:
        """Remove callers that were not taken yet."""
        group, queue = self._group_and_queue
        self._group_and_queue = group, [caller for caller in queue if not is_lost(caller)]

    def take(self) -> Call | None:
        """The call of the group under way, or else of the next group; None if nobody waits."""
        group, queue = self._group_and_queue
        if group:
            return self._call
        if len(queue) != 1 or queue[0].cancelled():
            queue = [caller for caller in queue if not caller.cancelled()]
        if not queue:
            self._group_and_queue = [], []
            return None
        size = _how_many(queue) if len(queue) > 1 else 1
        group = queue[:size]
        # The call first: it belongs to nobody until there is a group.
        first = group[0]
        self._call = _shared_call(group) if size > 1 else Call(first.steps, first.kind)
        self._group_and_queue = group, queue[size:]
        self.is_shared = size > 1
        return self._call

    def hand_out(self) -> None:
        """The group's call is done: give each caller its outcomes."""
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

    def successor(self, leader: Caller | None) -> Caller | None:
        """The caller that leads when this leader stops."""
        for callers in self._group_and_queue:
            for caller in callers:
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


def _how_many(queue: Sequence[Caller]) -> int:
    """How many callers at the head of the queue fit into one request. A caller that leaves goes
    alone (R16), and so do looks, which share no counter with other steps (R18)."""
    if queue[0].kind is not Kind.STEPS:
        return 1
    steps, count = 0, 0
    keys: set[str] = set()
    for caller in queue:
        steps += len(caller.steps)
        for step in caller.steps:
            keys.add(step.key)
        is_full = steps > MOST_STEPS or len(keys) > MOST_KEYS
        if caller.kind is not Kind.STEPS or (is_full and count):
            break
        count += 1
    return count


def _shared_call(group: Sequence[Caller]) -> Call:
    return Call([step for caller in group for step in caller.steps])


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
