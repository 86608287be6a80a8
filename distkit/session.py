"""An instance's side of the protocol, without I/O: calls in, requests out, results back.

`Session.run` is a generator. It yields a `Request`, to be sent as often as it takes; it is sent the
`Answer`, or thrown the exception that ended the sending; it returns an outcome for each step. The
shell around it (`counter.py`) owns connections and a lock, and knows none of the rules.

What this file keeps:
  * One request in flight, numbered by a `seq` that grows by 1 and never restarts (R11).
  * The slice has one writer, and its owner remembers it (R10): each reply updates the memory, and a
    new session is followed by requests of bounded size that put back all that is remembered.
  * An outcome is given once and is true (R12): a step is run again only where that is exact.

See Raft's client sessions (Ongaro, dissertation, section 6.3) and RIFL (SOSP 2015).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Final, NamedTuple

from distkit.errors import (
    CounterOverflowError,
    InvalidKeyError,
    NotExecutedError,
    OutcomeUnknownError,
)
from distkit.keys import Keyspace
from distkit.steps import GET, GLOBAL, SPAN, CounterState, State, Step, spell, transition

RESTORE_CHUNK: Final = 100
"""R10: the most slices that are put back in one request: about 0.5 ms of the server's time."""

PATIENCE: Final = 8
"""How often a session is reopened within one call before the call stops trying."""

OK, NO_SESSION, LATE = 1, 0, -1
"""The first number of a reply."""

Outcome = CounterState | Exception
"""What a step came to: its result, or the error that its caller is to see."""


class Memory(NamedTuple):
    """A slice as its owner knows it, as of the owner's own request `seq` (R10)."""

    epoch: int
    value: int
    seq: int


class Request(NamedTuple):
    """One run of the script. The wall clock is the shell's to fill in, at each transmission."""

    keys: list[str]
    head: tuple[str | int, ...]
    parts: list[str | int]

    def args(self, wall_ms: int | None) -> list[str | int]:
        """The script's ARGV; without a wall clock the script reads the server's."""
        return [*self.head, "" if wall_ms is None else wall_ms, *self.parts]


class Answer(NamedTuple):
    """A reply, and whether the request had been sent before without one."""

    reply: Sequence[int | None]
    resent: bool


class Abandoned(Exception):
    """Thrown into `run`: no reply can be had. `arrived` says that a copy may have been executed."""

    def __init__(self, arrived: bool) -> None:
        self.arrived = arrived


Run = Generator[Request, Answer, list[Outcome]]


