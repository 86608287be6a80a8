"""The counter for synchronous programs."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, overload

import redis

from distkit import inspection
from distkit.base import CounterBase, Options
from distkit.core import operations
from distkit.core.inspection import PrefixInfo
from distkit.core.operations import Change, Comparator, CounterState
from distkit.core.partitions import checked_partitions
from distkit.events import OnEvent
from distkit.holding.threads import Held, Limit
from distkit.partitions.threads import ThreadPartitions
from distkit.redis.script import Clock
from distkit.threads import ThreadDriver
from distkit.tracing import OnRequest

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on


class StrictInstanceAwareCounter(CounterBase):
    """A counter to which every instance contributes its own slice; the total is their sum.

    An instance that was silent for the threshold is presumed dead, and the next call on a key
    removes its slice there. If it was only silent, its own next call puts its slices back.

    One object is one instance. Threads can share it; those that wait while a request is in flight
    share the next request. In a forked child the object becomes a new instance, with a new id and
    nothing remembered. It cannot be copied or pickled. A signal handler or `__del__` that calls it
    in the middle of another call of the same thread gets a MisuseError.

    `with counter:` is the life of an instance. Inside, a thread sends a heartbeat whenever a third
    of the threshold has passed without a call. On leaving, the instance's slices are removed and
    its session is closed (R16). Failures of either are logged by the logger `distkit`.

    Every call is a heartbeat (R4), and can raise these errors besides its own:

    * InvalidKeyError: the key is not 1 to 255 bytes without `:`, or its Redis key holds something
      that is not a counter (R1).
    * NotExecutedError: Redis could not be reached; the call was not executed.
    * PartitionsError: other programs divide the prefix otherwise (R21). It was not executed.
    * OutcomeUnknownError: the call was sent and got no reply. It was executed once or not at all
      (R12).
    * redis.exceptions.ResponseError, AuthenticationError: Redis refused the call: no memory,
      read-only, no permission. It was not executed.

    When Redis has lost data, an instance puts back everything that it remembers before its next
    call is executed (R10). That takes about 50 ms for every 1,000 keys; the calls of that instance
    wait, and the log is told.

    A condition is made by `eq(n)`, `ne(n)`, `lt(n)`, `gt(n)` or `always()`, from `distkit`.

    A batch (`..._all`) is checked as a whole before anything is sent. Its steps run in the order
    given. A step that is refused changes nothing, and the others still run (R2). If any failed, the
    first error is raised, and its attribute `outcomes` has the result or error of every step, in
    order. A batch of up to 512 steps on up to 100 keys is one request, and atomic; a longer batch
    takes several requests, and so does one whose keys belong to several partitions.

    Args:
        client: a `redis.Redis` or `redis.RedisCluster` with any settings, or a fake of one. The
            counters of a client use connections of their own, made from its settings, and follow
            its retry policy; a retry never counts twice (R11).
        prefix: the namespace: 1 to 255 bytes in UTF-8 without `:`, `{` and `}` (R1).
        dead_instance_threshold_ms: how long this instance may be silent before the others presume
            it dead, in ms (R5). Instances of a prefix may have different ones.
        instance_id: the name of this instance, 1 to 255 bytes without `:`; by default a UUID4. No
            two live instances may share one. An instance that reuses an id starts from nothing
            (R10).
        reply_timeout_ms: how long to wait for a reply, in ms. After that the request is sent again
            on a new connection, as the client's retry policy allows. By default a tenth of the
            threshold, at least 1,000. A shorter `socket_timeout` of the client prevails.
        on_request: called with a `distkit.RequestReport` after every request to Redis: for traces
            and metrics.
        on_event: called with a `distkit.Event` when something happens to the instance: presumed
            dead, put back, unreachable, something owed (R20), and so on.
        clock_ms: for tests: a function that returns the server's wall clock in ms. By default,
            Redis's `TIME`.
        label: what people call this instance; Redis keeps it beside the id. At most 64 bytes in
            UTF-8 without control characters; by default `host:pid`.
        partitions: into how many partitions the prefix is divided, from 1 to 256 (R21). All
            programs that share a prefix give the same number. The partitions of a prefix spread
            over the shards of a cluster; a key belongs to one of them, and each has a session, and
            a line of callers, of its own. Requests and events are those of each partition.

    Raises:
        InvalidKeyError: prefix or instance_id is not allowed.
        TypeError: an argument has the wrong type.
        ValueError: the threshold is not from 1 to 2^53 - 1, partitions is not from 1 to 256, or the
            label is not allowed.
    """

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster,
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
        self._driver: ThreadDriver | ThreadPartitions = (
            ThreadDriver(client, prefix, options)
            if checked_partitions(partitions) == 1
            else ThreadPartitions(client, prefix, partitions, options)
        )

    def __enter__(self) -> Self:
        """Begin the instance's life. Raises RuntimeError inside its own `with` block."""
        self._driver.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._driver.stop()

    # --- One counter ------------------------------------------------------------------------------

    def inc(self, key: str, count: int = 1) -> CounterState:
        """Add `count` to this instance's slice (R9).

        Returns:
            The total and this slice, after it.

        Raises:
            CounterOverflowError: the slice or the total would leave ±(2^53 - 1) (R2).
            TypeError: count is not an int.
        """
        return self._driver.one(operations.inc_alone(key, count))

    def dec(self, key: str, count: int = 1) -> CounterState:
        """Subtract `count` from the slice, which may become negative. Otherwise as `inc`."""
        return self._driver.one((operations.dec(key, count),))

    def get(self, key: str) -> CounterState:
        """Read the total and this slice. Like every call, it removes the slices of the dead (R8).

        Raises:
            CounterOverflowError: the live slices add up to more than 2^53 - 1 (R2).
        """
        return self._driver.one((operations.get(key),))

    def set_on_instance(self, key: str, count: int) -> CounterState:
        """Set this instance's slice to `count`; the others keep theirs (R9). Otherwise as `inc`."""
        return self._driver.one((operations.set_on_instance(key, count),))

    def set(self, key: str, count: int) -> CounterState:
        """Set the total to `count`: a new epoch begins, and this instance owns all of it (R9).

        Returns:
            `(count, count)`.

        Raises:
            CounterOverflowError: count is outside ±(2^53 - 1) (R2).
            OutcomeUnknownError: also if the session was lost while the call was unanswered. It may
                have started a new epoch, and what it set may be gone already.
            TypeError: count is not an int.
        """
        return self._driver.one((operations.set(key, count),))

    def delete_on_instance(self, key: str) -> CounterState:
        """Remove this instance's slice; the others keep theirs (R9).

        Returns:
            The new total, and the slice that was removed.
        """
        return self._driver.one((operations.delete_on_instance(key),))

    def delete(self, key: str) -> CounterState:
        """Remove every instance's slice: a new epoch begins (R9).

        Returns:
            The total and this slice, as they were before.

        Raises:
            CounterOverflowError: the live slices add up to more than 2^53 - 1; `set` still works.
            OutcomeUnknownError: also if the session was lost while the call was unanswered.
        """
        return self._driver.one((operations.delete(key),))

    # --- With a condition -------------------------------------------------------------------------

    def inc_if(self, key: str, comparator: Comparator, count: int = 1) -> Change:
        """Add `count` to this instance's slice if the total meets the condition (R15).

        Returns:
            `new, old = change`: the states after and before; `change.applied`: whether it held.

        Raises:
            CounterOverflowError: the slice, or the total before or after, is outside ±(2^53 - 1).
        """
        return self._driver.one((operations.inc_if(key, comparator, count),))

    def set_if(self, key: str, comparator: Comparator, count: int) -> Change:
        """`set` if the total meets the condition (R15). Otherwise as `inc_if`."""
        return self._driver.one((operations.set_if(key, comparator, count),))

    def set_on_instance_if(self, key: str, comparator: Comparator, count: int) -> Change:
        """`set_on_instance` if this slice meets the condition (R15). Otherwise as `inc_if`."""
        return self._driver.one((operations.set_on_instance_if(key, comparator, count),))

    # --- Batches ----------------------------------------------------------------------------------

    def inc_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`inc` for each `(key, count)`, in order. Returns the list of results."""
        return self._driver.batch(operations.each_of(updates, operations.inc, "(key, count)"))

    def set_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`set` for each `(key, count)`, in order. Returns the list of results."""
        return self._driver.batch(operations.each_of(updates, operations.set, "(key, count)"))

    def set_all_on_instance(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`set_on_instance` for each `(key, count)`, in order. Returns the list of results."""
        return self._driver.batch(
            operations.each_of(updates, operations.set_on_instance, "(key, count)")
        )

    def get_all(self, keys: Iterable[str]) -> list[CounterState]:
        """`get` for each key, in order. Returns the list of results."""
        return self._driver.batch(operations.get_each(keys))

    def inc_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> list[Change]:
        """`inc_if` for each `(key, comparator, count)`, in order. Returns the list of results."""
        return self._driver.batch(
            operations.each_of(updates, operations.inc_if, operations.CONDITIONAL)
        )

    def set_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> list[Change]:
        """`set_if` for each `(key, comparator, count)`, in order. Returns the list of results."""
        return self._driver.batch(
            operations.each_of(updates, operations.set_if, operations.CONDITIONAL)
        )

    def set_all_on_instance_if(
        self, updates: Iterable[tuple[str, Comparator, int]]
    ) -> list[Change]:
        """`set_on_instance_if` for each `(key, comparator, count)`, in order. Returns the list of
        results."""
        return self._driver.batch(
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
        """`count` more inside `with counter.held("jobs") as state:` (R20). Also a decorator.

        This instance's slice of the key is set to what its holders hold. Whatever fails, it comes
        to that. Do not also count on the key: `inc`, `dec` and `set_on_instance` on it last only
        until the slice is set the next time. A holder counts in the next epoch too.

        Leaving never fails because Redis cannot be reached. What Redis could not be told is owed,
        and paid with the next request; inside the counter's `with` block that is a heartbeat at
        the latest.

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

        Use `with limit.slot():`, decorate a function with it, or call `acquire` and `release`.
        Those that wait in this process are served in order, and one request polls for all of them.
        R20 lists the cases in which more than `most` hold at once.

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

    def heartbeat(self) -> None:
        """Tell the server that this instance is alive, and nothing else (R4).

        If it had been presumed dead, all its slices are back when this returns (R10).
        """
        self._driver.heartbeat()

    def clear_on_instance(self) -> None:
        """Remove this instance's slices on every key; the other instances keep theirs.

        It is not atomic across keys: it takes a request for every 100 of them. After
        NotExecutedError or OutcomeUnknownError some slices may be left: call it again.

        Raises:
            CounterOverflowError: without one of the slices a total would leave ±(2^53 - 1) (R2).
                That slice stays; the others are removed.
        """
        self._driver.clear_on_instance()

    def clear(self) -> None:
        """Set the counters of every key to 0, each in a new epoch (R9).

        It is not atomic across keys: it takes a request for every 100 of them. A key that
        another instance creates meanwhile may stay. After NotExecutedError or OutcomeUnknownError
        some counters may be left: call it again.
        """
        self._driver.clear()

    # --- Seeing it --------------------------------------------------------------------------------

    def inspect(self, keys: Iterable[str] | None = None) -> PrefixInfo:
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
        return inspection.inspect(
            driver.client,
            driver.prefix,
            keys=keys,
            clock_ms=driver.clock_ms,
            partitions=driver.partitions,
        )
