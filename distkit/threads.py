"""How the threads of a process share an instance: one of those that wait leads.

The leader sends the next request for a group of callers and waits for Redis. When its own call is
done, the next caller leads. If the leader is interrupted (by a Ctrl-C between send and reply), the
next leader sends the same request again, and every caller of the group gets its own result.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis

from distkit.base import LONG_SWEEP, LONG_SWEEPS, NOTHING, SWEEP, Driver, Options, not_scanned
from distkit.core import operations
from distkit.core.batching import Batch, result_of, results_of
from distkit.core.instance import Kind, Outcome, Reply, Request
from distkit.core.operations import Step
from distkit.core.pulse import Report
from distkit.errors import InvalidKeyError, MisuseError
from distkit.keys import Keyspace
from distkit.redis.meaning import Abandoned
from distkit.redis.script import Scan
from distkit.redis.sync import Transport, transport_for
from distkit.tracing import checked_hook, observed

LOOKS_EVERY_S: Final = 1.0
"""How often a waiting thread looks whether it was forgotten."""


class ThreadDriver(Driver):
    """The driver of the synchronous counter.

    Attributes:
        send: sends one request and returns its reply; tests replace it.
        heart: the heartbeat thread, inside `with`.
    """

    def __init__(
        self, client: redis.Redis | redis.RedisCluster, prefix: str | Keyspace, options: Options
    ) -> None:
        super().__init__(client, prefix, options)
        self.transport: Transport = transport_for(client, options.wall(), options.deadline())
        self.send: Callable[[Request], Reply] = observed(
            self.transport.send, checked_hook(options.on_request)
        )
        self.heart: Heart | None = None
        self._mutex: Any = threading.RLock()  # guards the queue and the leader
        self._leader: _Thread | None = None
        self._inside: dict[int, _Thread] = {}  # each thread's last call

    def reset_after_fork(self) -> None:
        super().reset_after_fork()
        self._mutex = threading.RLock()
        self._leader = None
        self._inside = {}
        self.heart = None  # a child inherits no threads: the next call starts another

    @property
    def is_led(self) -> bool:
        """Whether a thread is sending."""
        return self._leader is not None

    @property
    def is_inside(self) -> bool:
        """Whether this thread is making a call: this runs in a signal handler, or in `__del__`."""
        last = self._inside.get(threading.get_ident())
        # A caller that is gone still hands over, with the mutex. (An RLock knows its owner exactly,
        # and a Lock would be waited for: a handler can run between any two lines.)
        return (last is not None and not last.gone) or bool(self._mutex._is_owned())

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
            self.observer.left(self.instance, None)
        except Exception as failure:
            self.report.could_not_leave(failure)
            self.observer.left(self.instance, failure)
        finally:
            self.instance.promise_ms = 0

    def leave(self) -> None:
        """R16: drop the slices and close the session."""
        self.books.forget()
        for failure in self._serve(_Thread(), (), Kind.LEAVE):
            result_of(failure)

    def _start_heart(self) -> None:
        with self._mutex:  # several threads may come at once
            if self.heart is None:
                self.heart = Heart(self)
                self.heart.start()

    # --- Calls -----------------------------------------------------------------------------------

    def one(self, todo: tuple[Step]) -> Any:
        """Run the step and return its result."""
        (outcome,) = self._serve(_Thread(), todo)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def batch(self, todo: Sequence[Step]) -> list[Any]:
        """Run the steps and return their results."""
        return results_of(self.outcomes(todo))

    def outcomes(self, todo: Sequence[Step]) -> list[Outcome]:
        """Run the steps, in as many requests as they need, and return what became of each."""
        batch = Batch(todo)
        for piece in batch.pieces():
            batch.outcomes += self.run(piece)
        return batch.outcomes

    def clear_on_instance(self) -> None:
        """R9: a step for every key of which this instance may have a slice."""
        # Also where 0 is remembered: an unanswered call may have left something there. A copy of
        # the memory, because another thread may be counting.
        keys = sorted(self.instance.memory.copy())
        self.batch([operations.set_on_instance(key, 0) for key in keys])

    def clear(self) -> None:
        """R9: a step for every key that Redis knows or this instance remembers."""
        known = self.known_keys()
        keys = sorted({*known, *list(self.instance.memory)})
        self.batch([operations.set(key, 0) for key in keys])

    def heartbeat(self) -> None:
        for failure in self.run((), Kind.BEAT):
            result_of(failure)

    def clean_up(self) -> None:
        """R18: look at some counters that this instance does not remember, so that what crashed
        instances left goes. While it finds such counters, it goes on."""
        most = SWEEP
        for _ in range(LONG_SWEEPS):
            if not self.sweep.found:
                self.sweep.at_once = most
                self._scan(self.sweep)
            looks = self.unknown_counters(most)
            if looks and NOTHING in self.run(looks, Kind.LOOKS):
                most = LONG_SWEEP
            elif looks or self.sweep.done or most == SWEEP:
                return  # a scan of a hash that has shrunk may find nothing, and is not at its end

    def known_keys(self) -> set[str]:
        """The keys of every counter of the prefix."""
        scan = Scan(self.space)
        try:
            while not scan.done:
                self._scan(scan)
        except InvalidKeyError:
            self.heartbeat()  # a better error, if all of the prefix has another layout
            raise
        return scan.found

    def _scan(self, scan: Scan) -> None:
        try:
            self.transport.inquire(scan)
        except Abandoned as end:
            raise not_scanned(end) from end.__cause__

    def run(self, todo: Sequence[Step], kind: Kind = Kind.STEPS) -> list[Outcome]:
        """Run the steps of one request. Returns their outcomes; of a heartbeat, its error."""
        return self._serve(_Thread(), todo, kind)

    # --- Leading ---------------------------------------------------------------------------------

    def _serve(
        self, caller: _Thread, todo: Sequence[Step], kind: Kind = Kind.STEPS
    ) -> list[Outcome]:
        """Wait until the caller's steps are done. Lead if nobody does."""
        if self.is_alive and self.heart is None and kind is not Kind.LEAVE:
            self._start_heart()
        thread = threading.get_ident()
        if self.is_inside:
            raise MisuseError(
                "this thread is inside a call of the same counter already (a signal handler or a "
                "__del__ was run there): it would wait for itself. Nothing was sent"
            )
        try:
            self._inside[thread] = caller
            with self._mutex:
                if self._leader is None or self._leader.gone:
                    self._leader = caller
                else:
                    caller.close_gate()
                self.queue.waiting.append((todo, caller, kind))
            if caller.gate is not None:
                self._wait(caller)
            while caller.outcomes is None:
                self._serve_a_group(caller)
        finally:
            caller.gone = True
            if caller.next is not None:
                caller.next.open_gate()
            self._inside.pop(thread, None)
            if self._leader is caller:
                self._hand_over(caller)
        return caller.outcomes

    def _hand_over(self, caller: _Thread) -> None:
        """The caller stops leading: another caller leads from now on, or nobody."""
        with self._mutex:
            if self._leader is not caller:  # another thread found it gone and replaced it
                return
            # If its own call is done, so is its group.
            others = self.queue.waiting or caller.outcomes is None
            successor = self.queue.successor(caller) if others else None
            self._leader = successor
        if successor is not None:
            successor.open_gate()

    def _serve_a_group(self, leader: _Thread) -> None:
        """Send for the group that was left unfinished, or for the next one."""
        instance = self.instance
        if self.queue.is_shared:
            # Let the callers that were just served queue again. Otherwise every second request
            # would carry only the first of them.
            time.sleep(0)
        with self._mutex:
            call = self.queue.take(leader)
        assert call is not None, "the leader itself is queued"
        instance.begin(call)
        while not call.done:
            request = instance.speak()
            try:
                instance.hear(self.send(request))
                self.heard(request)
            except Exception as error:
                self.conclude(request, error)
        self.hand_out(_Desk)

    def _wait(self, caller: _Thread) -> None:
        """Until the caller has its outcome, or is to lead. Whoever should have opened its gate may
        have been interrupted just before: so it looks for itself now and then."""
        while not caller.wait():
            with self._mutex:
                if self._leader is None or self._leader.gone:
                    self._leader = caller
            if self._leader is caller or caller.outcomes is not None:
                return


