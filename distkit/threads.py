"""How the threads of a process share an instance: one of those that wait leads.

The leader sends the next request for a group of callers and waits for Redis. When its own call is
done, the next caller leads. If the leader is interrupted (by a Ctrl-C between send and reply), the
next leader sends the same request again, and every caller of the group gets its own result.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import redis

from distkit.base import Driver
from distkit.core.batching import Batch, result_of
from distkit.core.instance import Outcome
from distkit.core.operations import Step
from distkit.core.pulse import Report
from distkit.redis.shared import SCAN_ERRORS, Abandoned, Clock, KnownKeys
from distkit.redis.sync import Transport, transport_for


class ThreadDriver(Driver):
    """The driver of the synchronous counter.

    Attributes:
        heart: the heartbeat thread, inside `with`.
    """

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster,
        prefix: str,
        threshold_ms: int,
        instance_id: str | None,
        clock_ms: Clock | None,
    ) -> None:
        self.transport: Transport = transport_for(client, clock_ms)
        super().__init__(client, prefix, threshold_ms, instance_id)
        self.heart: Heart | None = None
        self._mutex = threading.Lock()  # guards the queue and the leader
        self._leader: _Thread | None = None
        self._inside: set[int] = set()  # the threads that are in `_serve`

    def reset_after_fork(self) -> None:
        super().reset_after_fork()
        self._mutex = threading.Lock()
        self._leader = None
        self._inside = set()
        self.heart = None  # a child inherits no threads: the next call starts another

    @property
    def is_led(self) -> bool:
        """Whether a thread is sending."""
        return self._leader is not None

    @property
    def is_inside(self) -> bool:
        """Whether this thread is making a call: this runs in a signal handler, or in `__del__`."""
        return threading.get_ident() in self._inside

    # --- Life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the instance's life: send heartbeats from now on."""
        self.enter()
        self._start_heart()

    def stop(self) -> None:
        """End it (R16). What goes wrong is logged."""
        self.is_alive = False
        if self.heart is not None:
            self.heart.stop()
            self.heart = None
        try:
            self.leave()
        except Exception as failure:
            Report(self.instance.instance_id).could_not_leave(failure)

    def leave(self) -> None:
        """R16: remove the slices first, because a later instance of this id cannot know them."""
        self.books.forget()
        try:
            if self.instance.has_opened:
                self.batch(self.clearing_of_this_instance())
        finally:
            for failure in self._serve(_Thread((), leaving=True)):
                Report(self.instance.instance_id).could_not_leave(failure)

    def _start_heart(self) -> None:
        self.heart = Heart(self)
        self.heart.start()

    # --- Calls -----------------------------------------------------------------------------------

    def one(self, step: Step) -> Any:
        """Run the step and return its result."""
        (outcome,) = self.run((step,))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def batch(self, todo: Sequence[Step]) -> list[Any]:
        """Run the steps and return their results."""
        batch = Batch(todo)
        for piece in batch.pieces():
            batch.outcomes += self.run(piece)
        return batch.results()

    def heartbeat(self) -> None:
        for failure in self.run(()):
            result_of(failure)

    def known_keys(self) -> set[str]:
        """The keys of every counter of the prefix."""
        scan = KnownKeys(self.space)
        while not scan.done:
            try:
                scan.hear(self.client.execute_command(*scan.command, **scan.options))
            except SCAN_ERRORS as error:
                raise scan.judged(error) from error
        return scan.found

    def run(self, todo: Sequence[Step]) -> list[Outcome]:
        """Run the steps of one request; none at all are a heartbeat. Returns their outcomes."""
        if self.is_alive and self.heart is None:
            self._start_heart()
        return self._serve(_Thread(todo))

    # --- Leading ---------------------------------------------------------------------------------

    def _serve(self, caller: _Thread) -> list[Outcome]:
        """Wait until the caller's steps are done. Lead if nobody does."""
        me = threading.get_ident()
        self._inside.add(me)
        try:
            with self._mutex:
                if self._leader is None or self._leader.gone:
                    self._leader = caller
                else:
                    caller.close_gate()
                self.queue.join(caller)
            if caller.gate is not None:
                caller.wait()
            while caller.outcomes is None:
                self._serve_a_group()
        finally:
            caller.gone = True
            if self._leader is caller:
                self._hand_over(caller)
            self._inside.discard(me)
        return caller.outcomes

    def _hand_over(self, caller: _Thread) -> None:
        """The caller stops leading: another caller leads from now on, or nobody."""
        with self._mutex:
            if self._leader is not caller:  # another thread found it gone and replaced it
                return
            successor = self.queue.successor(caller) if self.queue.is_busy else None
            assert successor is None or isinstance(successor, _Thread)
            self._leader = successor
        if successor is not None:
            successor.open_gate()

    def _serve_a_group(self) -> None:
        """Send for the group that was left unfinished, or for the next one."""
        instance = self.instance
        if self.queue.is_shared:
            # Let the callers that were just served queue again. Otherwise every second request
            # would carry only the first of them.
            time.sleep(0)
        with self._mutex:
            call = self.queue.take()
        assert call is not None, "the leader itself is queued"
        instance.begin(call)
        while not call.done:
            request = instance.speak()
            try:
                instance.hear(self.transport.send(request))
                self.pulse.heard()
            except Abandoned as end:
                instance.give_up(end.__cause__)
            except Exception as error:
                instance.refuse(error)
        self.queue.hand_out()


class _Thread:
    """A thread that waits for its steps; a `batching.Caller`.

    Attributes:
        gate: closed while the thread has to wait: until it is done, or leads.
        gone: whether the thread neither waits nor leads any more.
    """

    __slots__ = ("gate", "gone", "leaving", "outcomes", "steps")

    def __init__(self, steps: Sequence[Step], leaving: bool = False) -> None:
        self.steps = steps
        self.leaving = leaving
        self.outcomes: list[Outcome] | None = None
        self.gone = False
        self.gate: threading.Lock | None = None

    def cancelled(self) -> bool:
        return self.gone

    def done(self) -> bool:
        return self.gone or self.outcomes is not None

    def finish(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        if self.gate is not None:
            self.open_gate()

    def close_gate(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()

    def open_gate(self) -> None:
        if self.gate is not None and self.gate.locked():
            self.gate.release()

    def wait(self) -> None:
        assert self.gate is not None
        self.gate.acquire()


class Heart(threading.Thread):
    """Sends a heartbeat whenever a third of the threshold has passed without a request.

    It holds the driver weakly: it ends when the program forgets the counter.
    """

    def __init__(self, driver: ThreadDriver) -> None:
        name = driver.instance.instance_id
        super().__init__(name=f"distkit heartbeat {name}", daemon=True)
        self._driver = weakref.ref(driver)
        self._report = Report(name)
        self._wait_s = driver.pulse.interval_s
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        if self is not threading.current_thread():
            self.join()

    def run(self) -> None:
        while not self._stopped.wait(self._wait_s):
            driver = self._driver()
            if driver is None:
                return
            self._beat(driver)
            del driver

    def _beat(self, driver: ThreadDriver) -> None:
        if driver.pulse.is_due():
            try:
                driver.heartbeat()
                self._report.succeeded()
            except Exception as error:
                self._report.failed(error)
        self._wait_s = driver.pulse.wait_s()
