"""Holding for threads: `Held`, `Limit`, and what they do with the driver.

Of the threads that wait for slots, the one that has waited longest polls for all of them. The
others sleep until they are handed a slot, or have to poll themselves.
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar, cast

from distkit.core import operations
from distkit.core.holding import Slot
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
from distkit.threads import ThreadDriver

P = ParamSpec("P")
R = TypeVar("R")
StateT = TypeVar("StateT", bound=CounterState | None)

BACKSTOP_S = 1.0
"""A thread that does not poll looks this often whether somebody does: a Ctrl-C can end a poller."""


def enter(driver: ThreadDriver, key: str, count: int) -> tuple[Slot, CounterState | Exception]:
    """Hold from now on, and tell Redis. The slot counts although Redis may not know of it yet."""
    slot = driver.books.hold(key, count)
    try:
        while slot.told is None:
            driver.run(())
    except BaseException:
        driver.books.enough(slot)
        slot.close()
        raise
    return slot, cast("CounterState | Exception", slot.told)


def leave(driver: ThreadDriver, slot: Slot) -> None:
    """Hold no more, and tell Redis. If that fails, or is impossible here and now, it is owed."""
    books = driver.books
    if not books.release(slot) or books.is_away or driver.is_inside:
        return
    try:
        driver.run(())
    except Exception:  # it is owed, whatever it was
        return


class Waiter:
    """A thread that wants a slot."""

    def __init__(self, driver: ThreadDriver, key: str, most: int) -> None:
        self._driver = driver
        self._books = driver.books
        self._gate = threading.Lock()
        self._gate.acquire()
        self._wish = self._books.want(key, most, self._open_gate)

    def acquire(self, timeout_s: float | None, policy: WhenUnreachable) -> Verdict:
        """Wait for a slot. However it ends, nothing is left behind."""
        wish, books = self._wish, self._books
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            if policy == "raise" or not books.is_away:
                while books.ask(wish):
                    self._driver.run(())
                self._wait(deadline)
            error = wish.fate if isinstance(wish.fate, Exception) else None
            away = books.is_away if wish.fate is None else is_unreachable(error)
            slot = books.abandon(wish, allowed=away and policy == "allow")
        except BaseException:
            owned = books.abandon(wish)
            if owned is not None:
                books.release(owned)
            raise
        finally:
            self._pass_on()
        if slot is None and error is not None and not (away and policy == "refuse"):
            raise one_more(error)
        return Verdict(slot, error)

    def _wait(self, deadline: float | None) -> None:
        """Sleep until it is decided or the time is up; poll if it is this thread's turn."""
        wish, books = self._wish, self._books
        while wish.fate is None:
            left_s = threading.TIMEOUT_MAX if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return
            late_s = 0.0 if books.first_waiting() is wish else BACKSTOP_S
            if self._gate.acquire(timeout=min(left_s, books.poll_in_s(late_s))):
                continue
            if wish.fate is None and books.poll_in_s(late_s) == 0:
                self._driver.run(())

    def _pass_on(self) -> None:
        """Whoever has waited longest now has to poll."""
        first = self._books.first_waiting()
        if first is not None:
            first.wake()

    def _open_gate(self) -> None:
        """Let the thread look again. Signal handlers do this too: no lock is waited for."""
        try:
            self._gate.release()
        except RuntimeError:  # it is open
            return


