"""The asyncio twin of `InMemoryCounter`: the same machine, and every call is a coroutine.

A call gives other tasks a turn before it is made, as one that goes to Redis does.
"""

from __future__ import annotations

import asyncio
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
from oracle.in_memory.holding_asyncio import AsyncInMemoryHeld, AsyncInMemoryLimit
from oracle.in_memory.partitions import Machines
from oracle.in_memory.server import InMemoryServer
from oracle.model import Change, CounterState

Self = TypeVar("Self", bound="AsyncInMemoryCounter")


class AsyncInMemoryCounter:
    """`distkit.asyncio.StrictInstanceAwareCounter` without Redis.

    Arguments, results and errors are those of `InMemoryCounter`, whose methods are documented. Both
    kinds can share a server.
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

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave: the slices are removed and the session is closed (R16)."""
        self._machines.leave()

    async def _turn(self) -> None:
        await asyncio.sleep(0)

    # --- One counter -----------------------------------------------------------------------------

    async def inc(self, key: str, count: int = 1) -> CounterState:
        await self._turn()
        return self._machines.one(one_step("inc", key, count), CounterState)

    async def dec(self, key: str, count: int = 1) -> CounterState:
        await self._turn()
        return self._machines.one(decremented(key, count), CounterState)

    async def get(self, key: str) -> CounterState:
        await self._turn()
        return self._machines.one(one_step("get", key), CounterState)

    async def set(self, key: str, count: int) -> CounterState:
        await self._turn()
        return self._machines.one(one_step("set", key, count), CounterState)

    async def set_on_instance(self, key: str, count: int) -> CounterState:
        await self._turn()
        return self._machines.one(one_step("set_on_instance", key, count), CounterState)

    async def delete(self, key: str) -> CounterState:
        await self._turn()
        return self._machines.one(one_step("delete", key), CounterState)

    async def delete_on_instance(self, key: str) -> CounterState:
        await self._turn()
        return self._machines.one(one_step("delete_on_instance", key), CounterState)

    # --- With a condition ------------------------------------------------------------------------

    async def inc_if(self, key: str, comparator: Comparator, count: int = 1) -> Change:
        await self._turn()
        return self._machines.one(one_step_if("inc", key, comparator, count), Change)

    async def set_if(self, key: str, comparator: Comparator, count: int) -> Change:
        await self._turn()
        return self._machines.one(one_step_if("set", key, comparator, count), Change)

    async def set_on_instance_if(self, key: str, comparator: Comparator, count: int) -> Change:
        await self._turn()
        return self._machines.one(one_step_if("set_on_instance", key, comparator, count), Change)

    # --- Batches ---------------------------------------------------------------------------------

    async def inc_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        await self._turn()
        return self._machines.all(steps_of("inc", updates), CounterState)

    async def set_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        await self._turn()
        return self._machines.all(steps_of("set", updates), CounterState)

    async def set_all_on_instance(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        await self._turn()
        return self._machines.all(steps_of("set_on_instance", updates), CounterState)

    async def get_all(self, keys: Iterable[str]) -> list[CounterState]:
        await self._turn()
        return self._machines.all(gets(keys), CounterState)

    async def inc_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> list[Change]:
        await self._turn()
        return self._machines.all(steps_if_of("inc", updates), Change)

    async def set_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> list[Change]:
        await self._turn()
        return self._machines.all(steps_if_of("set", updates), Change)

    async def set_all_on_instance_if(
        self, updates: Iterable[tuple[str, Comparator, int]]
    ) -> list[Change]:
        await self._turn()
        return self._machines.all(steps_if_of("set_on_instance", updates), Change)

    # --- Holding ---------------------------------------------------------------------------------

    @overload
    def held(self, key: str, count: int = 1) -> AsyncInMemoryHeld[CounterState]: ...
    @overload
    def held(
        self, key: str, count: int = 1, *, when_unreachable: Literal["raise", "allow"]
    ) -> AsyncInMemoryHeld[CounterState | None]: ...
    def held(
        self,
        key: str,
        count: int = 1,
        *,
        when_unreachable: Literal["raise", "allow"] = "raise",
    ) -> AsyncInMemoryHeld[CounterState] | AsyncInMemoryHeld[CounterState | None]:
        return AsyncInMemoryHeld(self._machines.at(key), key, count, when_unreachable)

    def limit(
        self,
        key: str,
        most: int,
        *,
        when_unreachable: Literal["raise", "allow", "refuse"] = "raise",
    ) -> AsyncInMemoryLimit:
        return AsyncInMemoryLimit(self._machines.at(key), key, most, when_unreachable)

    # --- Every counter ---------------------------------------------------------------------------

    async def heartbeat(self) -> None:
        await self._turn()
        self._machines.heartbeat()

    async def clear_on_instance(self) -> None:
        await self._turn()
        self._machines.clear_on_instance()

    async def clear(self) -> None:
        await self._turn()
        self._machines.clear()
