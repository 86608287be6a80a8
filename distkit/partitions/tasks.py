"""The driver of an asyncio counter whose prefix is divided (R21)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from distkit.base import Options
from distkit.core.instance import Reply, Request
from distkit.core.operations import Step
from distkit.keys import Keyspace
from distkit.partitions.shared import Family, Partitions, begin_to_beat, is_resting, results
from distkit.tasks import TaskDriver

T = TypeVar("T")


class TaskPartition(TaskDriver):
    """The driver of one partition."""

    def __init__(self, client: Any, family: Family, space: Keyspace, options: Options) -> None:
        self._family = family
        super().__init__(client, space, options)
        self._send_unmarked = self.send
        self.send: Callable[[Request], Awaitable[Reply]] = self._send_marked

    def new_name(self) -> str:
        return self._family.name

    async def heartbeat(self) -> None:
        if begin_to_beat(self):
            await super().heartbeat()

    async def clean_up(self) -> None:
        if not is_resting(self):
            await super().clean_up()

    async def _send_marked(self, request: Request) -> Reply:
        if self._family.needs_mark(request):
            mark = self._family.mark()
            await self.transport.inquire(mark)
            self._family.see(mark)
        return await self._send_unmarked(request)


class TaskPartitions(Partitions[TaskPartition]):
    """The drivers of all partitions, as the counter uses them: as if they were one."""

    def make(self, space: Keyspace, options: Options) -> TaskPartition:
        return TaskPartition(self.client, self.family, space, options)

    # --- Life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the instance's life: send heartbeats from now on, where something is held."""
        self.begin()

    async def stop(self) -> None:
        """End it (R16), in all partitions. What goes wrong is logged."""
        self.is_alive = False
        await _all(driver.stop() for driver in self.used())

    # --- Calls -----------------------------------------------------------------------------------

    def one(self, todo: tuple[Step]) -> Awaitable[Any]:
        """Run the step; the result is to be awaited."""
        return self.at(todo[0].key).one(todo)

    async def batch(self, todo: Sequence[Step]) -> list[Any]:
        """Run the steps and return their results."""
        split = self.split(todo)
        parts = split.parts.items()
        return results(split, await _all(self.driver(n).outcomes(steps) for n, steps in parts))

    async def heartbeat(self) -> None:
        await _all(driver.heartbeat() for driver in self.used())

    async def clear_on_instance(self) -> None:
        await _all(driver.clear_on_instance() for driver in self.used())

    async def clear(self) -> None:
        await _all(driver.clear() for driver in self.every())


async def _all(jobs: Iterable[Awaitable[T]]) -> list[T]:
    """Do all of this at the same time, and return the results in order. If any fails, the first
    error is raised once all of them are done."""
    done = await asyncio.gather(*jobs, return_exceptions=True)
    results: list[T] = []
    for each in done:
        if isinstance(each, BaseException):
            raise each
        results.append(each)
    return results
