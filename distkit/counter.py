"""The counter for synchronous programs: a lock, a transport and the session.

The rules are the session's and the script's; this file waits for Redis, one request at a time, and
turns outcomes into results and exceptions.
"""

from __future__ import annotations

import os
import secrets
import threading
import uuid
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import redis
from redis.client import NEVER_DECODE
from redis.exceptions import RedisClusterException, ResponseError

from distkit import steps
from distkit.errors import CounterOverflowError, InvalidKeyError, NotExecutedError
from distkit.keys import LIMIT, Keyspace, checked_int, checked_name
from distkit.session import Abandoned, Outcome, Session
from distkit.steps import CounterState, Step
from distkit.transport import UNREACHABLE, Clock, prefix_in_other_use, transport_for

CHUNK = 100
"""The most keys that `clear` and `clear_on_instance` put into one request."""


class StrictInstanceAwareCounter:
    """A counter to which every instance contributes its own slice; the total is the live ones' sum.

    An instance that has been silent for the threshold is presumed dead, and its slice goes at the
    next call on that key. If it was only silent, its slices come back with its next call.

    One object is one instance. It may be shared by threads; calls take turns. In a forked child it
    is a new instance, with a new id and nothing remembered.

    Args:
        client: a `redis.Redis` or `redis.RedisCluster` of any settings, or a fake of them. Its
            retry policy is followed; a retry never counts twice (R11).
        prefix: the namespace: 1 to 255 bytes in UTF-8 without `:`, `{` and `}` (R1).
        dead_instance_threshold_ms: how long another instance may be silent, in ms (R5). Give all
            instances of a prefix the same.
        instance_id: this instance's name, 1 to 255 bytes without `:`; a UUID4 unless given. Two
            that live at once must not share one. A later life starts from nothing (R10).
        clock_ms: for tests: returns the server's wall clock in ms. Without it, Redis's `TIME`.

    Every operation may raise, besides what it names:
        InvalidKeyError: the key is not 1 to 255 bytes without `:`, or no counter (R1).
        NotExecutedError: Redis could not be reached; the call was not executed.
        OutcomeUnknownError: it was sent and no reply came: it was executed once, or not (R12).
        redis.exceptions.ResponseError, AuthenticationError: Redis refused the call: out of memory,
            read-only, no permission. It was not executed.

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
        name = str(uuid.uuid4()) if instance_id is None else instance_id
        threshold = checked_int(dead_instance_threshold_ms, "dead_instance_threshold_ms")
        if not 1 <= threshold <= LIMIT:
            raise ValueError(
                f"dead_instance_threshold_ms must be from 1 to 2^53 - 1, not {threshold}"
            )
        self._transport = transport_for(client, clock_ms)
        self._client = client
        self._space = Keyspace(prefix)
        # An id that was given may have had another life: its numbers must not be taken for ours.
        seq = 0 if instance_id is None else secrets.randbits(40)
        self._session = Session(self._space, checked_name(name, "instance_id"), threshold, seq)
        self._lock = threading.Lock()
        _living.add(self)

    def _be_born_again(self) -> None:
        """In a forked child: a new instance, with an id of its own and nothing remembered."""
        self._session = Session(self._space, str(uuid.uuid4()), self._session.threshold_ms)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<StrictInstanceAwareCounter {self._space.prefix!r} instance {self.instance_id!r}>"

    @property
    def instance_id(self) -> str:
        """This instance's name."""
        return self._session.instance_id

    def inc(self, key: str, count: int = 1) -> CounterState:
        """Add `count` to this instance's slice (R9).

        Returns:
            The total and this slice, after it.

        Raises:
            CounterOverflowError: the slice or the total would leave ±(2^53 - 1) (R2).
            TypeError: count is not an int.
        """
        return self._one(steps.inc(key, count))

    def dec(self, key: str, count: int = 1) -> CounterState:
        """Take `count` from this instance's slice; it may go below 0 (R9). Otherwise as `inc`."""
        return self._one(steps.dec(key, count))

    def get(self, key: str) -> CounterState:
        """Read the total and this slice. It is a heartbeat, and removes the dead (R4, R8).

        Raises:
            CounterOverflowError: the live slices add up to more than 2^53 - 1 (R2).
        """
        return self._one(steps.get(key))

    def set_on_instance(self, key: str, count: int) -> CounterState:
        """Make `count` this instance's slice; the others keep theirs (R9). Else as `inc`."""
        return self._one(steps.set_on_instance(key, count))

    def set(self, key: str, count: int) -> CounterState:
        """Make `count` the total: the epoch moves on, and this instance owns all of it (R9).

        Returns:
            `(count, count)`.

        Raises:
            CounterOverflowError: count is outside ±(2^53 - 1) (R2).
            OutcomeUnknownError: also when the session was lost while this call was unanswered; it
                may have moved the epoch, and what it set may be gone already.
            TypeError: count is not an int.
        """
        return self._one(steps.set(key, count))

    def delete_on_instance(self, key: str) -> CounterState:
        """Remove this instance's slice; the others keep theirs (R9).

        Returns:
            The new total, and what was removed.
        """
        return self._one(steps.delete_on_instance(key))

    def delete(self, key: str) -> CounterState:
        """Remove every instance's slice: the epoch moves on (R9).

        Returns:
            The total and this slice, as they were before.

        Raises:
            CounterOverflowError: the live slices add up to more than 2^53 - 1; `set` still works.
            OutcomeUnknownError: also when the session was lost while this call was unanswered.
        """
        return self._one(steps.delete(key))

    def heartbeat(self) -> None:
        """Say that this instance is alive, and nothing else (R4).

        If it had been presumed dead, all its slices are back when this returns (R10).
        """
        self._run(())

    def clear_on_instance(self) -> None:
        """Remove this instance's slices on every key. The others keep theirs.

        Not atomic over keys: it takes a request for every 100 of them. After NotExecutedError or
        OutcomeUnknownError some may be left: call it again.

        Raises:
            CounterOverflowError: without one of the slices a total would leave ±(2^53 - 1) (R2);
                that slice stays, the others are gone.
        """
        with self._lock:
            # All of them: one that is remembered as 0 may hold what an unanswered call did.
            keys = sorted(self._session.memory)
        self._each(steps.set_on_instance(key, 0) for key in keys)

    def clear(self) -> None:
        """Delete the counters of every key: all are 0, each in a new epoch (R9).

        Not atomic over keys: it takes a request for every 100 of them. A key that another instance
        makes meanwhile may stay. After NotExecutedError or OutcomeUnknownError some may be left:
        call it again.
        """
        self._each(steps.set(key, 0) for key in self._known_keys())

    def _known_keys(self) -> list[str]:
        client: Any = self._client
        with self._lock:
            known = set(self._session.memory)
        cursor = 0
        try:
            while True:
                command = ("SSCAN", self._space.keys.encode(), cursor, "COUNT", 1000)
                cursor, found = client.execute_command(*command, **{NEVER_DECODE: True})
                known.update(key.decode() for key in found)
                if not cursor:
                    return sorted(known)
        except (*UNREACHABLE, RedisClusterException) as error:
            raise NotExecutedError(f"no reply from Redis ({error}): nothing was deleted") from error
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            raise prefix_in_other_use((self._space.instances, self._space.keys)) from error

    def _each(self, every: Iterable[Step]) -> None:
        """Run them all, a bounded number to a request. A refused one does not keep the others.

        None at all is a heartbeat: every call is one (R4).
        """
        todo = list(every)
        refused: list[Exception] = []
        for first in range(0, max(1, len(todo)), CHUNK):
            for outcome in self._run(todo[first : first + CHUNK]):
                if isinstance(outcome, CounterOverflowError | InvalidKeyError):
                    refused.append(outcome)
                else:
                    _unwrap(outcome)
        if refused:
            raise refused[0]

    def _one(self, step: Step) -> CounterState:
        return _unwrap(self._run((step,))[0])

    def _run(self, todo: Sequence[Step]) -> list[Outcome]:
        """Drive the session: each request that it asks for is sent, and answered or abandoned."""
        with self._lock:
            run = self._session.run(todo)
            try:
                request = next(run)
                while True:
                    try:
                        answer = self._transport.send(request)
                    except Abandoned as end:
                        request = run.throw(end)
                    else:
                        request = run.send(answer)
            except StopIteration as done:
                outcomes: list[Outcome] = done.value
                return outcomes


_living: weakref.WeakSet[StrictInstanceAwareCounter] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """Parent and child must not speak with one voice: each would get the other's replies (R11)."""
    for counter in list(_living):
        counter._be_born_again()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _unwrap(outcome: Outcome) -> CounterState:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
