"""Holding for tasks: `Held`, `Limit`, and what they do with the driver.

While tasks wait for slots, one task polls for all of them.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast

from distkit.core import operations
from distkit.core.holding import Slot, Wish
from distkit.core.operations import CounterState
from distkit.holding.shared import (
    Verdict,
    WhenUnreachable,
    checked_policy,
    checked_positive,
    checked_timeout,
    is_unreachable,
    one_more,
)
from distkit.keys import checked_key
from distkit.tasks import TaskDriver

P = ParamSpec("P")
R = TypeVar("R")
StateT = TypeVar("StateT", bound=CounterState | None)


async def enter(driver: TaskDriver, key: str, count: int) -> tuple[Slot, CounterState | Exception]:
    """Hold from now on, and tell Redis. The slot counts although Redis may not know of it yet."""
    slot = driver.books.hold(key, count)
    try:
        while slot.told is None:
            await driver.run(())
    except BaseException:
        driver.books.enough(slot)
        slot.close()
        driver.drive_on(asyncio.get_running_loop())
        raise
    return slot, cast("CounterState | Exception", slot.told)


async def leave(driver: TaskDriver, slot: Slot) -> None:
    """Hold no more, and tell Redis. If that fails, it is owed."""
    books = driver.books
    if not books.release(slot) or books.is_away:
        return
    try:
        await driver.run(())
    except Exception:  # it is owed, whatever it was
        return


async def acquire(
    driver: TaskDriver, key: str, most: int, timeout_s: float | None, policy: WhenUnreachable
) -> Verdict:
    """Wait for a slot. However it ends, nothing is left behind."""
    books, loop = driver.books, asyncio.get_running_loop()
    bell = Bell(loop)
    wish = books.want(key, most, bell.ring)
    deadline = None if timeout_s is None else loop.time() + timeout_s
    try:
        if policy == "raise" or not books.is_away:
            while books.ask(wish):
                await driver.run(())
            while wish.fate is None and (left_s := _left_s(loop, deadline)) != 0:
                driver.poll()
                await bell.wait(wish, left_s)
        error = wish.fate if isinstance(wish.fate, Exception) else None
        away = books.is_away if wish.fate is None else is_unreachable(error)
        slot = books.abandon(wish, allowed=away and policy == "allow")
    except BaseException:
        owned = books.abandon(wish)
        if owned is not None:
            books.release(owned)
        driver.drive_on(loop)
        raise
    if slot is None and error is not None and not (away and policy == "refuse"):
        raise one_more(error)
    return Verdict(slot, error)


def _left_s(loop: asyncio.AbstractEventLoop, deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - loop.time())


class Bell:
    """Wakes a task that waits for a slot. Any thread and any signal handler may ring it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._rung: asyncio.Future[None] | None = None  # only if the task does wait

    async def wait(self, wish: Wish, timeout_s: float | None) -> None:
        """Wait until the bell rings, or the time is up."""
        self._rung = self._loop.create_future()
        if wish.fate is None:
            await asyncio.wait([self._rung], timeout=timeout_s)

    def ring(self) -> None:
        if self._rung is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)


class Held(Generic[StateT]):
    """One more while inside: an async context manager, and a decorator. See `counter.held`."""

    def __init__(
        self, driver: TaskDriver, key: str, count: int, when_unreachable: WhenUnreachable
    ) -> None:
        self._driver = driver
        self._key = checked_key(key)
        self._count = checked_positive(count, "count")
        self._policy = checked_policy(when_unreachable, ("raise", "allow"))
        self._slots: list[Slot] = []

    async def __aenter__(self) -> StateT:
        books, allow = self._driver.books, self._policy == "allow"
        if allow and books.is_away:
            slot = books.hold(self._key, self._count)
            books.enough(slot)
            self._slots.append(slot)
            return cast(StateT, None)
        slot, fate = await enter(self._driver, self._key, self._count)
        if isinstance(fate, Exception):
            if not (allow and is_unreachable(fate)):
                slot.close()
                raise one_more(fate)
            self._slots.append(slot)
            return cast(StateT, None)
        self._slots.append(slot)
        return cast(StateT, fate)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await leave(self._driver, self._slots.pop())

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Callable[P, Coroutine[Any, Any, R]]:
        """Hold during each call of the function."""
        return _decorated(function, self)


