"""An instance's side of the protocol, without I/O: calls in, requests out, results back.

`begin` starts a `Call`; `speak` says what is to be sent next, as often as it takes; `hear` takes
the reply, `give_up` ends the call without one, `refuse` with an error that says that it was not
executed. The shells around it (`counter.py`, `asyncio.py`) own connections, locks and tasks, and
know none of the rules.

What this file keeps:
  * One request in flight, numbered by a `seq` that grows and never restarts (R11).
  * The slice has one writer, and its owner remembers it (R10): each reply updates the memory, and a
    new session is followed by requests of bounded size that put back all that is remembered.
  * An outcome is given once and is true (R12): a step is run again only where that is exact.
  * It may be interrupted anywhere (a Ctrl-C, a cancelled task): until a reply has been taken to the
    end, its request stays in flight, and to send it once more is a retry, which the server answers
    as it did at first. So what a reply changes is the same if it is taken twice.

See Raft's client sessions (Ongaro, dissertation, section 6.3) and RIFL (SOSP 2015).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from distkit.core.operations import (
    GET,
    GLOBAL,
    SPAN,
    Change,
    CounterState,
    Step,
    View,
    spell,
    transition,
)
from distkit.errors import (
    CounterOverflowError,
    InvalidKeyError,
    NotExecutedError,
    OutcomeUnknownError,
)
from distkit.keys import Keyspace

RESTORE_CHUNK: Final = 100
"""R10: the most slices that are put back in one request: about 0.5 ms of the server's time."""

PATIENCE: Final = 8
"""How often a session is reopened within one call before the call stops trying."""

OK, NO_SESSION, LATE = 1, 0, -1
"""The first number of a reply."""

Reply = Sequence[int | None]

Outcome = CounterState | Change | Exception
"""What a step came to: its result, or the error that its caller is to see."""


class Memory(NamedTuple):
    """A slice as its owner knows it, as of the owner's own request `seq` (R10)."""

    epoch: int
    value: int
    seq: int


class Call:
    """Steps that share a request, and what became of each so far.

    Attributes:
        outcomes: for each step what it came to, in order; all of them are there once `done`.
        failure: what ended the call, if it got no reply: the outcome of a call without steps.
    """

    def __init__(self, steps: Sequence[Step] = (), *, leaving: bool = False) -> None:
        self.outcomes: list[Outcome | None] = [None] * len(steps)
        self.failure: Exception | None = None
        self.leaving = leaving
        self.done = False
        self.indeterminate = False
        self.losses = 0
        self.steps = steps
        self._gather(range(len(steps)))

    def _gather(self, places: Iterable[int]) -> None:
        """The places of the steps that are to be asked for, by key in order of first use."""
        by_key: dict[str, list[int]] = {}
        steps = self.steps
        for place in places:
            key = steps[place].key
            if key in by_key:
                by_key[key].append(place)
            else:
                by_key[key] = [place]
        self.by_key = by_key

    def mark_indeterminate(self) -> None:
        """R12: a copy may have run, and its session is gone. Only slice-local steps may run again:
        the slice is put back to what it was before; an epoch cannot be."""
        self.indeterminate = True
        todo = sorted(place for places in self.by_key.values() for place in places)
        for place in todo:
            if self.steps[place].op in GLOBAL:
                self.outcomes[place] = OutcomeUnknownError(
                    "the session was lost before the reply: it may have been executed, once"
                )
        self._gather(place for place in todo if self.steps[place].op not in GLOBAL)

    def end(self, reason: str, cause: BaseException | None) -> None:
        """No reply is to be had: what has no outcome yet is unknown, or was not executed."""
        kind = OutcomeUnknownError if self.indeterminate else NotExecutedError
        tail = "it may have been executed, once" if self.indeterminate else "it was not executed"

        def error() -> Exception:  # one for each caller: a traceback belongs to whoever raises it
            made = kind(f"{reason}: {tail}")
            made.__cause__ = cause
            return made

        self.failure = error()
        self.outcomes = [error() if outcome is None else outcome for outcome in self.outcomes]
        self.done = True


class Purpose(Enum):
    """What a request is for."""

    OPEN = "open a session"
    RESTORE = "put slices back"
    CALL = "run the call's steps"
    LEAVE = "close the session"


