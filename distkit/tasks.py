"""How the tasks of an event loop share an instance.

Callers that wait while a request is in flight share the next one. A caller that finds no request in
flight drives: it sends the next request itself. A task drives for the callers that arrive
meanwhile. If the one that drives is cancelled, another goes on: a request in flight is sent again,
which executes it once, and a caller that was cancelled while queued is not sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Sequence
from threading import get_ident
from typing import Any, Final

import redis.asyncio

from distkit.base import LONG_SWEEP, LONG_SWEEPS, NOTHING, SWEEP, Driver, Options, not_scanned
from distkit.core import operations
from distkit.core.batching import Batch, result_of, results_of
from distkit.core.instance import Kind, Outcome, Reply, Request
from distkit.core.operations import Change, CounterState, Step
from distkit.core.pulse import Report
from distkit.errors import InvalidKeyError, MisuseError
from distkit.keys import Keyspace
from distkit.redis.asyncio import Transport, transport_for
from distkit.redis.meaning import Abandoned
from distkit.redis.script import Scan
from distkit.tracing import checked_hook, observed_async

STEPS: Final = Kind.STEPS

RESULTS: Final[frozenset[type]] = frozenset({CounterState, Change})
"""The outcomes that are no errors."""

LOOKS_EVERY_S: Final = 0.05
"""How often to look whether anybody waits for the request in flight."""


class TaskDriver(Driver):
    """The driver of the asyncio counter.

    Attributes:
        send: sends one request and returns its reply; tests replace it.
        heart: the heartbeat task, inside `async with`.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis | redis.asyncio.RedisCluster,
        prefix: str | Keyspace,
        options: Options,
    ) -> None:
        super().__init__(client, prefix, options)
        self.transport: Transport = transport_for(client, options.wall(), options.deadline())
        self.send: Callable[[Request], Awaitable[Reply]] = observed_async(
            self.transport.send, checked_hook(options.on_request)
        )
        self.heart: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0  # where the loop runs
        self._looking: asyncio.TimerHandle | None = None
        self._driving: asyncio.Future[Any] | None = None  # a caller, or a task for all callers
        self._poller: asyncio.Task[None] | None = None  # while tasks wait for slots

    def reset_after_fork(self) -> None:
        super().reset_after_fork()
        self._driving = self.heart = self._poller = self._loop = self._looking = None

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
            self.observer.left(self.instance, None)
        except Exception as failure:
            self.report.could_not_leave(failure)
            self.observer.left(self.instance, failure)
        finally:
            self.instance.promise_ms = 0

    async def leave(self) -> None:
        """R16: drop the slices and close the session."""
        self.books.forget()
        for failure in await self.run((), Kind.LEAVE):
            result_of(failure)

    def _start_heart(self) -> None:
        beating = _beat(weakref.ref(self), Report(self.instance.instance_id), self.pulse.interval_s)
        self.heart = asyncio.get_running_loop().create_task(beating)

    # --- Calls -----------------------------------------------------------------------------------

    def one(self, todo: tuple[Step]) -> Awaitable[Any]:
        """Run the step; the result is to be awaited.

        Where a request is in flight already, that is the caller itself, with no coroutine between.
        """
        driving, loop = self._driving, self._loop
        if (
            driving is None
            or driving.done()
            # The loop that was used last runs, in this thread: so it is the one that runs here. (To
            # ask for the running loop takes a system call until Python 3.12.)
            or loop is None
            or not loop.is_running()
            or get_ident() != self._thread
            or (self.is_alive and self.heart is None)
        ):
            return self._run(todo)
        caller = loop.create_future()
        self.queue.waiting.append((todo, caller, STEPS))
        return caller

    async def batch(self, todo: Sequence[Step]) -> list[Any]:
        """Run the steps and return their results."""
        return results_of(await self.outcomes(todo))

    async def outcomes(self, todo: Sequence[Step]) -> list[Outcome]:
        """Run the steps, in as many requests as they need, and return what became of each."""
        batch = Batch(todo)
        for piece in batch.pieces():
            batch.outcomes += await self.run(piece)
        return batch.outcomes

    async def clear_on_instance(self) -> None:
        """R9: a step for every key of which this instance may have a slice."""
        # Also where 0 is remembered: an unanswered call may have left something there. A copy of
        # the memory, because another thread may be counting.
        keys = sorted(self.instance.memory.copy())
        await self.batch([operations.set_on_instance(key, 0) for key in keys])

    async def clear(self) -> None:
        """R9: a step for every key that Redis knows or this instance remembers."""
        known = await self.known_keys()
        keys = sorted({*known, *list(self.instance.memory)})
        await self.batch([operations.set(key, 0) for key in keys])

    async def heartbeat(self) -> None:
        for failure in await self.run((), Kind.BEAT):
            result_of(failure)

    async def clean_up(self) -> None:
        """R18: look at some counters that this instance does not remember, so that what crashed
        instances left goes. While it finds such counters, it goes on."""
        most = SWEEP
        for _ in range(LONG_SWEEPS):
            if not self.sweep.found:
                self.sweep.at_once = most
                await self._scan(self.sweep)
            looks = self.unknown_counters(most)
            if looks and NOTHING in await self.run(looks, Kind.LOOKS):
                most = LONG_SWEEP
            elif looks or self.sweep.done or most == SWEEP:
                return  # a scan of a hash that has shrunk may find nothing, and is not at its end

    async def known_keys(self) -> set[str]:
        """The keys of every counter of the prefix."""
        scan = Scan(self.space)
        try:
            while not scan.done:
                await self._scan(scan)
        except InvalidKeyError:
            await self.heartbeat()  # a better error, if all of the prefix has another layout
            raise
        return scan.found

    async def _scan(self, scan: Scan) -> None:
        try:
            await self.transport.inquire(scan)
        except Abandoned as end:
            raise not_scanned(end) from end.__cause__

    async def run(self, todo: Sequence[Step], kind: Kind = Kind.STEPS) -> list[Outcome]:
        """Run the steps of one request. Returns their outcomes; of a heartbeat, its error."""
        try:
            result = await self._run(todo, kind)
        except Exception as error:
            if len(todo) != 1:
                raise
            return [error]
        return [result] if len(todo) == 1 else result

    async def _run(self, todo: Sequence[Step], kind: Kind = Kind.STEPS) -> Any:
        """Run the steps. Returns the result of a single one, or else the list of outcomes."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        caller: asyncio.Future[Any] = loop.create_future()
        self.queue.waiting.append((todo, caller, kind))
        if self.is_alive and self.heart is None:
            self._start_heart()
        driving = self._driving
        if driving is not None and not driving.done() and driving.get_loop() is loop:
            return await caller
        # Nobody drives. This caller does it itself, which saves a turn of the event loop.
        self._driving = caller
        try:
            while not caller.done():
                await self._serve_a_group(loop, caller)
        finally:
            if loop.is_running():
                caller.cancel()  # if it was cancelled meanwhile, nobody waits for it any more
                self._go_on(loop, caller)
        return caller.result()

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on the counter is used in this event loop. What the old one left in flight is
        sent again; callers that waited in a loop that is closed now are forgotten."""
        old = self._loop
        if old is not None and old.is_running():
            raise MisuseError(
                "this counter is in use in another event loop, which is still running: create one "
                "counter for each event loop. Nothing was sent"
            )
        if old is not None:
            self.queue.forget(lambda caller: caller.get_loop().is_closed())
            self._driving = self.heart = self._looking = None
        self._loop, self._thread = loop, get_ident()

    def _look(self) -> None:
        """If nobody waits for the request in flight any more, stop waiting for its reply. It stays
        in flight: whoever comes next sends it again, on a connection that may be better.

        A timer looks for that, because to be told of every cancellation would slow down all calls.
        """
        self._looking = None
        driving = self._driving
        if isinstance(driving, asyncio.Task) and not driving.done():
            if self.queue.is_abandoned:
                driving.cancel()
            else:
                self._look_later(driving.get_loop())

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._looking is None:
            self._looking = loop.call_later(LOOKS_EVERY_S, self._look)

    # --- Driving ---------------------------------------------------------------------------------

    def _go_on(self, loop: asyncio.AbstractEventLoop, stops: asyncio.Future[Any] | None) -> None:
        """The one that drives stops: a task drives for those that still wait, and for what is owed
        (R20)."""
        if self.queue.successor(stops) is not None or self.books.is_owed:
            self._driving = loop.create_task(self._drive(loop))
            self._look_later(loop)

    def drive_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a task send what is owed, unless somebody drives already."""
        driving = self._driving
        if driving is None or driving.done() or driving.get_loop() is not loop:
            self._go_on(loop, None)

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

    async def _drive(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send for one group after the other until nobody waits."""
        try:
            while self.queue.is_busy or self.books.is_owed:
                await self._serve_a_group(loop)
                # Let the callers that were just served queue again. Otherwise every second request
                # would carry only the few that had just missed one.
                await asyncio.sleep(0)
        finally:
            if loop.is_running():
                self._go_on(loop, None)  # it was cancelled

    async def _serve_a_group(
        self, loop: asyncio.AbstractEventLoop, leader: asyncio.Future[Any] | None = None
    ) -> None:
        """Send for the group that was left unfinished, or for the next one."""
        instance, call = self.instance, self.queue.take(leader)
        if call is None:  # every caller was cancelled
            return
        instance.begin(call)
        while not call.done:
            request = instance.speak()
            try:
                instance.hear(await self.send(request))
                self.heard(request)
            except Exception as error:
                if not loop.is_running():
                    # The loop ended, and this coroutine is being closed: the error is redis-py's
                    # attempt to await something. By now another loop may be driving, so the request
                    # stays in flight.
                    raise GeneratorExit from error
                self.conclude(request, error)
        self.hand_out(_Desk)


