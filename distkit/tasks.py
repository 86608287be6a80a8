"""How the tasks of an event loop share an instance.

Callers that wait while a request is in flight share the next one. A caller that finds no request in
flight drives: it sends the next request itself. A task drives for the callers that arrive
meanwhile. If the one that drives is cancelled, another goes on: a request in flight is sent again,
which executes it once, and a caller that was cancelled while queued is not sent.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from typing import Any

import redis.asyncio

from distkit.base import Driver
from distkit.core.batching import Batch, result_of
from distkit.core.instance import Outcome
from distkit.core.operations import Step
from distkit.core.pulse import Report
from distkit.redis.asyncio import Transport, transport_for
from distkit.redis.shared import SCAN_ERRORS, Abandoned, Clock, KnownKeys


class TaskDriver(Driver):
    """The driver of the asyncio counter.

    Attributes:
        heart: the heartbeat task, inside `async with`.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis | redis.asyncio.RedisCluster,
        prefix: str,
        threshold_ms: int,
        instance_id: str | None,
        clock_ms: Clock | None,
    ) -> None:
        self.transport: Transport = transport_for(client, clock_ms)
        super().__init__(client, prefix, threshold_ms, instance_id)
        self.heart: asyncio.Task[None] | None = None
        self._driving: asyncio.Future[Any] | None = None  # a caller, or a task for all callers
        self._poller: asyncio.Task[None] | None = None  # while tasks wait for slots
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the last call

    def reset_after_fork(self) -> None:
        super().reset_after_fork()
        self._driving = self.heart = self._poller = self._loop = None

    # --- Life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the instance's life: send heartbeats from now on."""
        self.enter()
        self._start_heart()

    async def stop(self) -> None:
        """End it (R16). What goes wrong is logged."""
        self.is_alive = False
        heart, self.heart = self.heart, None
        if heart is not None:
            heart.cancel()
            await asyncio.wait([heart])
        try:
            await self.leave()
        except Exception as failure:
            Report(self.instance.instance_id).could_not_leave(failure)

    async def leave(self) -> None:
        """R16: remove the slices first, because a later instance of this id cannot know them."""
        self.books.forget()
        try:
            if self.instance.has_opened:
                await self.batch(self.clearing_of_this_instance())
        finally:
            for failure in await self.run((), leaving=True):
                Report(self.instance.instance_id).could_not_leave(failure)

    def _start_heart(self) -> None:
        beating = _beat(weakref.ref(self), Report(self.instance.instance_id), self.pulse.interval_s)
        self.heart = asyncio.get_running_loop().create_task(beating)

    # --- Calls -----------------------------------------------------------------------------------

    async def one(self, step: Step) -> Any:
        """Run the step and return its result."""
        return result_of((await self.run((step,)))[0])

    async def batch(self, todo: Sequence[Step]) -> list[Any]:
        """Run the steps and return their results."""
        batch = Batch(todo)
        for piece in batch.pieces():
            batch.outcomes += await self.run(piece)
        return batch.results()

    async def heartbeat(self) -> None:
        for failure in await self.run(()):
            result_of(failure)

    async def known_keys(self) -> set[str]:
        """The keys of every counter of the prefix."""
        scan = KnownKeys(self.space)
        while not scan.done:
            try:
                scan.hear(await self.client.execute_command(*scan.command, **scan.options))
            except SCAN_ERRORS as error:
                raise scan.judged(error) from error
        return scan.found

    async def run(self, todo: Sequence[Step], leaving: bool = False) -> list[Outcome]:
        """Run the steps of one request; none at all are a heartbeat. Returns their outcomes."""
        self._loop = loop = asyncio.get_running_loop()
        caller = _Caller(loop=loop)
        caller.steps, caller.leaving = todo, leaving
        self.queue.join(caller)
        if self.is_alive and self.heart is None:
            self._start_heart()
        driving = self._driving
        if driving is not None and not driving.done() and driving.get_loop() is loop:
            return await caller
        # Nobody drives. This caller does it itself, which saves a turn of the event loop.
        self._driving = caller
        try:
            while not caller.done():
                await self._serve_a_group()
        finally:
            caller.cancel()  # if it was cancelled meanwhile, nobody waits for it any more
            self._driving = None
            self.drive_on(loop, somebody_waits=self.queue.successor(caller) is not None)
        return caller.result()

    def drive_on(self, loop: asyncio.AbstractEventLoop, somebody_waits: bool = False) -> None:
        """Have a task send what is left to send, unless somebody drives already."""
        driving = self._driving
        if driving is not None and not driving.done() and driving.get_loop() is loop:
            return
        if somebody_waits or self.books.is_owed:
            self._driving = loop.create_task(self._drive())

    # --- Driving ---------------------------------------------------------------------------------

    def drive_soon(self) -> None:
        """`drive_on` in the loop of the last call, from any thread or signal handler."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.drive_on, self._loop)

    def poll(self) -> None:
        """Have a task poll for those that wait for slots, unless one does."""
        loop = asyncio.get_running_loop()
        if self._poller is None or self._poller.done() or self._poller.get_loop() is not loop:
            self._poller = loop.create_task(self._poll())

    async def _poll(self) -> None:
        while self.books.first_waiting() is not None:
            await asyncio.sleep(self.books.poll_in_s())
            await self.run(())

    async def _drive(self) -> None:
        """Send for one group after the other until nobody waits."""
        while self.queue.is_busy or self.books.is_owed:
            if not await self._serve_a_group():
                return
            # Let the callers that were just served queue again. Otherwise every second request
            # would carry only the few that had just missed one.
            await asyncio.sleep(0)

    async def _serve_a_group(self) -> bool:
        """Send for the group that was left unfinished, or for the next one. Returns whether there
        was one."""
        instance, call = self.instance, self.queue.take()
        if call is None:  # every caller was cancelled
            return False
        instance.begin(call)
        while not call.done:
            request = instance.speak()
            try:
                instance.hear(await self.transport.send(request))
                self.pulse.heard()
            except Abandoned as end:
                instance.give_up(end.__cause__)
            except Exception as error:
                instance.refuse(error)
        self.queue.hand_out()
        return True


class _Caller(asyncio.Future[list[Outcome]]):
    """A task that waits for its steps: the future that it awaits, and is cancelled with. A
    `batching.Caller`."""

    __slots__ = ("leaving", "steps")

    steps: Sequence[Step]
    leaving: bool

    def finish(self, outcomes: list[Outcome]) -> None:
        if not self.done():
            self.set_result(outcomes)


async def _beat(ref: weakref.ref[TaskDriver], report: Report, wait_s: float) -> None:
    """Send a heartbeat whenever a third of the threshold has passed without a request.

    The driver is held weakly: the task ends when the program forgets the counter.
    """
    while True:
        await asyncio.sleep(wait_s)
        driver = ref()
        if driver is None:
            return
        if driver.pulse.is_due():
            try:
                await driver.heartbeat()
                report.succeeded()
            except Exception as error:
                report.failed(error)
        wait_s = driver.pulse.wait_s()
        del driver
