"""Holding in memory, for threads (R20): what `InMemoryCounter.held` and `.limit` return.

Waiting is real waiting, and its timeouts are real seconds: whoever waits looks again whenever
somebody makes a call on the server or moves its clock.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar, cast

from oracle.in_memory.arguments import (
    checked_name,
    checked_policy,
    checked_positive,
    checked_timeout,
    one_step,
)
from oracle.in_memory.machine import Machine, Slot
from oracle.in_memory.types import InMemoryError, registered
from oracle.model import CounterState

P = ParamSpec("P")
R = TypeVar("R")
StateT = TypeVar("StateT", bound=CounterState | None)


class InMemoryHeld(Generic[StateT]):
    """`count` more while inside: a context manager, and a decorator."""

    def __init__(self, machine: Machine, key: str, count: int, when_unreachable: str) -> None:
        self._machine = machine
        self._key = checked_name(key, "key")
        self._count = checked_positive(count, "count")
        self._policy = checked_policy(when_unreachable, "raise", "allow")
        self._slots: list[Slot] = []

    def __enter__(self) -> StateT:
        slot, state = self._machine.enter(self._key, self._count, self._policy)
        self._slots.append(slot)
        return cast(StateT, state)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._slots.pop().close()
        self._machine.settle()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return _decorated(function, self)


class InMemoryLimitSlot:
    """A slot of a limit inside: a context manager, and a decorator."""

    def __init__(self, limit: InMemoryLimit, timeout_s: float | None) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._slots: list[Slot] = []

    def __enter__(self) -> None:
        self._slots.append(self._limit.take(self._timeout_s))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._slots.pop().close()
        self._limit.machine.settle()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return _decorated(function, self)


class BaseLimit:
    """What the limits for threads and for tasks share."""

    def __init__(self, machine: Machine, key: str, most: int, when_unreachable: str) -> None:
        self.key = checked_name(key, "key")
        self.most = checked_positive(most, "most")
        self.machine = machine
        self.policy = checked_policy(when_unreachable, "raise", "allow", "refuse")

    def line(self) -> deque[object]:
        """Who waits for this limit in this instance, in order."""
        return self.machine.lines.setdefault((self.key, self.most), deque())

    def reached(self, cause: Exception | None = None) -> InMemoryError:
        error = registered().limit_reached(self.key, self.most)
        error.__cause__ = cause
        return error

    def ask(self) -> Slot | None:
        """Ask for a slot. Raises what asking ended with."""
        answer = self.machine.ask(self.key, self.most, self.policy)
        if not isinstance(answer, InMemoryError):
            return answer
        types = registered()
        away = isinstance(answer, types.NotExecutedError | types.OutcomeUnknownError)
        raise self.reached(answer) if away and self.policy == "refuse" else answer

    def release(self) -> None:
        """Give back a slot that `acquire` took. It never fails because of the server."""
        kept = self.machine.kept.get(self.key)
        if not kept:
            raise RuntimeError(f"a slot of {self.key!r} was released that had not been acquired")
        kept.pop().close()
        self.machine.settle()


class InMemoryLimit(BaseLimit):
    """At most `most` at once, over all instances."""

    def slot(self, *, timeout: float | None = None, blocking: bool = True) -> InMemoryLimitSlot:
        """Hold a slot inside a `with` block, or during each call of a decorated function."""
        return InMemoryLimitSlot(self, checked_timeout(timeout, blocking))

    def acquire(self, *, timeout: float | None = None, blocking: bool = True) -> bool:
        """Take a slot, until `release`. Returns whether one was taken."""
        timeout_s = checked_timeout(timeout, blocking)
        try:
            self.machine.keep(self.take(timeout_s))
        except registered().LimitReached:
            return False
        return True

    def available(self) -> int:
        """How many slots are free."""
        state = self.machine.one(one_step("get", self.key), CounterState)
        return max(0, self.most - state.cumulative)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return self.slot()(function)

    def take(self, timeout_s: float | None) -> Slot:
        """Wait for a slot, in line."""
        server, line, ticket = self.machine.server, self.line(), object()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with server.changed:
            line.append(ticket)
            try:
                while True:
                    if line[0] is ticket and (slot := self.ask()) is not None:
                        return slot
                    left_s = None if deadline is None else deadline - time.monotonic()
                    if left_s is not None and left_s <= 0:
                        raise self.reached()
                    server.changed.wait(left_s)
            finally:
                line.remove(ticket)
                server.notify()


def _decorated(
    function: Callable[P, R], context: InMemoryHeld[StateT] | InMemoryLimitSlot
) -> Callable[P, R]:
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise TypeError(f"{function!r} would hold nothing while it runs: use `with` inside")

    @functools.wraps(function)
    def holding(*args: P.args, **kwargs: P.kwargs) -> R:
        with context:
            return function(*args, **kwargs)

    return holding
