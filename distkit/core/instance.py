"""An instance's side of the protocol, without I/O: calls in, requests out, results back.

`begin` starts a `Call`, `speak` returns the request to send next, `hear` takes its reply. `give_up`
ends a call that gets no reply, and `refuse` ends it with an error that executed nothing. The
drivers (`distkit/threads.py`, `distkit/tasks.py`) own connections, locks and tasks, and know none
of the rules.

The rules this file keeps:
  * One request is in flight at a time. Its number `seq` only grows (R11).
  * Only its instance writes a slice, and the instance remembers it (R10): every reply updates the
    memory. After a new session, requests of bounded size put back everything remembered.
  * An outcome is given once and is true (R12): a step runs again only where that is exact.
  * It can be interrupted anywhere, by a Ctrl-C or a cancelled task. Until a reply has been taken
    completely, its request stays in flight. Sending it again is a retry, which the server answers
    as before. Taking a reply twice therefore changes the same things as taking it once.

See Raft's client sessions (Ongaro, dissertation, section 6.3) and RIFL (SOSP 2015).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

from distkit.core.housekeeping import Housekeeping, Memory
from distkit.core.many import Increments, increments, run_each, run_together, spelled
from distkit.core.operations import (
    DROP,
    GET,
    GLOBAL,
    LOOK,
    READS,
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
    LayoutError,
    NotExecutedError,
    OutcomeUnknownError,
    PartitionsError,
)
from distkit.keys import Keyspace

RESTORE_CHUNK: Final = 100
"""R10: how many slices one request puts back at most: about 0.5 ms of the server's time."""

PATIENCE: Final = 8
"""How many lost sessions one call survives: with one more it gives up."""

LAYOUT: Final = 1
"""The layout of the stored data that this version reads and writes."""

OK, LATE, OTHER_LAYOUT = 1, -1, -2
"""The first number of a reply; it is 0 if there is no session."""

FIRST: Final = (0,)
"""The places of a single step."""

Reply = Sequence[int | None]

Outcome = CounterState | Change | Exception
"""What became of a step: its result, or the error that its caller gets."""


class Kind(Enum):
    """What a call is for. All but `STEPS` have a request of their own (R16, R18)."""

    STEPS = "run a caller's steps"
    LOOKS = "look at counters that the instance need not remember"
    BEAT = "be heard, and look after the remembered counters"
    LEAVE = "drop the slices and close the session"


class Call:
    """Steps that share a request, and what became of each so far.

    Attributes:
        outcomes: the outcome of each step, in order; complete once `done`.
        failure: the error that ended the call, if it got no reply. It is the outcome of a call
            without steps.
        kind: what it is for.
        indeterminate: whether a request with these steps may have been executed unseen (R12).
        losses: how often the session was lost during this call.
        by_key: where the steps that still need an answer are, by key in order of first use.
        increments: the counts of the steps on a key, if all of them are plain `inc`s.
    """

    steps: Sequence[Step]
    outcomes: list[Outcome | None]
    failure: Exception | None
    kind: Kind
    indeterminate: bool
    losses: int
    done: bool
    by_key: dict[str, Sequence[int]]
    increments: dict[str, Increments | None]

    def __init__(self, steps: Sequence[Step] = (), kind: Kind = Kind.STEPS) -> None:
        self.failure = None
        self.kind = kind
        self.done = False
        self.indeterminate = False
        self.losses = 0
        self.carry(steps)

    def carry(self, steps: Sequence[Step]) -> None:
        """Make these the steps of the call, none of which has run."""
        self.outcomes = [None] * len(steps)
        self.steps = steps
        if len(steps) == 1:
            self.by_key, self.increments = {steps[0].key: FIRST}, {}
        else:
            self._gather(range(len(steps)))

    @classmethod
    def of_the_same(cls, step: Step, times: int) -> Call:
        """A call of one step, so many times."""
        call = cls()
        call.steps, call.outcomes = [step] * times, [None] * times
        call.by_key = {step.key: range(times)}
        return call

    def _gather(self, places: Iterable[int]) -> None:
        """Sort the steps at these places by key."""
        places = [*places]
        keys = [self.steps[place][0] for place in places]
        self.increments = {}
        if keys and keys.count(keys[0]) == len(keys):
            self.by_key = {keys[0]: places}
            return
        by_key: dict[str, list[int]] = {}
        for key, place in zip(keys, places, strict=True):
            if key in by_key:
                by_key[key].append(place)
            else:
                by_key[key] = [place]
        self.by_key = {**by_key}

    def mark_indeterminate(self) -> None:
        """R12: a copy may have run, and its session is gone. Only steps that change nothing but the
        slice may run again: the slice is put back as it was before, but an epoch cannot be."""
        self.indeterminate = True
        todo = sorted(place for places in self.by_key.values() for place in places)
        for place in todo:
            if self.steps[place].op in GLOBAL:
                self.outcomes[place] = OutcomeUnknownError(
                    "the session was lost before the reply: it may have been executed, once"
                )
        self._gather(place for place in todo if self.steps[place].op not in GLOBAL)

    def end(self, reason: str, cause: BaseException | None) -> None:
        """End without a reply: a step that has no outcome yet is unknown or was not executed."""
        kind = OutcomeUnknownError if self.indeterminate else NotExecutedError
        tail = "it may have been executed, once" if self.indeterminate else "it was not executed"

        def error() -> Exception:  # one for each caller: each raise adds to its own traceback
            made = kind(f"{reason}: {tail}")
            made.__cause__ = cause
            return made

        self.failure = error()
        self.outcomes = [error() if outcome is None else outcome for outcome in self.outcomes]
        self.done = True