class LimitSlot:
    """A slot of a limit inside: an asynchronous context manager, and a decorator."""

    def __init__(self, limit: Limit, timeout_s: float | None) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._slots: list[Slot] = []

    async def __aenter__(self) -> None:
        limit = self._limit
        verdict = await limit._take(self._timeout_s)
        if verdict.slot is None:
            raise verdict.limit_reached(limit.key, limit.most)
        self._slots.append(verdict.slot)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await leave(self._limit._driver, self._slots.pop())

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Callable[P, Coroutine[Any, Any, R]]:
        """Hold a slot during each call of the function."""
        return _decorated(function, self)


class Limit:
    """At most `most` at once, over all instances (R20). See `counter.limit`.

    Attributes:
        key: the counter.
        most: how many slots there are.
    """

    def __init__(
        self, driver: TaskDriver, key: str, most: int, when_unreachable: WhenUnreachable
    ) -> None:
        self.key: str = checked_key(key)
        self.most: int = checked_positive(most, "most")
        self._driver = driver
        self._policy = checked_policy(when_unreachable, ("raise", "allow", "refuse"))

    def slot(self, *, timeout: float | None = None, blocking: bool = True) -> LimitSlot:
        """Hold a slot inside an `async with` block, or during each call of a decorated function.

        Args:
            timeout: how long to wait for a free slot, in seconds; None: for ever.
            blocking: False: do not wait at all.

        Raises:
            LimitReached: on entering: no slot was free.
            NotExecutedError, OutcomeUnknownError: Redis could not be reached, and the limit was
                made with `when_unreachable="raise"`.
        """
        return LimitSlot(self, checked_timeout(timeout, blocking))

    async def acquire(self, *, timeout: float | None = None, blocking: bool = True) -> bool:
        """Take a slot, until `release`. Prefer `slot`, which nothing can leak.

        Returns:
            Whether a slot was taken. Raises what `slot` raises, except LimitReached.
        """
        slot = (await self._take(checked_timeout(timeout, blocking))).slot
        if slot is not None:
            self._driver.books.keep(slot)
        return slot is not None

    def release(self) -> None:
        """Give back a slot that `acquire` took. This is not a coroutine: a task tells Redis.

        It never fails because Redis cannot be reached: it is owed then, and paid with the next
        request. It may be called by other threads, signal handlers, `__del__`, `weakref.finalize`
        and `atexit`.

        Raises:
            RuntimeError: none was taken.
        """
        slot = self._driver.books.take_back(self.key)
        if slot is None:
            raise RuntimeError(f"a slot of {self.key!r} was released that had not been acquired")
        if self._driver.books.release(slot):
            self._driver.drive_soon()

    async def available(self) -> int:
        """How many slots are free over all instances; 0 if more than `most` are taken."""
        state: CounterState = await self._driver.one((operations.get(self.key),))
        return max(0, self.most - state.cumulative)

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Callable[P, Coroutine[Any, Any, R]]:
        """Hold a slot during each call of the function; wait for it as long as it takes."""
        return self.slot()(function)

    async def _take(self, timeout_s: float | None) -> Verdict:
        return await acquire(self._driver, self.key, self.most, timeout_s, self._policy)


def _decorated(
    function: Callable[P, Coroutine[Any, Any, R]], context: Held[StateT] | LimitSlot
) -> Callable[P, Coroutine[Any, Any, R]]:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(
            f"{function!r} is not a coroutine function: use `async with` inside, or the counter of "
            "distkit"
        )

    @functools.wraps(function)
    async def holding(*args: P.args, **kwargs: P.kwargs) -> R:
        async with context:
            return await function(*args, **kwargs)

    return holding