class _Desk:
    """A `batching.Desk`."""

    @staticmethod
    def deal(callers: Sequence[_Thread], outcomes: list[Outcome]) -> None:
        """Those that wait wake one after the other, each the next: all at once they would only
        stand in line for the interpreter's lock."""
        first: _Thread | None = None
        last: _Thread | None = None
        for caller, outcome in zip(callers, outcomes, strict=True):
            caller.outcomes = [outcome]
            if caller.gate is None or caller.gone:
                continue
            if last is None:
                first = caller
            else:
                last.next = caller
            last = caller
        if first is not None:
            first.open_gate()

    @staticmethod
    def finish(caller: _Thread, _: Sequence[Step], outcomes: list[Outcome]) -> None:
        caller.outcomes = outcomes
        if caller.gate is not None:
            caller.open_gate()


class _Thread:
    """A thread that waits for its steps; a `batching.Caller`.

    Attributes:
        gate: closed while the thread has to wait: until it is done, or leads.
        gone: whether the thread neither waits nor leads any more.
        next: the thread that it wakes when it goes.
    """

    __slots__ = ("gate", "gone", "next", "outcomes")

    def __init__(self) -> None:
        self.outcomes: list[Outcome] | None = None
        self.gone = False
        self.gate: threading.Lock | None = None
        self.next: _Thread | None = None

    def cancelled(self) -> bool:
        return self.gone

    def done(self) -> bool:
        return self.gone or self.outcomes is not None

    def close_gate(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()

    def open_gate(self) -> None:
        if self.gate is not None and self.gate.locked():
            self.gate.release()

    def wait(self) -> bool:
        """Whether the gate was opened, within a while."""
        assert self.gate is not None
        return self.gate.acquire(timeout=LOOKS_EVERY_S)


class Heart(threading.Thread):
    """Sends a heartbeat whenever a third of the threshold has passed, and cleans up.

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
        self._wait_s = driver.pulse.interval_s
        try:
            driver.heartbeat()
            driver.clean_up()
            self._report.succeeded()
        except Exception as error:
            self._wait_s = driver.pulse.retry_s
            self._report.failed(error)