class Request:
    """One run of the script, and what is known of its way there.

    Attributes:
        purpose: what it is for.
        call: the steps that it carries.
        keys: the script's KEYS.
        head, parts: its ARGV, but for the wall clock, which is read at each transmission.
        seq: its number.
        arrived: whether a copy of it may have reached the server.
        resent: whether that was so already when it was sent last (R12).
    """

    __slots__ = ("arrived", "call", "head", "keys", "parts", "purpose", "resent", "seq")

    def __init__(
        self,
        purpose: Purpose,
        call: Call,
        keys: list[bytes],
        head: tuple[bytes | str | int, ...],
        parts: list[str | int],
        seq: int,
    ) -> None:
        self.purpose, self.call, self.seq = purpose, call, seq
        self.keys, self.head, self.parts = keys, head, parts
        self.arrived = self.resent = False

    def args(self, wall_ms: int | None) -> list[bytes | str | int]:
        """The script's ARGV; without a wall clock the script reads the server's."""
        return [*self.head, "" if wall_ms is None else wall_ms, *self.parts]


class Instance:
    """What an instance knows: its session, its numbers, and its slices.

    Args:
        space: the prefix's Redis keys.
        instance_id: this instance's name.
        threshold_ms: how long another instance may be silent before this one counts it dead (R5).
        seq: the number before this life's first request. Another life of the same id must not have
            used the numbers that follow.
    """

    def __init__(self, space: Keyspace, instance_id: str, threshold_ms: int, seq: int = 0) -> None:
        self.space = space
        self.instance_id = instance_id
        self.threshold_ms = threshold_ms
        self.memory: dict[str, Memory] = {}
        self.call = Call()
        self.call.done = True
        self._me = instance_id.encode()
        self._number = 0  # 0: no session
        self._last = 0  # the number of the last session, which may be lost
        self._fence = 0  # the request that opened it: nothing sent before can execute any more
        self._seq = seq
        self._acked = 0
        self._restoring: list[str] = []  # the keys whose slices are not in this session yet
        self._sent: Request | None = None

    @property
    def has_opened(self) -> bool:
        """Whether there is a session, as far as is known here."""
        return bool(self._number)

    def begin(self, call: Call) -> None:
        """Make this the call under way, if it is not already. One at a time."""
        if call is self.call:
            return
        assert self.call.done
        self._sent = None
        if call.leaving:  # R16: its counts are forgotten now, whatever becomes of the request
            for key, memory in self.memory.items():
                self.memory[key] = memory._replace(value=0)
            call.done = not self._number
        self.call = call

    def speak(self) -> Request:
        """The request that the call needs next; the one in flight, if there is one."""
        if self._sent is None:
            self._sent = self._next_request()
        return self._sent

    def hear(self, reply: Reply) -> None:
        """Take the reply to the request in flight."""
        request, call = self._sent, self.call
        assert request is not None
        if request.purpose is Purpose.LEAVE:
            self._leave(request, reply)
        elif reply[0] != OK:
            self._lose_session(request, reply)
        elif request.purpose is Purpose.OPEN:
            self._open(request, _number(reply[1]))
        else:
            self._acked = request.seq
            self._learn(request, reply)
            if request.purpose is Purpose.CALL:
                call.done = True
        self._sent = None

    def give_up(self, cause: BaseException | None) -> None:
        """End the call: no reply is to be had. A copy of the request in flight either has been
        executed or never will be, for the next one has a higher number."""
        request, call = self._sent, self.call
        assert request is not None
        if request.arrived and request.purpose in (Purpose.CALL, Purpose.LEAVE):
            call.indeterminate = True
        self._drop_partial_session()
        call.end(f"no reply from Redis ({cause})", cause)
        self._sent = None

    def refuse(self, error: Exception) -> None:
        """End the call with this error for everyone: the server refused the request as it stands,
        and executed nothing of it."""
        call = self.call
        self._drop_partial_session()
        call.failure = error
        call.outcomes = [
            _one_more(error) if outcome is None else outcome for outcome in call.outcomes
        ]
        call.done = True
        self._sent = None

    def _drop_partial_session(self) -> None:
        """One in which not all was put back is not kept: the next call begins with a new one."""
        if self._restoring or self.call.leaving:
            self._number = 0
            self._restoring = []

    # --- Requests --------------------------------------------------------------------------------

    def _next_request(self) -> Request:
        call = self.call
        if call.leaving:
            return self._request(Purpose.LEAVE, call, f"-{self._number}", [], [])
        if not self._number:
            return self._request(Purpose.OPEN, call, 0, [], [self._last])
        if self._restoring:
            # A look is enough: what is remembered of a counter goes with every request on it.
            chunk = Call([Step(key, GET) for key in self._restoring[:RESTORE_CHUNK]])
            return self._ask(Purpose.RESTORE, chunk)
        return self._ask(Purpose.CALL, call)

    def _ask(self, purpose: Purpose, call: Call) -> Request:
        """The request that carries the call's steps, with what is remembered of each counter."""
        memory, fence = self.memory, self._fence
        keys: list[bytes] = []
        parts: list[str | int] = []
        steps = call.steps
        for key, places in call.by_key.items():
            spelt = "".join([spell(steps[place]) for place in places])
            epoch, count, seq = memory.get(key) or (0, 0, fence)
            parts += (epoch, count, seq if seq > fence else fence, spelt)
            keys.append(self.space.counter(key))
            if spelt and key not in memory:
                # It may have a slice from now on, whether or not a reply says so: it belongs among
                # those that are put back, as 0, when the session is lost.
                memory[key] = Memory(0, 0, fence)
        return self._request(purpose, call, self._number, keys, parts)

    def _request(
        self,
        purpose: Purpose,
        call: Call,
        session: int | str,
        keys: list[bytes],
        parts: list[str | int],
    ) -> Request:
        self._seq = seq = self._seq + 1
        head = (self._me, session, seq, self._acked, self.threshold_ms)
        own = [self.space.instances, self.space.keys]
        return Request(purpose, call, own + keys, head, parts, seq)

    # --- Replies ---------------------------------------------------------------------------------

    def _open(self, request: Request, number: int) -> None:
        self._acked = self._fence = request.seq
        self._restoring = sorted(self.memory)
        self._number = self._last = number

    def _leave(self, request: Request, reply: Reply) -> None:
        if reply[0] == OK:
            self._acked = request.seq
        self._take_higher_numbers(reply)
        self._number = 0
        self.call.done = True

    def _lose_session(self, request: Request, reply: Reply) -> None:
        call = self.call
        if request.purpose is Purpose.CALL and request.resent:
            call.mark_indeterminate()
        self._take_higher_numbers(reply)
        self._number = 0
        self._restoring = []
        call.losses += 1
        if call.losses > PATIENCE:
            again = f"{PATIENCE + 1} times in a row"
            call.end(f"the session was lost {again} (is the instance id shared?)", None)

    def _take_higher_numbers(self, reply: Reply) -> None:
        """Late: an earlier life of this id has used higher numbers."""
        if reply[0] == LATE:
            self._seq = max(self._seq, _number(reply[1]))

    def _learn(self, request: Request, reply: Reply) -> None:
        """Work out each step's result from the state before; remember the state after."""
        outcomes, memory, seq = request.call.outcomes, self.memory, request.seq
        steps, at = request.call.steps, 1
        for key, places in request.call.by_key.items():
            high, low, epoch, count = reply[at : at + 4]
            at += 4
            if high is None or low is None or epoch is None or count is None:
                self._refuse(outcomes, key, places)
                continue
            state: View = high * SPAN + low, epoch, count
            for place in places:
                done = transition(state, steps[place])
                if done is None:
                    outcomes[place] = _overflow(steps[place])
                else:
                    state, outcomes[place] = done
            _, epoch, own = state
            if epoch or own or key in memory:
                memory[key] = Memory(epoch, own, seq)
        if request.purpose is Purpose.RESTORE:
            done_with = request.call.by_key.keys()
            self._restoring = [key for key in self._restoring if key not in done_with]

    def _refuse(self, outcomes: list[Outcome | None], key: str, places: Iterable[int]) -> None:
        name = self.space.counter(key).decode()
        for place in places:
            outcomes[place] = InvalidKeyError(
                f"{key!r} cannot be a counter: the Redis key {name!r} holds something else"
            )


def _one_more(error: Exception) -> Exception:
    """The same error again: a traceback belongs to whoever raises it."""
    try:
        made = copy.copy(error)
    except Exception:  # an error of a class that cannot be made from its arguments
        return error
    made.__cause__ = error.__cause__
    return made.with_traceback(error.__traceback__)


def _number(value: int | None) -> int:
    assert value is not None, "the script answers a number here"
    return value


def _overflow(step: Step) -> CounterOverflowError:
    return CounterOverflowError(
        f"{step.key!r}: a count or the total would be outside -(2^53 - 1)..2^53 - 1"
    )
