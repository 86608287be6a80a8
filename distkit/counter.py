"""The counter for synchronous programs: threads, a transport and the session.

The rules are the session's and the script's. Here one thread of those that wait leads: it sends the
next request, for a group of them, and waits for Redis; when its own call is done it leaves the rest
to the next. If it is interrupted (Ctrl-C between send and reply), whoever leads next sends the
same request again, and everybody of the group gets the reply that was his.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeAlias

import redis

from distkit.api import SCAN_ERRORS, Batch, KnownKeys, Operations, result_of
from distkit.core.instance import Outcome
from distkit.core.operations import Change, CounterState, Step
from distkit.core.operations import set as set_step
from distkit.core.pulse import Report
from distkit.redis.sync import Abandoned, Clock, transport_for

Base: TypeAlias = Operations[CounterState, Change, list[CounterState], list[Change], None]


class StrictInstanceAwareCounter(Base):
    """A counter to which every instance contributes its own slice; the total is the live ones' sum.

    An instance that has been silent for the threshold is presumed dead, and its slice goes at the
    next call on that key. If it was only silent, its slices come back with its next call.

    One object is one instance. Threads may share it; those that wait while a request is in flight
    share the next one. In a forked child it is a new instance, with a new id and nothing
    remembered.

    `with counter:` is the life of an instance: inside, a thread sends a heartbeat whenever a third
    of the threshold has passed without a call; on leaving, its slices are removed and its session
    is closed (R16). What goes wrong with either is said in the log, `distkit`.

    Args:
        client: a `redis.Redis` or `redis.RedisCluster` of any settings, or a fake of them. Its
            retry policy is followed; a retry never counts twice (R11).
        prefix: the namespace: 1 to 255 bytes in UTF-8 without `:`, `{` and `}` (R1).
        dead_instance_threshold_ms: how long another instance may be silent, in ms (R5). Give all
            instances of a prefix the same.
        instance_id: this instance's name, 1 to 255 bytes without `:`; a UUID4 unless given. Two
            that live at once must not share one. A later life starts from nothing (R10).
        clock_ms: for tests: returns the server's wall clock in ms. Without it, Redis's `TIME`.

    Raises:
        InvalidKeyError: prefix or instance_id is not allowed.
        TypeError: an argument of the wrong type.
        ValueError: the threshold is not positive.
    """

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster,
        prefix: str,
        *,
        dead_instance_threshold_ms: int = 30_000,
        instance_id: str | None = None,
        clock_ms: Clock | None = None,
    ) -> None:
        self._transport = transport_for(client, clock_ms)
        self._client: Any = client
        super().__init__(prefix, dead_instance_threshold_ms, instance_id)
        self._mutex = threading.Lock()  # for the line, and for who leads it
        self._leader: _Thread | None = None
        self._heart: _Heart | None = None

    def _reset_after_fork(self) -> None:
        super()._reset_after_fork()
        self._mutex = threading.Lock()
        self._leader = None
        self._heart = None  # a child has no thread of its parent's: the next call starts another

    # --- Life ------------------------------------------------------------------------------------

    def __enter__(self) -> StrictInstanceAwareCounter:
        """Raises RuntimeError inside another `with` on the same counter."""
        if self._alive:
            raise RuntimeError("this instance is alive already: a `with` inside its own `with`")
        self._alive = True
        self._keep_beating()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._alive = False
        if self._heart is not None:
            self._heart.stop()
            self._heart = None
        try:
            self._leave()
        except Exception as failure:
            Report(self.instance_id).could_not_leave(failure)

    def _leave(self) -> None:
        """R16: first the slices, for a later life of this id could not know of them."""
        try:
            if self._instance.has_opened:
                self.clear_on_instance()
        finally:
            for failure in self._serve(_Thread((), leaving=True)):
                Report(self.instance_id).could_not_leave(failure)

    def _keep_beating(self) -> None:
        self._heart = _Heart(self)
        self._heart.start()

    # --- Calls -----------------------------------------------------------------------------------

    def heartbeat(self) -> None:
        for failure in self._run(()):
            result_of(failure)

    def clear_on_instance(self) -> None:
        self._all(self._clearing_of_this_instance())

    def clear(self) -> None:
        keys = {*self._known_keys(), *list(self._instance.memory)}
        self._all([set_step(key, 0) for key in sorted(keys)])

    def _known_keys(self) -> set[str]:
        scan = KnownKeys(self._space)
        while not scan.done:
            try:
                scan.hear(self._client.execute_command(*scan.command, **scan.options))
            except SCAN_ERRORS as error:
                raise scan.judged(error) from error
        return scan.found

    def _one(self, step: Step) -> CounterState:
        state: CounterState = result_of(self._run((step,))[0])
        return state

    def _one_if(self, step: Step) -> Change:
        change: Change = result_of(self._run((step,))[0])
        return change

    def _all(self, todo: Sequence[Step]) -> list[CounterState]:
        batch = Batch(todo)
        for piece in batch.pieces():
            batch.outcomes += self._run(piece)
        return batch.results()

    def _all_if(self, todo: Sequence[Step]) -> list[Change]:
        changes: list[Any] = self._all(todo)
        return changes

    def _run(self, todo: Sequence[Step]) -> list[Outcome]:
        """Have the steps run; none at all is a heartbeat. Returns an outcome for each."""
        if self._alive and self._heart is None:
            self._keep_beating()
        return self._serve(_Thread(todo))

    def _serve(self, caller: _Thread) -> list[Outcome]:
        """Wait until the caller's steps are done; lead, if nobody does."""
        try:
            with self._mutex:
                if self._leader is None or self._leader.gone:
                    self._leader = caller
                else:
                    caller.close_gate()
                self._queue.join(caller)
            caller.wait()
            while caller.outcomes is None:
                self._serve_a_group()
        finally:
            caller.gone = True
            self._hand_over(caller)
        return caller.outcomes

    def _hand_over(self, caller: _Thread) -> None:
        """If the caller leads, another does from now on, or nobody."""
        if self._leader is not caller:
            return
        with self._mutex:
            if self._leader is not caller:  # it was found gone, and replaced
                return
            successor = self._queue.successor(caller)
            assert successor is None or isinstance(successor, _Thread)
            self._leader = successor
        if successor is not None:
            successor.open_gate()

    def _serve_a_group(self) -> None:
        """The group that was left unfinished, or the next one."""
        session = self._instance
        if self._queue.is_shared:
            # Let those who were served get in line again: else every other request would carry only
            # the first of them.
            time.sleep(0)
        with self._mutex:
            call = self._queue.take()
        assert call is not None, "the leader itself is in line"
        session.begin(call)
        while not call.done:
            request = session.speak()
            try:
                session.hear(self._transport.send(request))
                self._pulse.heard()
            except Abandoned as end:
                session.give_up(end.__cause__)
            except Exception as error:
                session.refuse(error)
        self._queue.hand_out()


