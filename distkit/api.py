"""The counter's operations: once, for the synchronous counter and the asyncio one.

Each method checks its arguments, which changes nothing if they are refused, makes its steps, and
leaves it to the shell (`counter.py`, `asyncio.py`) to have them run. The type parameters say what
that gives: a result, or an awaitable of one.
"""

from __future__ import annotations

import os
import secrets
import uuid
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from redis.client import NEVER_DECODE
from redis.exceptions import RedisClusterException, ResponseError

from distkit.core import operations as steps
from distkit.core.batching import Queue, bounded
from distkit.core.instance import Instance, Outcome
from distkit.core.operations import Comparator, Step
from distkit.core.pulse import Pulse
from distkit.errors import NotExecutedError, OutcomeUnknownError
from distkit.keys import LIMIT, Keyspace, checked_int, checked_name
from distkit.redis.sync import UNREACHABLE, prefix_in_other_use

StateT = TypeVar("StateT")
ChangeT = TypeVar("ChangeT")
StatesT = TypeVar("StatesT")
ChangesT = TypeVar("ChangesT")
NothingT = TypeVar("NothingT")


class Operations(ABC, Generic[StateT, ChangeT, StatesT, ChangesT, NothingT]):
    """What a counter can do. Every call is a heartbeat (R4).

    Every operation may raise, besides what it names:
        InvalidKeyError: the key is not 1 to 255 bytes without `:`, or no counter (R1).
        NotExecutedError: Redis could not be reached; the call was not executed.
        OutcomeUnknownError: it was sent and no reply came: it was executed once, or not (R12).
        redis.exceptions.ResponseError, AuthenticationError: Redis refused the call: out of memory,
            read-only, no permission. It was not executed.

    A batch (`..._all`) is checked as a whole before anything is sent. Its steps run in the order
    given, each for itself: one that is refused changes nothing and the others go on (R2). If any
    failed, the error of the first that did is raised; its attribute `outcomes` holds what became
    of each step, in order: a result or an error. A batch of up to 512 steps on up to 100 keys is
    one request, which nobody else's comes between; a longer one takes several.
    """

    def __init__(
        self, prefix: str, dead_instance_threshold_ms: int, instance_id: str | None
    ) -> None:
        name = str(uuid.uuid4()) if instance_id is None else instance_id
        threshold = checked_int(dead_instance_threshold_ms, "dead_instance_threshold_ms")
        if not 1 <= threshold <= LIMIT:
            raise ValueError(
                f"dead_instance_threshold_ms must be from 1 to 2^53 - 1, not {threshold}"
            )
        self._space = Keyspace(prefix)
        # An id that was given may have had another life: its numbers must not be taken for ours.
        seq = 0 if instance_id is None else secrets.randbits(40)
        self._instance = Instance(self._space, checked_name(name, "instance_id"), threshold, seq)
        self._queue = Queue()
        self._pulse = Pulse(threshold)
        self._alive = False  # inside its `with`
        _living.add(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new instance, with an id of its own and nothing remembered."""
        self._instance = Instance(self._space, str(uuid.uuid4()), self._instance.threshold_ms)
        self._queue = Queue()

    def __repr__(self) -> str:
        kind = f"{type(self).__module__}.{type(self).__name__}"
        return f"<{kind} {self._space.prefix!r} instance {self.instance_id!r}>"

    @property
    def instance_id(self) -> str:
        """This instance's name."""
        return self._instance.instance_id

    # --- One counter -----------------------------------------------------------------------------

    def inc(self, key: str, count: int = 1) -> StateT:
        """Add `count` to this instance's slice (R9).

        Returns:
            The total and this slice, after it.

        Raises:
            CounterOverflowError: the slice or the total would leave ±(2^53 - 1) (R2).
            TypeError: count is not an int.
        """
        return self._one(steps.inc(key, count))

    def dec(self, key: str, count: int = 1) -> StateT:
        """Take `count` from this instance's slice; it may go below 0 (R9). Otherwise as `inc`."""
        return self._one(steps.dec(key, count))

    def get(self, key: str) -> StateT:
        """Read the total and this slice. It removes the dead, too (R8).

        Raises:
            CounterOverflowError: the live slices add up to more than 2^53 - 1 (R2).
        """
        return self._one(steps.get(key))

    def set_on_instance(self, key: str, count: int) -> StateT:
        """Make `count` this instance's slice; the others keep theirs (R9). Else as `inc`."""
        return self._one(steps.set_on_instance(key, count))

    def set(self, key: str, count: int) -> StateT:
        """Make `count` the total: the epoch moves on, and this instance owns all of it (R9).

        Returns:
            `(count, count)`.

        Raises:
            CounterOverflowError: count is outside ±(2^53 - 1) (R2).
            OutcomeUnknownError: also when the session was lost while this call was unanswered; it
                may have moved the epoch, and what it set may be gone already.
            TypeError: count is not an int.
        """
        return self._one(steps.set(key, count))

    def delete_on_instance(self, key: str) -> StateT:
        """Remove this instance's slice; the others keep theirs (R9).

        Returns:
            The new total, and what was removed.
        """
        return self._one(steps.delete_on_instance(key))

    def delete(self, key: str) -> StateT:
        """Remove every instance's slice: the epoch moves on (R9).

        Returns:
            The total and this slice, as they were before.

        Raises:
            CounterOverflowError: the live slices add up to more than 2^53 - 1; `set` still works.
            OutcomeUnknownError: also when the session was lost while this call was unanswered.
        """
        return self._one(steps.delete(key))

    # --- With a condition ------------------------------------------------------------------------

    def inc_if(self, key: str, comparator: Comparator, count: int = 1) -> ChangeT:
        """Add `count` to this instance's slice if the total meets the condition (R15).

        Args:
            comparator: `eq(n)`, `ne(n)`, `lt(n)` or `gt(n)`, from `distkit`.
            count: may be negative.

        Returns:
            `(new, old)`: the state after and before, equal if the condition was not met.

        Raises:
            CounterOverflowError: the slice, or the total before or after, is outside ±(2^53 - 1).
            TypeError: count is not an int, or comparator not a comparator.
        """
        return self._one_if(steps.inc_if(key, comparator, count))

    def set_if(self, key: str, comparator: Comparator, count: int) -> ChangeT:
        """`set`, if the total meets the condition (R15); else as `inc_if`."""
        return self._one_if(steps.set_if(key, comparator, count))

    def set_on_instance_if(self, key: str, comparator: Comparator, count: int) -> ChangeT:
        """`set_on_instance`, if this slice meets the condition (R15); else as `inc_if`."""
        return self._one_if(steps.set_on_instance_if(key, comparator, count))

    # --- Batches ---------------------------------------------------------------------------------

    def inc_all(self, updates: Iterable[tuple[str, int]]) -> StatesT:
        """`inc` for each `(key, count)`, in order. Returns a list of their results."""
        return self._all(steps.each_of(updates, steps.inc, "(key, count)"))

    def set_all(self, updates: Iterable[tuple[str, int]]) -> StatesT:
        """`set` for each `(key, count)`, in order. Returns a list of their results."""
        return self._all(steps.each_of(updates, steps.set, "(key, count)"))

    def set_all_on_instance(self, updates: Iterable[tuple[str, int]]) -> StatesT:
        """`set_on_instance` for each `(key, count)`, in order. Returns a list of their results."""
        return self._all(steps.each_of(updates, steps.set_on_instance, "(key, count)"))

    def get_all(self, keys: Iterable[str]) -> StatesT:
        """`get` for each key, in order. Returns a list of their results."""
        if isinstance(keys, str | bytes):
            raise TypeError(f"keys must be an iterable of str, not {type(keys).__name__}")
        return self._all([steps.get(key) for key in keys])

    def inc_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> ChangesT:
        """`inc_if` for each `(key, comparator, count)`, in order. Returns a list of results."""
        return self._all_if(steps.each_of(updates, steps.inc_if, "(key, comparator, count)"))

    def set_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> ChangesT:
        """`set_if` for each `(key, comparator, count)`, in order. Returns a list of results."""
        return self._all_if(steps.each_of(updates, steps.set_if, "(key, comparator, count)"))

    def set_all_on_instance_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> ChangesT:
        """`set_on_instance_if` for each `(key, comparator, count)`, in order. Returns a list of
        results."""
        shape = "(key, comparator, count)"
        return self._all_if(steps.each_of(updates, steps.set_on_instance_if, shape))

    # --- Every counter ---------------------------------------------------------------------------

    @abstractmethod
    def heartbeat(self) -> NothingT:
        """Say that this instance is alive, and nothing else (R4).

        If it had been presumed dead, all its slices are back when this returns (R10).
        """

    @abstractmethod
    def clear_on_instance(self) -> NothingT:
        """Remove this instance's slices on every key. The others keep theirs.

        Not atomic over keys: it takes a request for every 100 of them. After NotExecutedError or
        OutcomeUnknownError some may be left: call it again.

        Raises:
            CounterOverflowError: without one of the slices a total would leave ±(2^53 - 1) (R2);
                that slice stays, the others are gone.
        """

    @abstractmethod
    def clear(self) -> NothingT:
        """Delete the counters of every key: all are 0, each in a new epoch (R9).

        Not atomic over keys: it takes a request for every 100 of them. A key that another instance
        makes meanwhile may stay. After NotExecutedError or OutcomeUnknownError some may be left:
        call it again.
        """

    # --- The shell's -----------------------------------------------------------------------------

    @abstractmethod
    def _one(self, step: Step) -> StateT: ...

    @abstractmethod
    def _one_if(self, step: Step) -> ChangeT: ...

    @abstractmethod
    def _all(self, todo: Sequence[Step]) -> StatesT: ...

    @abstractmethod
    def _all_if(self, todo: Sequence[Step]) -> ChangesT: ...

    def _clearing_of_this_instance(self) -> list[Step]:
        """A step for every key of which this instance may have a slice."""
        # All of them: one that is remembered as 0 may hold what an unanswered call did. A copy, for
        # another thread may count meanwhile.
        return [steps.set_on_instance(key, 0) for key in sorted(self._instance.memory.copy())]


def result_of(outcome: Outcome) -> Any:
    """The result, or the error raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class Batch:
    """Steps that may take several requests, one after the other."""

    def __init__(self, todo: Sequence[Step]) -> None:
        self.outcomes: list[Outcome] = []
        self._todo = todo

    def pieces(self) -> Iterator[list[Step]]:
        """What to run next; its outcomes are to be added before the next is asked for. After a call
        without a reply nothing more is sent: Redis is out of reach for the rest, too."""
        for piece in bounded(self._todo):
            yield piece
            if any(isinstance(o, NotExecutedError | OutcomeUnknownError) for o in self.outcomes):
                break
        for _ in self._todo[len(self.outcomes) :]:
            self.outcomes.append(
                NotExecutedError("an earlier part of the batch got no reply: this was not sent")
            )

    def results(self) -> list[Any]:
        """What each step came to; the first error is raised, with all of it in `outcomes`."""
        for outcome in self.outcomes:
            if isinstance(outcome, Exception):
                outcome.outcomes = tuple(self.outcomes)  # type: ignore[attr-defined]
                raise outcome
        return self.outcomes


class KnownKeys:
    """`SSCAN` over the set of keys, without I/O: a command, its reply, the next, till `done`."""

    options: dict[str, Any] = {NEVER_DECODE: True}  # noqa: RUF012 - it is never changed

    def __init__(self, space: Keyspace) -> None:
        self.found: set[str] = set()
        self.done = False
        self._space = space
        self._cursor = 0

    @property
    def command(self) -> tuple[Any, ...]:
        return ("SSCAN", self._space.keys, self._cursor, "COUNT", 1000)

    def hear(self, reply: tuple[int, list[bytes]]) -> None:
        self._cursor, names = reply
        self.found.update(name.decode() for name in names)
        self.done = not self._cursor

    def judged(self, error: Exception) -> Exception:
        """The error that a command ended with, as what it means."""
        if isinstance(error, (*UNREACHABLE, RedisClusterException)):
            return NotExecutedError(f"no reply from Redis ({error}): nothing was deleted")
        if "WRONGTYPE" in str(error):
            return prefix_in_other_use((self._space.instances, self._space.keys))
        return error


SCAN_ERRORS = (*UNREACHABLE, RedisClusterException, ResponseError)
"""The errors that `KnownKeys.judged` is for."""


# --- Forks ---------------------------------------------------------------------------------------

_living: weakref.WeakSet[Operations[Any, Any, Any, Any, Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """Parent and child must not speak with one voice: each would get the other's replies (R11)."""
    for counter in list(_living):
        counter._reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
