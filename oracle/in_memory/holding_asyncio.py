"""Holding in memory, for tasks (R20): what `AsyncInMemoryCounter.held` and `.limit` return."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast

from oracle.in_memory.arguments import (
    checked_name,
    checked_policy,
    checked_positive,
    checked_timeout,
    one_step,
)
from oracle.in_memory.holding import BaseLimit
from oracle.in_memory.machine import Machine, Slot
from oracle.in_memory.types import registered
from oracle.model import CounterState

P = ParamSpec("P")
R = TypeVar("R")
StateT = TypeVar("StateT", bound=CounterState | None)


class AsyncInMemoryHeld(Generic[StateT]):
    """`count` more while inside: an async context manager, and a decorator."""

    def __init__(self, machine: Machine, key: str, count: int, when_unreachable: str) -> None:
        self._machine = machine
        self._key = checked_name(key, "key")
        self._count = checked_positive(count, "count")
        self._policy = checked_policy(when_unreachable, "raise", "allow")
        self._slots: list[Slot] = []

    async def __aenter__(self) -> StateT:
        await asyncio.sleep(0)
        slot, state = self._machine.enter(self._key, self._count, self._policy)
        self._slots.append(slot)
        return cast(StateT, state)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._slots.pop().close()
        self._machine.settle()

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Callable[P, Coroutine[Any, Any, R]]:
        return _decorated(function, self)


class AsyncInMemoryLimitSlot:
    """A slot of a limit inside: an async context manager, and a decorator."""

    def __init__(self, limit: AsyncInMemoryLimit, timeout_s: float | None) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._slots: list[Slot] = []

    async def __aenter__(self) -> None:
        self._slots.append(await self._limit.take(self._timeout_s))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._slots.pop().close()
        self._limit.machine.settle()

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Callable[P, Coroutine[Any, Any, R]]:
        return _decorated(function, self)


class AsyncInMemoryLimit(BaseLimit):
    """At most `most` at once, over all instances. `release` is not a coroutine."""

    def slot(
        self, *, timeout: float | None = None, blocking: bool = True
    ) -> AsyncInMemoryLimitSlot:
        """Hold a slot inside an `async with` block, or during each call of a decorated function."""
        return AsyncInMemoryLimitSlot(self, checked_timeout(timeout, blocking))

    async def acquire(self, *, timeout: float | None = None, blocking: bool = True) -> bool:
        """Take a slot, until `release`. Returns whether one was taken."""
        timeout_s = checked_timeout(timeout, blocking)
        try:
            self.machine.keep(await self.take(timeout_s))
        except registered().LimitReached:
            return False
        return True

    async def available(self) -> int:
        """How many slots are free."""
        await asyncio.sleep(0)
        state = self.machine.one(one_step("get", self.key), CounterState)
        return max(0, self.most - state.cumulative)

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Callable[P, Coroutine[Any, Any, R]]:
        return self.slot()(function)

    async def take(self, timeout_s: float | None) -> Slot:
        """Wait for a slot, in line."""
        await asyncio.sleep(0)
        server, line, ticket = self.machine.server, self.line(), object()
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        line.append(ticket)

        def ring() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        server.watch(ring)
        try:
            while True:
                with server.lock:
                    if line[0] is ticket and (slot := self.ask()) is not None:
                        return slot
                left_s = None if deadline is None else deadline - loop.time()
                if left_s is not None and left_s <= 0:
                    raise self.reached()
                await _wait(changed, left_s)
        finally:
            server.unwatch(ring)
            line.remove(ticket)
            server.notify()


async def _wait(changed: asyncio.Event, timeout_s: float | None) -> None:
    """Wait until something has changed, or the time is up."""
    try:
        await asyncio.wait_for(changed.wait(), timeout_s)
    except asyncio.TimeoutError:
        return
    changed.clear()


def _decorated(
    function: Callable[P, Coroutine[Any, Any, R]],
    context: AsyncInMemoryHeld[StateT] | AsyncInMemoryLimitSlot,
) -> Callable[P, Coroutine[Any, Any, R]]:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{function!r} is not a coroutine function: use `async with` inside")

    @functools.wraps(function)
    async def holding(*args: P.args, **kwargs: P.kwargs) -> R:
        async with context:
            return await function(*args, **kwargs)

    return holding