class _Thread:
    """A thread in line. Its gate is open when it is done, or is to lead; it is gone when it neither
    waits nor leads any more. Keeps `line.Waiting`."""

    __slots__ = ("_gate", "gone", "leaving", "outcomes", "steps")

    def __init__(self, steps: Sequence[Step], leaving: bool = False) -> None:
        self.steps = steps
        self.leaving = leaving
        self.outcomes: list[Outcome] | None = None
        self.gone = False
        self._gate: threading.Lock | None = None

    def cancelled(self) -> bool:
        return self.gone

    def done(self) -> bool:
        return self.gone or self.outcomes is not None

    def finish(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        self.open_gate()

    def close_gate(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()

    def open_gate(self) -> None:
        if self._gate is not None and self._gate.locked():
            self._gate.release()

    def wait(self) -> None:
        if self._gate is not None:
            self._gate.acquire()


class _Heart(threading.Thread):
    """Sends a heartbeat whenever nothing else was sent for a third of the threshold."""

    def __init__(self, counter: StrictInstanceAwareCounter) -> None:
        super().__init__(name=f"distkit heartbeat {counter.instance_id}", daemon=True)
        self._counter = weakref.ref(counter)
        self._report = Report(counter.instance_id)
        self._wait_s = counter._pulse.interval_s
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        if self is not threading.current_thread():
            self.join()

    def run(self) -> None:
        while not self._stopped.wait(self._wait_s):
            counter = self._counter()
            if counter is None:
                return
            self._beat(counter)
            del counter

    def _beat(self, counter: StrictInstanceAwareCounter) -> None:
        pulse = counter._pulse
        if pulse.is_due():
            try:
                counter.heartbeat()
                self._report.succeeded()
            except Exception as error:
                self._report.failed(error)
        self._wait_s = pulse.wait_s()