class _Desk:
    """A `batching.Desk`. A caller is the future that its task awaits. Its result is that of its
    only step, or the list of its outcomes. (It is asyncio's own future: a task that awaits another
    class takes much longer to wake.)"""

    @staticmethod
    def deal(callers: Sequence[asyncio.Future[Any]], outcomes: list[Outcome]) -> None:
        if not RESULTS.issuperset(map(type, outcomes)) or not callers[0].get_loop().is_running():
            for caller, outcome in zip(callers, outcomes, strict=True):
                _settle(caller, outcome)
            return
        for caller, outcome in zip(callers, outcomes, strict=True):
            if not caller.done():
                caller.set_result(outcome)

    @staticmethod
    def finish(caller: asyncio.Future[Any], steps: Sequence[Step], outcomes: list[Outcome]) -> None:
        if len(steps) == 1:
            _settle(caller, outcomes[0])
        elif not caller.done():
            with contextlib.suppress(RuntimeError):  # its event loop is closed
                caller.set_result(outcomes)


def _settle(caller: asyncio.Future[Any], outcome: Outcome) -> None:
    """Give the awaiting task the result of its only step, or have it raise the error."""
    if not caller.done():
        with contextlib.suppress(RuntimeError):  # its event loop is closed
            if isinstance(outcome, Exception):
                caller.set_exception(outcome)
            else:
                caller.set_result(outcome)


async def _beat(ref: weakref.ref[TaskDriver], report: Report, wait_s: float) -> None:
    """Send a heartbeat whenever a third of the threshold has passed, and clean up.

    The driver is held weakly: the task ends when the program forgets the counter.
    """
    while True:
        await asyncio.sleep(wait_s)
        driver = ref()
        if driver is None:
            return
        wait_s = driver.pulse.interval_s
        try:
            await driver.heartbeat()
            await driver.clean_up()
            report.succeeded()
        except Exception as error:
            wait_s = driver.pulse.retry_s
            report.failed(error)
        del driver