DIVIDED: Final = 2
"""The layout of a prefix that is divided into partitions: no instance opens a session in it."""


def other_layout(found: int, prefix: str) -> LayoutError:
    """The error for a prefix whose head begins with another number than `LAYOUT`."""
    if found == DIVIDED:
        return PartitionsError(prefix, None, 1)
    return LayoutError(found, LAYOUT, prefix)


class Purpose(Enum):
    """What a request is for."""

    OPEN = "open a session"
    RESTORE = "put slices back"
    CALL = "run the call's steps"
    DROP = "drop slices"
    LEAVE = "close the session"


class Request:
    """One run of the script, and what is known of its way there.

    Attributes:
        purpose: what it is for.
        call: the steps that it carries.
        keys: the script's KEYS.
        head, parts: its ARGV, except the wall clock, which is read at each transmission.
        seq: its number.
        arrived: whether a copy of it may have reached the server.
        resent: whether a copy may have reached the server before the last transmission (R12).
        transmissions: how often it was sent.
    """

    __slots__ = (
        "arrived",
        "call",
        "head",
        "keys",
        "parts",
        "purpose",
        "resent",
        "seq",
        "transmissions",
    )

    purpose: Purpose
    call: Call
    keys: list[bytes]
    head: tuple[bytes, int | str, int, int, int, int]
    parts: list[str | int]
    seq: int
    arrived: bool
    resent: bool
    transmissions: int

    def __init__(
        self,
        purpose: Purpose,
        call: Call,
        keys: list[bytes],
        head: tuple[bytes, int | str, int, int, int, int],
        parts: list[str | int],
        seq: int,
    ) -> None:
        self.purpose, self.call, self.seq = purpose, call, seq
        self.keys, self.head, self.parts = keys, head, parts
        self.arrived = self.resent = False
        self.transmissions = 0