class Held(Generic[StateT]):
    """One more while inside: a context manager, and a decorator. See `counter.held`."""

    def __init__(
        self, driver: ThreadDriver, key: str, count: int, when_unreachable: WhenUnreachable
    ) -> None:
        self._driver = driver
        self._key = checked_key(key)
        self._count = checked_positive(count, "count")
        self._policy = checked_policy(when_unreachable, ("raise", "allow"))
        self._slots: list[Slot] = []

    def __enter__(self) -> StateT:
        books, allow = self._driver.books, self._policy == "allow"
        if allow and books.is_away:
            slot = books.hold(self._key, self._count)
            books.enough(slot)
            self._slots.append(slot)
            return cast(StateT, None)
        slot, fate = enter(self._driver, self._key, self._count)
        if isinstance(fate, Exception):
            if not (allow and is_unreachable(fate)):
                slot.close()
                raise one_more(fate)
            self._slots.append(slot)
            return cast(StateT, None)
        self._slots.append(slot)
        return cast(StateT, fate)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leave(self._driver, self._slots.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Hold during each call of the function."""
        return _decorated(function, self)


class LimitSlot:
    """A slot of a limit inside: a context manager, and a decorator. See `Limit.slot`."""

    def __init__(self, limit: Limit, timeout_s: float | None) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._slots: list[Slot] = []

    def __enter__(self) -> None:
        limit = self._limit
        verdict = limit._take(self._timeout_s)
        if verdict.slot is None:
            raise verdict.limit_reached(limit.key, limit.most)
        self._slots.append(verdict.slot)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leave(self._limit._driver, self._slots.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Hold a slot during each call of the function."""
        return _decorated(function, self)


class Limit:
    """At most `most` at once, over all instances (R20). See `counter.limit`.

    Attributes:
        key: the counter.
        most: how many slots there are.
    """

    def __init__(
        self, driver: ThreadDriver, key: str, most: int, when_unreachable: WhenUnreachable
    ) -> None:
        self.key: str = checked_key(key)
        self.most: int = checked_positive(most, "most")
        self._driver = driver
        self._policy = checked_policy(when_unreachable, ("raise", "allow", "refuse"))

    def slot(self, *, timeout: float | None = None, blocking: bool = True) -> LimitSlot:
        """Hold a slot inside a `with` block, or during each call of a decorated function.

        Args:
            timeout: how long to wait for a free slot, in seconds; None: for ever.
            blocking: False: do not wait at all.

        Raises:
            LimitReached: on entering: no slot was free.
            NotExecutedError, OutcomeUnknownError: Redis could not be reached, and the limit was
                made with `when_unreachable="raise"`.
        """
        return LimitSlot(self, checked_timeout(timeout, blocking))

    def acquire(self, *, timeout: float | None = None, blocking: bool = True) -> bool:
        """Take a slot, until `release`. Prefer `slot`, which nothing can leak.

        Returns:
            Whether a slot was taken. Raises what `slot` raises, except LimitReached.
        """
        slot = self._take(checked_timeout(timeout, blocking)).slot
        if slot is not None:
            self._driver.books.keep(slot)
        return slot is not None

    def release(self) -> None:
        """Give back a slot that `acquire` took, from this or another thread.

        It never fails because Redis cannot be reached: it is owed then, and paid with the next
        request. It may be called by signal handlers, `__del__`, `weakref.finalize` and `atexit`.

        Raises:
            RuntimeError: none was taken.
        """
        slot = self._driver.books.take_back(self.key)
        if slot is None:
            raise RuntimeError(f"a slot of {self.key!r} was released that had not been acquired")
        leave(self._driver, slot)

    def available(self) -> int:
        """How many slots are free over all instances; 0 if more than `most` are taken."""
        state: CounterState = self._driver.one((operations.get(self.key),))
        return max(0, self.most - state.cumulative)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Hold a slot during each call of the function; wait for it as long as it takes."""
        return self.slot()(function)

    def _take(self, timeout_s: float | None) -> Verdict:
        return Waiter(self._driver, self.key, self.most).acquire(timeout_s, self._policy)


def _decorated(function: Callable[P, R], context: Held[StateT] | LimitSlot) -> Callable[P, R]:
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise TypeError(
            f"{function!r} only makes a coroutine or a generator when it is called, and would hold "
            "nothing while that runs: use `with` inside, or the counter of distkit.asyncio"
        )

    @functools.wraps(function)
    def holding(*args: P.args, **kwargs: P.kwargs) -> R:
        with context:
            return function(*args, **kwargs)

    return holding
