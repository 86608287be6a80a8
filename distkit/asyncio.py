"""The counter for asyncio programs: tasks, a transport and the session.

The rules are the session's and the script's. Callers that wait while a request is in flight share
the next one. Who comes when nobody sends, sends himself; for those who come meanwhile a task does.
Whoever is cancelled, another goes on: what is in flight is sent again, which executes it once; what
is still in line is not sent.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeAlias

import redis.asyncio

from distkit.api import SCAN_ERRORS, Batch, KnownKeys, Operations, result_of
from distkit.core.instance import Outcome
from distkit.core.operations import Change, CounterState, Step
from distkit.core.operations import set as set_step
from distkit.core.pulse import Report
from distkit.redis.asyncio import transport_for
from distkit.redis.sync import Abandoned, Clock

__all__ = ["StrictInstanceAwareCounter"]

Base: TypeAlias = Operations[
    Coroutine[Any, Any, CounterState],
    Coroutine[Any, Any, Change],
    Coroutine[Any, Any, list[CounterState]],
    Coroutine[Any, Any, list[Change]],
    Coroutine[Any, Any, None],
]


class StrictInstanceAwareCounter(Base):
    """`distkit.StrictInstanceAwareCounter`, with each call to be awaited.

    One object is one instance, in one event loop; its tasks share it. Bad input is refused by the
    call itself, before it is awaited. A call that is cancelled is executed if it had been sent, and
    never if it was still waiting for an earlier request; nobody else's is touched.

    `async with counter:` is the life of an instance: inside, a task sends a heartbeat whenever a
    third of the threshold has passed without a call; on leaving, its slices are removed and its
    session is closed (R16). What goes wrong with either is said in the log, `distkit`.

    Args:
        client: a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster` of any settings, or a fake.
        prefix, dead_instance_threshold_ms, instance_id, clock_ms: as for the synchronous counter.

    Raises:
        InvalidKeyError: prefix or instance_id is not allowed.
        TypeError: an argument of the wrong type.
        ValueError: the threshold is not positive.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis | redis.asyncio.RedisCluster,
        prefix: str,
        *,
        dead_instance_threshold_ms: int = 30_000,
        instance_id: str | None = None,
        clock_ms: Clock | None = None,
    ) -> None:
        self._transport = transport_for(client, clock_ms)
        self._client: Any = client
        super().__init__(prefix, dead_instance_threshold_ms, instance_id)
        self._driver: asyncio.Future[Any] | None = None  # a caller, or a task for all of them
        self._heart: asyncio.Task[None] | None = None

    def _reset_after_fork(self) -> None:
        super()._reset_after_fork()
        self._driver = self._heart = None

    # --- Life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> StrictInstanceAwareCounter:
        """Raises RuntimeError inside another `async with` on the same counter."""
        if self._alive:
            raise RuntimeError("this instance is alive already: an `async with` inside its own")
        self._alive = True
        self._keep_beating()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._alive = False
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.cancel()
            await asyncio.wait([heart])
        try:
            await self._leave()
        except Exception as failure:
            Report(self.instance_id).could_not_leave(failure)

    async def _leave(self) -> None:
        """R16: first the slices, for a later life of this id could not know of them."""
        try:
            if self._instance.has_opened:
                await self.clear_on_instance()
        finally:
            for failure in await self._run((), leaving=True):
                Report(self.instance_id).could_not_leave(failure)

    def _keep_beating(self) -> None:
        beating = _beat(weakref.ref(self), Report(self.instance_id), self._pulse.interval_s)
        self._heart = asyncio.get_running_loop().create_task(beating)

    # --- Calls -----------------------------------------------------------------------------------

    async def heartbeat(self) -> None:
        for failure in await self._run(()):
            result_of(failure)

    async def clear_on_instance(self) -> None:
        await self._all(self._clearing_of_this_instance())

    async def clear(self) -> None:
        keys = {*await self._known_keys(), *self._instance.memory}
        await self._all([set_step(key, 0) for key in sorted(keys)])

    async def _known_keys(self) -> set[str]:
        scan = KnownKeys(self._space)
        while not scan.done:
            try:
                scan.hear(await self._client.execute_command(*scan.command, **scan.options))
            except SCAN_ERRORS as error:
                raise scan.judged(error) from error
        return scan.found

    async def _one(self, step: Step) -> CounterState:
        state: CounterState = result_of((await self._run((step,)))[0])
        return state

    async def _one_if(self, step: Step) -> Change:
        change: Change = result_of((await self._run((step,)))[0])
        return change

    async def _all(self, todo: Sequence[Step]) -> list[CounterState]:
        batch = Batch(todo)
        for piece in batch.pieces():
            batch.outcomes += await self._run(piece)
        return batch.results()

    async def _all_if(self, todo: Sequence[Step]) -> list[Change]:
        changes: list[Any] = await self._all(todo)
        return changes

    async def _run(self, todo: Sequence[Step], leaving: bool = False) -> list[Outcome]:
        """Have the steps run; none at all is a heartbeat. Returns an outcome for each."""
        loop = asyncio.get_running_loop()
        caller = _Caller(loop=loop)
        caller.steps, caller.leaving = todo, leaving
        self._queue.join(caller)
        if self._alive and self._heart is None:
            self._keep_beating()
        driver = self._driver
        if driver is not None and not driver.done() and driver.get_loop() is loop:
            return await caller
        # Nobody drives: this caller itself does, which saves it a turn of the event loop.
        self._driver = caller
        try:
            while not caller.done():
                await self._serve_a_group()
        finally:
            caller.cancel()  # if it was cancelled on the way, nobody waits for it any more
            if self._queue.successor(caller) is not None:
                self._driver = loop.create_task(self._drive())
        return caller.result()

    async def _drive(self) -> None:
        """Send for one group after the other until nobody waits."""
        while self._queue.is_waiting:
            await self._serve_a_group()
            # Let those who were served get in line again: else every other request would be theirs
            # who had just missed one, and carry next to nothing.
            await asyncio.sleep(0)

    async def _serve_a_group(self) -> None:
        """The group that was left unfinished, or the next one."""
        session, call = self._instance, self._queue.take()
        if call is None:  # they have all been cancelled
            return
        session.begin(call)
        while not call.done:
            request = session.speak()
            try:
                session.hear(await self._transport.send(request))
                self._pulse.heard()
            except Abandoned as end:
                session.give_up(end.__cause__)
            except Exception as error:
                session.refuse(error)
        self._queue.hand_out()


class _Caller(asyncio.Future[list[Outcome]]):
    """A task in line, as the future that it waits for: cancelled with it. Keeps `Waiting`."""

    __slots__ = ("leaving", "steps")

    steps: Sequence[Step]
    leaving: bool

    def finish(self, outcomes: list[Outcome]) -> None:
        if not self.done():
            self.set_result(outcomes)


async def _beat(
    ref: weakref.ref[StrictInstanceAwareCounter], report: Report, wait_s: float
) -> None:
    """Send a heartbeat whenever nothing else was sent for a third of the threshold."""
    while True:
        await asyncio.sleep(wait_s)
        counter = ref()
        if counter is None:
            return
        pulse = counter._pulse
        if pulse.is_due():
            try:
                await counter.heartbeat()
                report.succeeded()
            except Exception as error:
                report.failed(error)
        wait_s = pulse.wait_s()
        del counter, pulse