class Instance:
    """What an instance knows: its session, its numbers, and its slices.

    Args:
        space: the prefix's Redis keys.
        instance_id: this instance's name.
        threshold_ms: how long this instance may be silent before the others presume it dead, in ms
            (R5).
        seq: the number before this instance's first request. An earlier instance of the same id
            must not have used the numbers that follow.
        label: what a person calls the instance; Redis keeps it with the session.

    Attributes:
        memory: what it knows of its slices (R10).
        promise_ms: within how many ms the instance will be heard again if it lives (R19); 0: it
            does not promise anything.
    """

    space: Keyspace
    instance_id: str
    threshold_ms: int
    label: str
    promise_ms: int
    memory: dict[str, Memory]
    call: Call
    session: int
    last: int
    fence: int
    seq: int
    acked: int

    def __init__(
        self,
        space: Keyspace,
        instance_id: str,
        threshold_ms: int,
        seq: int = 0,
        label: str = "",
    ) -> None:
        self.space = space
        self.instance_id = instance_id
        self.threshold_ms = threshold_ms
        self.label = label
        self.promise_ms = 0
        self.memory = {}
        self.call = Call()
        self.call.done = True
        # The numbers, under their names in PROTOCOL.md.
        self.session = 0  # 0: none
        self.last = 0  # the session before, which may be lost
        self.fence = 0  # the request that opened it: nothing sent before it can execute any more
        self.seq = seq
        self.acked = 0
        self._me = instance_id.encode()
        self._restoring: list[str] = []  # the keys whose slices are not in this session yet
        self._sent: Request | None = None
        self._housekeeping = Housekeeping()

    @property
    def has_opened(self) -> bool:
        """Whether this instance has a session, as far as it knows."""
        return bool(self.session)

    @property
    def to_put_back(self) -> int:
        """How many slices have to be put back before the call's own steps are sent (R10)."""
        return len(self._restoring)

    def begin(self, call: Call) -> None:
        """Make this the current call, if it is not already. There is one at a time."""
        if call is self.call:
            return
        assert self.call.done
        self._sent = None
        if self.call.kind is Kind.BEAT:
            self._housekeeping.since = self.seq
        if call.kind is Kind.LEAVE:
            self._begin_to_leave(call)
        elif call.kind is Kind.BEAT:
            self._begin_to_beat(call)
        self.call = call

    def _begin_to_leave(self, call: Call) -> None:
        """R16: it forgets its counts now, whatever becomes of the requests."""
        call.carry([Step(key, DROP) for key in sorted(self.memory)])
        call.done = not self.session
        self.memory = {}
        self._housekeeping.forget(self.memory)

    def _begin_to_beat(self, call: Call) -> None:
        """R10, R18: it forgets what it lets go of now, because a copy of the request may arrive at
        any time."""
        looks, let_go = self._housekeeping.plan(self.memory)
        call.carry([Step(key, LOOK) for key in (*looks, *let_go)])
        for key in let_go:
            del self.memory[key]

    def speak(self) -> Request:
        """The request in flight, or the one that the call needs next."""
        if self._sent is None:
            ready = self.session and not self._restoring and self.call.kind is not Kind.LEAVE
            self._sent = self._ask(Purpose.CALL, self.call) if ready else self._prepare()
        return self._sent

    def hear(self, reply: Reply) -> None:
        """Take the reply to the request in flight."""
        request, call = self._sent, self.call
        assert request is not None
        if reply[0] == OTHER_LAYOUT:
            self.refuse(other_layout(_number(reply[1]), self.space.prefix))
        elif request.purpose is Purpose.LEAVE or (reply[0] != OK and call.kind is Kind.LEAVE):
            self._leave(request, reply)
        elif reply[0] != OK:
            self._lose_session(request, reply)
        elif request.purpose is Purpose.OPEN:
            self._open(request, _number(reply[1]))
        elif request.purpose is Purpose.DROP:
            self.acked = request.seq
            self._dropped(request)
        else:
            self.acked = request.seq
            self._learn(request, reply)
            if request.purpose is Purpose.CALL:
                call.done = True
        self._sent = None

    def give_up(self, cause: BaseException | None) -> None:
        """End the call without a reply. A copy of the request in flight either has been executed or
        never will be, because the next request has a higher number."""
        request, call = self._sent, self.call
        assert request is not None
        if request.purpose is Purpose.DROP:  # R16: it still leaves
            call.by_key = {}
            self._sent = None
            return
        if request.arrived and request.purpose in (Purpose.CALL, Purpose.LEAVE):
            call.indeterminate = True
        self._drop_partial_session()
        call.end(f"no reply from Redis ({cause})", cause)
        self._sent = None

    def refuse(self, error: Exception) -> None:
        """End the call with this error for every caller: the server refused the request and
        executed nothing of it. Steps that may have run before are unknown all the same (R12)."""
        call = self.call
        if self._sent is not None and self._sent.purpose is Purpose.DROP:  # R16: it still leaves
            call.by_key = {}
            self._sent = None
            return
        self._drop_partial_session()
        self._sent = None
        if call.indeterminate:  # R12: the steps were sent before, in a session that is lost
            call.end(f"Redis refused to run it again ({error})", error)
            return
        call.failure = error
        call.outcomes = [
            _one_more(error) if outcome is None else outcome for outcome in call.outcomes
        ]
        call.done = True

    def _drop_partial_session(self) -> None:
        """Forget a partial session: the next call opens a new one and puts back everything."""
        if self._restoring or self.call.kind is Kind.LEAVE:
            self.session = 0
            self._restoring = []

    # --- Requests --------------------------------------------------------------------------------

    def _prepare(self) -> Request:
        """What comes before the call's steps, or closes the session."""
        if self.call.kind is Kind.LEAVE:
            if not self.call.by_key:
                return self._request(Purpose.LEAVE, f"-{self.session}", [])
            keys = list(self.call.by_key)[:RESTORE_CHUNK]
            return self._ask(Purpose.DROP, Call([Step(key, DROP) for key in keys]))
        if not self.session:
            return self._request(Purpose.OPEN, 0, [self.last, self.label])
        # Reads are enough: every request carries what is remembered of each of its counters.
        chunk = Call([Step(key, GET) for key in self._restoring[:RESTORE_CHUNK]])
        return self._ask(Purpose.RESTORE, chunk)

    def _request(self, purpose: Purpose, session: int | str, parts: list[str | int]) -> Request:
        """A request that carries no counters."""
        self.seq = seq = self.seq + 1
        head = (self._me, session, seq, self.acked, self.threshold_ms, self.promise_ms)
        return Request(purpose, self.call, [*self.space.own], head, parts, seq)

    def _ask(self, purpose: Purpose, call: Call) -> Request:
        """The request that carries the call's steps, with what is remembered of each counter."""
        memory, fence, steps = self.memory, self.fence, call.steps
        keys = [*self.space.own]
        parts: list[str | int] = []
        for key, places in call.by_key.items():
            if len(places) == 1:
                step = steps[places[0]]
                spelt, writes = spell(step), step.op not in READS
            else:
                call.increments[key] = counts = increments(steps, places)
                spelt = spelled(steps, places, counts)
                writes = spelt != ""
            epoch, count, seq = memory.get(key) or (0, 0, fence)
            parts += (epoch, count, seq if seq > fence else fence, spelt)
            keys.append(self.space.counters + key.encode())
            if writes and key not in memory:
                # The slice may exist from now on, even if no reply says so.
                memory[key] = Memory(0, 0, fence)
                self._housekeeping.unheard[key] = None
        session = f"+{self.session}" if purpose is Purpose.RESTORE else self.session
        self.seq = seq = self.seq + 1
        head = (self._me, session, seq, self.acked, self.threshold_ms, self.promise_ms)
        return Request(purpose, call, keys, head, parts, seq)

    # --- Replies ---------------------------------------------------------------------------------

    def _open(self, request: Request, number: int) -> None:
        self.acked = self.fence = request.seq
        # 0 in epoch 0 is what an instance that remembers nothing would find (R18).
        self.memory = {key: mine for key, mine in self.memory.items() if mine[0] or mine[1]}
        self._housekeeping.forget(self.memory)
        self._restoring = sorted(self.memory)
        self.session = self.last = number

    def _leave(self, request: Request, reply: Reply) -> None:
        if reply[0] == OK:
            self.acked = request.seq
        self._take_higher_numbers(reply)
        self.session = 0
        self.call.done = True

    def _dropped(self, request: Request) -> None:
        dropped = request.call.by_key
        todo = self.call.by_key
        self.call.by_key = {key: places for key, places in todo.items() if key not in dropped}

    def _lose_session(self, request: Request, reply: Reply) -> None:
        call = self.call
        if request.purpose is Purpose.CALL and request.resent:
            call.mark_indeterminate()
        self._take_higher_numbers(reply)
        self.session = 0
        self._restoring = []
        call.losses += 1
        if call.losses > PATIENCE:
            again = f"{PATIENCE + 1} times in a row"
            call.end(f"the session was lost {again} (is the instance id shared?)", None)

    def _take_higher_numbers(self, reply: Reply) -> None:
        """A late reply says that an earlier instance of this id used higher numbers."""
        if reply[0] == LATE:
            self.seq = max(self.seq, _number(reply[1]))

    def _learn(self, request: Request, reply: Reply) -> None:
        """Compute each step's result from the state before, and remember the state after."""
        outcomes, memory, seq = request.call.outcomes, self.memory, request.seq
        zeros, unheard = self._housekeeping.zeros, self._housekeeping.unheard
        steps, at = request.call.steps, 1
        for key, places in request.call.by_key.items():
            high, low, epoch, count = reply[at : at + 4]
            at += 4
            if high is None or low is None or epoch is None or count is None:
                self._refuse(outcomes, key, places)
                continue
            state: View = high * SPAN + low, epoch, count
            if len(places) == 1:
                step = steps[places[0]]
                state, outcomes[places[0]] = transition(state, step) or (state, _overflow(step))
            else:
                state = self._run_many(state, request.call, key, places, outcomes)
            _, epoch, own = state
            if own or key in memory:
                memory[key] = Memory(epoch, own, seq)
                if unheard:
                    unheard.pop(key, None)
                if not own:
                    zeros.pop(key, None)  # it moves to the end
                    zeros[key] = None
                elif key in zeros:
                    del zeros[key]
        if request.purpose is Purpose.RESTORE:
            done_with = request.call.by_key.keys()
            self._restoring = [key for key in self._restoring if key not in done_with]

    def _run_many(
        self,
        before: View,
        call: Call,
        key: str,
        places: Sequence[int],
        outcomes: list[Outcome | None],
    ) -> View:
        """Run the call's steps on this counter. Returns the state after them."""
        counts = call.increments.get(key)
        together = run_together(before, counts) if counts else None
        after, results = together or run_each(before, call.steps, places)
        if together and len(results) == len(outcomes):
            outcomes[:] = results
            return after
        for place, result in zip(places, results, strict=True):
            outcomes[place] = result or _overflow(call.steps[place])
        return after

    def _refuse(self, outcomes: list[Outcome | None], key: str, places: Iterable[int]) -> None:
        name = self.space.counter(key).decode()
        for place in places:
            outcomes[place] = InvalidKeyError(
                f"{key!r} cannot be a counter: the Redis key {name!r} holds something else"
            )


def _one_more(error: Exception) -> Exception:
    """A copy of the error: each raise adds to the traceback of its own."""
    try:
        made = copy.copy(error)
    except Exception:  # its class cannot be rebuilt from its arguments
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
