"""The counter for asyncio programs."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, overload

import redis.asyncio

from distkit import inspection
from distkit.base import CounterBase, Options
from distkit.core import operations
from distkit.core.inspection import PrefixInfo
from distkit.core.operations import Change, Comparator, CounterState
from distkit.core.partitions import checked_partitions
from distkit.events import OnEvent
from distkit.holding.tasks import Held, Limit
from distkit.partitions.tasks import TaskPartitions
from distkit.redis.script import Clock
from distkit.tasks import TaskDriver
from distkit.tracing import OnRequest

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

__all__ = ["StrictInstanceAwareCounter"]


class StrictInstanceAwareCounter(CounterBase):
    """`distkit.StrictInstanceAwareCounter` for asyncio: every call is a coroutine.

    One object is one instance. Tasks can share it; those that wait while a request is in flight
    share the next request. It can move to another event loop once the last one has stopped. It
    cannot be copied or pickled.

    Errors in the arguments are raised by the `await`, like all others, and before anything is sent.
    Calls raise the same errors as the synchronous counter's, and batches follow the same rules.

    A cancelled call is executed if it had been sent already, and never if it was still waiting for
    an earlier request. No other call is affected.

    `async with counter:` is the life of an instance. Inside, a task sends a heartbeat whenever a
    third of the threshold has passed without a call. On leaving, the instance's slices are removed
    and its session is closed (R16). Failures of either are logged by the logger `distkit`.

    Args:
        client: a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster` with any settings, or a
            fake of one.
        prefix: the namespace. It and all others are as for the synchronous counter.

    Raises:
        InvalidKeyError: prefix or instance_id is not allowed.
        TypeError: an argument has the wrong type.
        ValueError: the threshold is not from 1 to 2^53 - 1, partitions is not from 1 to 256, or the
            label is not allowed.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis | redis.asyncio.RedisCluster,
        prefix: str,
        *,
        dead_instance_threshold_ms: int = 30_000,
        instance_id: str | None = None,
        reply_timeout_ms: int | None = None,
        on_request: OnRequest | None = None,
        on_event: OnEvent | None = None,
        clock_ms: Clock | None = None,
        label: str | None = None,
        partitions: int = 1,
    ) -> None:
        options = Options(
            dead_instance_threshold_ms,
            instance_id,
            reply_timeout_ms,
            on_request,
            on_event,
            clock_ms,
            label,
        )
        self._driver: TaskDriver | TaskPartitions = (
            TaskDriver(client, prefix, options)
            if checked_partitions(partitions) == 1
            else TaskPartitions(client, prefix, partitions, options)
        )

    async def __aenter__(self) -> Self:
        """Begin the instance's life. Raises RuntimeError inside its own `async with` block."""
        self._driver.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._driver.stop()

    # --- One counter ------------------------------------------------------------------------------

    async def inc(self, key: str, count: int = 1) -> CounterState:
        """Add `count` to this instance's slice (R9).

        Returns:
            The total and this slice, after it.

        Raises:
            CounterOverflowError: the slice or the total would leave ±(2^53 - 1) (R2).
            TypeError: count is not an int.
        """
        return await self._driver.one(operations.inc_alone(key, count))

    async def dec(self, key: str, count: int = 1) -> CounterState:
        """Subtract `count` from the slice, which may become negative. Otherwise as `inc`."""
        return await self._driver.one((operations.dec(key, count),))

    async def get(self, key: str) -> CounterState:
        """Read the total and this slice. Like every call, it removes the slices of the dead (R8).

        Raises:
            CounterOverflowError: the live slices add up to more than 2^53 - 1 (R2).
        """
        return await self._driver.one((operations.get(key),))

    async def set_on_instance(self, key: str, count: int) -> CounterState:
        """Set this instance's slice to `count`; the others keep theirs (R9). Otherwise as `inc`."""
        return await self._driver.one((operations.set_on_instance(key, count),))

    async def set(self, key: str, count: int) -> CounterState:
        """Set the total to `count`: a new epoch begins, and this instance owns all of it (R9).

        Returns:
            `(count, count)`.

        Raises:
            CounterOverflowError: count is outside ±(2^53 - 1) (R2).
            OutcomeUnknownError: also if the session was lost while the call was unanswered. It may
                have started a new epoch, and what it set may be gone already.
            TypeError: count is not an int.
        """
        return await self._driver.one((operations.set(key, count),))

    async def delete_on_instance(self, key: str) -> CounterState:
        """Remove this instance's slice; the others keep theirs (R9).

        Returns:
            The new total, and the slice that was removed.
        """
        return await self._driver.one((operations.delete_on_instance(key),))

    async def delete(self, key: str) -> CounterState:
        """Remove every instance's slice: a new epoch begins (R9).

        Returns:
            The total and this slice, as they were before.

        Raises:
            CounterOverflowError: the live slices add up to more than 2^53 - 1; `set` still works.
            OutcomeUnknownError: also if the session was lost while the call was unanswered.
        """
        return await self._driver.one((operations.delete(key),))

    # --- With a condition -------------------------------------------------------------------------

    async def inc_if(self, key: str, comparator: Comparator, count: int = 1) -> Change:
        """Add `count` to this instance's slice if the total meets the condition (R15).

        Returns:
            `new, old = change`: the states after and before; `change.applied`: whether it held.

        Raises:
            CounterOverflowError: the slice, or the total before or after, is outside ±(2^53 - 1).
        """
        return await self._driver.one((operations.inc_if(key, comparator, count),))

    async def set_if(self, key: str, comparator: Comparator, count: int) -> Change:
        """`set` if the total meets the condition (R15). Otherwise as `inc_if`."""
        return await self._driver.one((operations.set_if(key, comparator, count),))

    async def set_on_instance_if(self, key: str, comparator: Comparator, count: int) -> Change:
        """`set_on_instance` if this slice meets the condition (R15). Otherwise as `inc_if`."""
        return await self._driver.one((operations.set_on_instance_if(key, comparator, count),))

    # --- Batches ----------------------------------------------------------------------------------

    async def inc_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`inc` for each `(key, count)`, in order. Returns the list of results."""
        return await self._driver.batch(operations.each_of(updates, operations.inc, "(key, count)"))

    async def set_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`set` for each `(key, count)`, in order. Returns the list of results."""
        return await self._driver.batch(operations.each_of(updates, operations.set, "(key, count)"))

    async def set_all_on_instance(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`set_on_instance` for each `(key, count)`, in order. Returns the list of results."""
        return await self._driver.batch(
            operations.each_of(updates, operations.set_on_instance, "(key, count)")
        )

    async def get_all(self, keys: Iterable[str]) -> list[CounterState]:
        """`get` for each key, in order. Returns the list of results."""
        return await self._driver.batch(operations.get_each(keys))

    async def inc_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> list[Change]:
        """`inc_if` for each `(key, comparator, count)`, in order. Returns the list of results."""
        return await self._driver.batch(
            operations.each_of(updates, operations.inc_if, operations.CONDITIONAL)
        )

    async def set_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> list[Change]:
        """`set_if` for each `(key, comparator, count)`, in order. Returns the list of results."""
        return await self._driver.batch(
            operations.each_of(updates, operations.set_if, operations.CONDITIONAL)
        )

    async def set_all_on_instance_if(
        self, updates: Iterable[tuple[str, Comparator, int]]
    ) -> list[Change]:
        """`set_on_instance_if` for each `(key, comparator, count)`, in order. Returns the list of
        results."""
        return await self._driver.batch(
            operations.each_of(updates, operations.set_on_instance_if, operations.CONDITIONAL)
        )

    # --- Holding ----------------------------------------------------------------------------------

    @overload
    def held(self, key: str, count: int = 1) -> Held[CounterState]: ...
    @overload
    def held(
        self, key: str, count: int = 1, *, when_unreachable: Literal["raise", "allow"]
    ) -> Held[CounterState | None]: ...
    def held(
        self,
        key: str,
        count: int = 1,
        *,
        when_unreachable: Literal["raise", "allow"] = "raise",
    ) -> Held[CounterState] | Held[CounterState | None]:
        """`count` more inside `async with counter.held("jobs") as state:` (R20). Also a decorator.

        This instance's slice of the key is set to what its holders hold. Whatever fails, it comes
        to that. Do not also count on the key: `inc`, `dec` and `set_on_instance` on it last only
        until the slice is set the next time. A holder counts in the next epoch too.

        Leaving never fails because Redis cannot be reached. What Redis could not be told is owed,
        and paid with the next request; inside the counter's `async with` block that is a heartbeat
        at the latest.

        Args:
            key: the counter.
            count: how much is held, at least 1.
            when_unreachable: "raise": entering raises if Redis cannot be reached, and nothing is
                held. "allow": it holds, and Redis is told later.

        Returns:
            A context manager, which can be entered any number of times. It returns the state after
            entering; None if Redis could not be reached, and that was allowed.

        Raises:
            CounterOverflowError: on entering: more than 2^53 - 1 would be held (R2).
        """
        return Held(self._driver.at(key), key, count, when_unreachable)

    def limit(
        self,
        key: str,
        most: int,
        *,
        when_unreachable: Literal["raise", "allow", "refuse"] = "raise",
    ) -> Limit:
        """A limit of `most` holders at once, over all instances (R20).

        Use `async with limit.slot():`, decorate a function with it, or call `acquire` and
        `release`. Those that wait in this process are served in order, and one request polls for
        all of them. R20 lists the cases in which more than `most` hold at once.

        Args:
            key: the counter. Its total is what is limited: also what others count on it.
            most: how many slots there are, at least 1.
            when_unreachable: what becomes of those that ask for a slot while Redis cannot be
                reached. "raise": they get NotExecutedError or OutcomeUnknownError, and hold
                nothing. "allow": they hold, and the limit may be exceeded. "refuse": there is no
                slot for them: LimitReached.
        """
        return Limit(self._driver.at(key), key, most, when_unreachable)

    # --- Every counter ----------------------------------------------------------------------------

    async def heartbeat(self) -> None:
        """Tell the server that this instance is alive, and nothing else (R4).

        If it had been presumed dead, all its slices are back when this returns (R10).
        """
        await self._driver.heartbeat()

    async def clear_on_instance(self) -> None:
        """Remove this instance's slices on every key; the other instances keep theirs.

        It is not atomic across keys: it takes a request for every 100 of them. After
        NotExecutedError or OutcomeUnknownError some slices may be left: call it again.

        Raises:
            CounterOverflowError: without one of the slices a total would leave ±(2^53 - 1) (R2).
                That slice stays; the others are removed.
        """
        await self._driver.clear_on_instance()

    async def clear(self) -> None:
        """Set the counters of every key to 0, each in a new epoch (R9).

        It is not atomic across keys: it takes a request for every 100 of them. A key that
        another instance creates meanwhile may stay. After NotExecutedError or OutcomeUnknownError
        some counters may be left: call it again.
        """
        await self._driver.clear()

    # --- Seeing it --------------------------------------------------------------------------------

    async def inspect(self, keys: Iterable[str] | None = None) -> PrefixInfo:
        """Read what Redis holds of the prefix: instances, counters, slices, tombstones.

        It is no heartbeat and removes nothing. `distkit.inspection` has the same for programs
        without a counter, page by page, and says what the results are.

        Args:
            keys: only these counters; by default all that are listed.

        Raises:
            InvalidKeyError: a key is not allowed, or the Redis keys of the prefix hold something
                else.
            LayoutError: the prefix has another layout.
            redis.exceptions.RedisError: as the client raises it.
        """
        driver = self._driver
        return await inspection.inspect_async(
            driver.client,
            driver.prefix,
            keys=keys,
            clock_ms=driver.clock_ms,
            partitions=driver.partitions,
        )