class _Call:
    """The steps of one run, and what became of them so far."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.outcomes: list[Outcome | None] = [None] * len(steps)
        self.doubtful = False
        self._ask_for(list(enumerate(steps)))

    def _ask_for(self, todo: Iterable[tuple[int, Step]]) -> None:
        self.by_key: dict[str, list[tuple[int, Step]]] = {}
        for place, step in todo:
            self.by_key.setdefault(step.key, []).append((place, step))

    def doubt(self) -> None:
        """R12: a copy may have run, and its session is gone. Only slice-local steps may run again:
        the slice is put back to what it was before; an epoch cannot be."""
        self.doubtful = True
        todo = sorted(item for steps in self.by_key.values() for item in steps)
        for place, step in todo:
            if step.op in GLOBAL:
                self.outcomes[place] = OutcomeUnknownError(
                    "the session was lost before the reply: it may have been executed, once"
                )
        self._ask_for(item for item in todo if item[1].op not in GLOBAL)

    def end(self, reason: str, cause: BaseException | None) -> Exception:
        """Give what is left one outcome; return the error for a call that has no steps."""
        error: Exception
        if self.doubtful:
            error = OutcomeUnknownError(f"{reason}: it may have been executed, once")
        else:
            error = NotExecutedError(f"{reason}: it was not executed")
        error.__cause__ = cause
        self.outcomes = [error if outcome is None else outcome for outcome in self.outcomes]
        return error

    def result(self) -> list[Outcome]:
        assert None not in self.outcomes
        return [outcome for outcome in self.outcomes if outcome is not None]


class Session:
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
        self._number = 0  # 0: no session
        self._fence = 0  # the request that opened it: nothing sent before can execute any more
        self._seq = seq
        self._acked = 0

    def run(self, steps: Sequence[Step]) -> Run:
        """Run the steps in one request; none at all is a heartbeat (R4).

        Returns:
            For each step its `CounterState`, or the exception that its caller is to see.

        Raises:
            OutcomeUnknownError, NotExecutedError: a call without steps got no reply.
        """
        call = _Call(steps)
        carried = False
        try:
            for _ in range(PATIENCE + 1):
                carried = False
                if not (yield from self._reopen()):
                    continue
                carried = True
                answer = yield self._ask(call)
                if answer.reply[0] == OK:
                    self._learn(call, answer.reply)
                    return call.result()
                self._lose_session(answer.reply)
                if answer.resent:
                    call.doubt()
        except Abandoned as end:
            call.doubtful = call.doubtful or (carried and end.arrived)
            return self._give_up(call, f"no reply from Redis ({end.__cause__})", end.__cause__)
        reason = f"the session was lost {PATIENCE + 1} times in a row (is the instance id shared?)"
        return self._give_up(call, reason, None)

    def _give_up(self, call: _Call, reason: str, cause: BaseException | None) -> list[Outcome]:
        error = call.end(reason, cause)
        if not call.outcomes:
            raise error
        return call.result()

    def _reopen(self) -> Generator[Request, Answer, bool]:
        """Have a session, with every remembered slice put back; False if it was lost again."""
        if self._number:
            return True
        answer = yield self._request("0", [], [])
        if answer.reply[0] != OK:
            self._lose_session(answer.reply)
            return False
        self._acked = self._fence = self._seq
        number = _number(answer.reply[1])
        keys = sorted(self.memory)
        for first in range(0, len(keys), RESTORE_CHUNK):
            chunk = _Call([Step(key, GET) for key in keys[first : first + RESTORE_CHUNK]])
            answer = yield self._ask(chunk, number)
            if answer.reply[0] != OK:
                self._lose_session(answer.reply)
                return False
            self._learn(chunk, answer.reply)
        # Only now: if the sending ends halfway, the next call begins with a new session.
        self._number = number
        return True

    def _ask(self, call: _Call, number: int | None = None) -> Request:
        """The request that carries the call's steps, with what is remembered of each counter."""
        keys: list[str] = []
        parts: list[str | int] = []
        for key, steps in call.by_key.items():
            spelt = "".join([spell(step) for _, step in steps])
            epoch, count, seq = self.memory.get(key) or (0, 0, 0)
            keys.append(self.space.counter(key))
            parts += (epoch, count, max(seq, self._fence), spelt)
            if spelt and key not in self.memory:
                # It may have a slice from now on, whether or not a reply says so: it belongs among
                # those that are put back, as 0, when the session is lost.
                self.memory[key] = Memory(0, 0, self._fence)
        return self._request(str(number or self._number), keys, parts)

    def _request(self, session: str, keys: list[str], parts: list[str | int]) -> Request:
        self._seq += 1
        head = (self.instance_id, session, self._seq, self._acked, self.threshold_ms)
        return Request([self.space.instances, self.space.keys, *keys], head, parts)

    def _lose_session(self, reply: Sequence[int | None]) -> None:
        self._number = 0
        if reply[0] == LATE:  # an earlier life of this id has used higher numbers
            self._seq = max(self._seq, _number(reply[1]))

    def _learn(self, call: _Call, reply: Sequence[int | None]) -> None:
        """Work out each step's result from the state before; remember the state after."""
        self._acked = self._seq
        for i, (key, steps) in enumerate(call.by_key.items()):
            high, low, epoch, count = reply[1 + 4 * i : 5 + 4 * i]
            if high is None or low is None or epoch is None or count is None:
                self._refuse(call, key, steps)
                continue
            state = State(high * SPAN + low, epoch, count)
            for place, step in steps:
                done = transition(state, step)
                if done is None:
                    call.outcomes[place] = _overflow(step)
                else:
                    state, call.outcomes[place] = done
            if state.epoch or state.own or key in self.memory:
                self.memory[key] = Memory(state.epoch, state.own, self._seq)

    def _refuse(self, call: _Call, key: str, steps: Iterable[tuple[int, Step]]) -> None:
        name = self.space.counter(key)
        for place, _ in steps:
            call.outcomes[place] = InvalidKeyError(
                f"{key!r} cannot be a counter: the Redis key {name!r} holds something else"
            )


def _number(value: int | None) -> int:
    assert value is not None, "the script answers a number here"
    return value


def _overflow(step: Step) -> CounterOverflowError:
    return CounterOverflowError(
        f"{step.key!r}: a count or the total would be outside -(2^53 - 1)..2^53 - 1"
    )
