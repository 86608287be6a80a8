"""The public counter API on the model: an application's unit tests need no Redis.

`InMemoryServer` stands in for the Redis client. Counters that share one see each other; its clock
stands still until a test moves it.

    server = InMemoryServer()
    counter = InMemoryCounter(server, "my_app")
    server.advance(30_000)  # every other instance is now presumed dead

The semantics are exactly the model's, and threads may share a counter. `types.py` says which
classes the results and errors have.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Literal, TypeVar, overload

from oracle.in_memory.arguments import (
    Comparator,
    decremented,
    gets,
    one_step,
    one_step_if,
    steps_if_of,
    steps_of,
)
from oracle.in_memory.holding import InMemoryHeld, InMemoryLimit
from oracle.in_memory.partitions import Machines
from oracle.in_memory.server import InMemoryServer
from oracle.model import Change, CounterState

Self = TypeVar("Self", bound="InMemoryCounter")


class InMemoryCounter:
    """`distkit.StrictInstanceAwareCounter` without Redis.

    Args:
        server: the `InMemoryServer` that the counters of a test share.
        prefix: the counters' namespace (R1).
        dead_instance_threshold_ms: how long an instance may be silent, in ms (R5).
        instance_id: this instance's name; a UUID4 unless given.
        partitions: into how many the prefix is divided (R21).

    Raises:
        InvalidKeyError: prefix or instance_id is not 1 to 255 bytes without `:` (R1).
        TypeError: the threshold is not an int.
        ValueError: the threshold is not from 1 to 2^53 - 1, or partitions is not from 1 to 256.
    """

    def __init__(
        self,
        server: InMemoryServer,
        prefix: str,
        *,
        dead_instance_threshold_ms: int = 30_000,
        instance_id: str | None = None,
        partitions: int = 1,
    ) -> None:
        self._machines = Machines(
            server, prefix, dead_instance_threshold_ms, instance_id, partitions
        )

    @property
    def instance_id(self) -> str:
        """This instance's name."""
        return self._machines.name

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave: the slices are removed and the session is closed (R16)."""
        self._machines.leave()

    # --- One counter -----------------------------------------------------------------------------

    def inc(self, key: str, count: int = 1) -> CounterState:
        """Add `count` to this instance's slice (R9)."""
        return self._machines.one(one_step("inc", key, count), CounterState)

    def dec(self, key: str, count: int = 1) -> CounterState:
        """Take `count` from this instance's slice; it may go below 0 (R9)."""
        return self._machines.one(decremented(key, count), CounterState)

    def get(self, key: str) -> CounterState:
        """Read the total and this slice. It is a heartbeat too (R4, R9)."""
        return self._machines.one(one_step("get", key), CounterState)

    def set(self, key: str, count: int) -> CounterState:
        """Make `count` the total, all of it this instance's; the epoch moves on (R9)."""
        return self._machines.one(one_step("set", key, count), CounterState)

    def set_on_instance(self, key: str, count: int) -> CounterState:
        """Make `count` this instance's slice; the others keep theirs (R9)."""
        return self._machines.one(one_step("set_on_instance", key, count), CounterState)

    def delete(self, key: str) -> CounterState:
        """Remove every slice; the epoch moves on. Returns what was there before (R9)."""
        return self._machines.one(one_step("delete", key), CounterState)

    def delete_on_instance(self, key: str) -> CounterState:
        """Remove this instance's slice. Returns the new total, and what was removed (R9)."""
        return self._machines.one(one_step("delete_on_instance", key), CounterState)

    # --- With a condition ------------------------------------------------------------------------

    def inc_if(self, key: str, comparator: Comparator, count: int = 1) -> Change:
        """`inc`, if the total meets the condition (R15)."""
        return self._machines.one(one_step_if("inc", key, comparator, count), Change)

    def set_if(self, key: str, comparator: Comparator, count: int) -> Change:
        """`set`, if the total meets the condition (R15)."""
        return self._machines.one(one_step_if("set", key, comparator, count), Change)

    def set_on_instance_if(self, key: str, comparator: Comparator, count: int) -> Change:
        """`set_on_instance`, if this instance's slice meets the condition (R15)."""
        return self._machines.one(one_step_if("set_on_instance", key, comparator, count), Change)

    # --- Batches ---------------------------------------------------------------------------------

    def inc_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`inc` for each `(key, count)`, in order."""
        return self._machines.all(steps_of("inc", updates), CounterState)

    def set_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`set` for each `(key, count)`, in order."""
        return self._machines.all(steps_of("set", updates), CounterState)

    def set_all_on_instance(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`set_on_instance` for each `(key, count)`, in order."""
        return self._machines.all(steps_of("set_on_instance", updates), CounterState)

    def get_all(self, keys: Iterable[str]) -> list[CounterState]:
        """`get` for each key, in order."""
        return self._machines.all(gets(keys), CounterState)

    def inc_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> list[Change]:
        """`inc_if` for each `(key, comparator, count)`, in order."""
        return self._machines.all(steps_if_of("inc", updates), Change)

    def set_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> list[Change]:
        """`set_if` for each `(key, comparator, count)`, in order."""
        return self._machines.all(steps_if_of("set", updates), Change)

    def set_all_on_instance_if(
        self, updates: Iterable[tuple[str, Comparator, int]]
    ) -> list[Change]:
        """`set_on_instance_if` for each `(key, comparator, count)`, in order."""
        return self._machines.all(steps_if_of("set_on_instance", updates), Change)

    # --- Holding ---------------------------------------------------------------------------------

    @overload
    def held(self, key: str, count: int = 1) -> InMemoryHeld[CounterState]: ...
    @overload
    def held(
        self, key: str, count: int = 1, *, when_unreachable: Literal["raise", "allow"]
    ) -> InMemoryHeld[CounterState | None]: ...
    def held(
        self,
        key: str,
        count: int = 1,
        *,
        when_unreachable: Literal["raise", "allow"] = "raise",
    ) -> InMemoryHeld[CounterState] | InMemoryHeld[CounterState | None]:
        """`count` more inside `with counter.held("jobs") as state:` (R20). Also a decorator."""
        return InMemoryHeld(self._machines.at(key), key, count, when_unreachable)

    def limit(
        self,
        key: str,
        most: int,
        *,
        when_unreachable: Literal["raise", "allow", "refuse"] = "raise",
    ) -> InMemoryLimit:
        """A limit of `most` holders at once, over all instances (R20)."""
        return InMemoryLimit(self._machines.at(key), key, most, when_unreachable)

    # --- Every counter ---------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Say that this instance is alive, and look after its counters (R4, R10, R18, R20)."""
        self._machines.heartbeat()

    def clear_on_instance(self) -> None:
        """Remove this instance's slices on every key."""
        self._machines.clear_on_instance()

    def clear(self) -> None:
        """Delete every key of the prefix; the epochs move on."""
        self._machines.clear()
