"""An instance in memory: the model's instance, what it holds, and the way to the server.

The counters, for threads and for asyncio, are thin covers of this. Whoever uses it holds the
server's lock, which is reentrant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from oracle import model
from oracle.in_memory.server import LOST_REPLY, NOT_EXECUTED, InMemoryServer
from oracle.in_memory.types import InMemoryError, registered
from oracle.model import Change, CounterState
from oracle.model import holding as r20

Result = TypeVar("Result", CounterState, Change)


class Machine:
    """An instance in memory, in one partition.

    Args:
        server: the `InMemoryServer`.
        place: what the server calls the partition: the prefix, if it is not divided (R21).
        instance: the model's.
        claim: called before each call: it raises an error if the prefix is divided otherwise.

    Attributes:
        server: the `InMemoryServer`.
        place: what the server calls the partition.
        instance: the model's.
        holding: what its holders hold (R20).
        lines: who waits for a slot, in order, for each key and limit.
        kept: the slots that were acquired by name, by key.
    """

    def __init__(
        self,
        server: InMemoryServer,
        place: str,
        instance: model.Instance,
        claim: Callable[[], None],
    ) -> None:
        self.server = server
        self.place = place
        self.instance = instance
        self._claim = claim
        self._rounds = model.Rounds()
        self.holding = r20.Holding()
        self.lines: dict[tuple[str, int], deque[object]] = {}
        self.kept: dict[str, list[Slot]] = {}
        self._paid: dict[str, model.Outcome] = {}  # what the owed steps of the last call came to
        self._life = 0  # it ends when the instance leaves: what was held before is held no more
        self._noted: deque[tuple[str, int, int]] = deque()  # releases that nothing was done about

    def leave(self) -> None:
        """R16, R20: nothing is held any more, and the session is closed."""
        with self.server.lock:
            self.holding = r20.Holding()
            self.kept.clear()
            self._life += 1
            self.instance = model.make_leave(self.instance, self._make).instance
        self.server.notify()

    # --- Calls -----------------------------------------------------------------------------------

    def one(self, step: tuple[str, model.Step], kind: type[Result]) -> Result:
        (result,) = self.results((step,), kind)
        if isinstance(result, InMemoryError):
            raise result
        return result

    def results(self, steps: model.Steps, kind: type[Result]) -> list[Result | InMemoryError]:
        """What became of each step, as the caller gets it."""
        made = self.run(lambda: steps)
        return [
            _result(outcome, key, step, kind)
            for (key, step), outcome in zip(steps, made.outcomes, strict=True)
        ]

    def run(self, steps: Callable[[], model.Steps], again: bool = False) -> model.Made:
        """Make a call, and tell those that wait that something may have changed."""
        with self.server.lock:
            made = self._run(steps(), again)
        self.server.notify()
        return made

    def _run(self, todo: model.Steps, again: bool = False) -> model.Made:
        """Make a call. What is owed goes with it, and first (R20)."""
        self._claim()
        while self._noted:
            key, count, life = self._noted.popleft()
            if life == self._life:
                self.holding = r20.release(self.holding, key, count)
        owed = r20.owed_steps(self.holding, again)
        made = model.make_steps(self.instance, owed + todo, self._make)
        self.instance = made.instance
        paid, outcomes = made.outcomes[: len(owed)], made.outcomes[len(owed) :]
        self.holding = r20.paid(self.holding, owed, paid)
        self._paid = {key: outcome for (key, _), outcome in zip(owed, paid, strict=True)}
        return made._replace(outcomes=outcomes)

    def _make(self, begun: model.Instance) -> model.Made:
        """Make the call that has begun: it gets through, unless the server was told otherwise."""
        state, instance = self.server.state(self.place), begun
        failure: str | None = None
        tried = False
        while instance.call is not None and not instance.call.done:
            instance = model.speak(instance)
            sent = instance.sent
            assert sent is not None
            carries = not isinstance(sent, model.Open) and not instance.restoring
            if not tried and (carries or self.server.is_down):
                tried, failure = True, self.server.take_failure()
            if failure is None or failure == LOST_REPLY:
                state, reply = model.serve(state, sent, self.server.wall_ms)
            if failure is None:
                instance = model.hear(instance, reply, resent=False)
            else:
                instance = model.give_up(instance, arrived=failure != NOT_EXECUTED)
        failed = instance.call.failure if instance.call is not None else ""
        instance, outcomes = model.finish(instance)
        self.server.keep(self.place, state)
        return model.Made(instance, outcomes, failed)

    def heartbeat(self) -> None:
        """R4, R10, R18: say that it is alive, set what it holds again, look after its counters."""
        with self.server.lock:
            self._claim()
            made = self._run((), again=True) if self.holding != r20.Holding() else None
            if made is None or not made.failure:
                made, self._rounds = model.make_heartbeat(self.instance, self._rounds, self._make)
                self.instance = made.instance
        self.server.notify()
        if made.failure:
            raise _error(made.failure)

    def clear_on_instance(self) -> None:
        made = self.run(lambda: model.clear_on_instance_steps(self.instance))
        if model.REFUSED in made.outcomes:
            raise registered().CounterOverflowError(
                "without one of this instance's slices a total would be outside ±(2^53 - 1)"
            )
        _raise_first(made)

    def clear(self) -> None:
        existing = self.server.existing
        _raise_first(self.run(lambda: model.clear_steps(self.instance, existing(self.place))))

    # --- Holding (R20) ---------------------------------------------------------------------------

    def enter(self, key: str, count: int, policy: str) -> tuple[Slot, CounterState | None]:
        """Hold from now on. If the server cannot be reached and that is not allowed, do not."""
        with self.server.lock:
            if count > model.LIMIT - self.holding.held.get(key, 0):
                raise registered().CounterOverflowError(
                    f"{key!r}: more than 2^53 - 1 would be held"
                )
            self.holding = r20.hold(self.holding, key, count)
            slot = Slot(self, key, count, self._life)
            self._run(())
            outcome = self._paid[key]
        if isinstance(outcome, CounterState):
            return slot, registered().state(outcome)
        if policy == "allow" and outcome != model.REFUSED:
            return slot, None
        slot.close()
        raise (_refused(key, "held") if outcome == model.REFUSED else _error(str(outcome)))

    def ask(self, key: str, most: int, policy: str) -> Slot | InMemoryError | None:
        """Ask for one of `most` slots: the slot, or None, or the error that it ended with."""
        made = self._run((r20.limit_step(key, most),))
        (outcome,) = made.outcomes
        self.holding = r20.admit(self.holding, key, outcome)
        if isinstance(outcome, Change):
            return Slot(self, key, 1, self._life) if outcome.applied else None
        if outcome == model.REFUSED:
            return _refused(key, "limit")
        if policy == "allow":
            self.holding = r20.hold(self.holding, key, 1)
            return Slot(self, key, 1, self._life)
        return _error(str(outcome))

    def keep(self, slot: Slot) -> None:
        """Own a slot in the name of its key."""
        self.kept.setdefault(slot.key, []).append(slot)

    def note(self, key: str, count: int, life: int) -> None:
        """A holder left. Nothing else happens now: this may run anywhere."""
        self._noted.append((key, count, life))

    def settle(self) -> None:
        """Tell the server what is owed. If it cannot be reached, it stays owed."""
        if self._noted:
            self.run(tuple)


class Slot:
    """A holder. It counts until it is closed, or until nobody refers to it."""

    def __init__(self, machine: Machine, key: str, count: int, life: int) -> None:
        self.key = key
        self._note = partial(machine.note, key, count, life)
        self._over = False

    def close(self) -> None:
        if not self._over:
            self._over = True
            self._note()

    def __del__(self) -> None:
        self.close()


def _result(
    outcome: model.Outcome, key: str, step: model.Step, kind: type[Result]
) -> Result | InMemoryError:
    types = registered()
    if isinstance(outcome, str):
        return _refused(key, step.op) if outcome == model.REFUSED else _error(outcome)
    assert isinstance(outcome, kind)
    made: Any = types.change(outcome) if isinstance(outcome, Change) else types.state(outcome)
    return cast(Result, made)  # it has the same attributes


def all_results(results: list[Result | InMemoryError]) -> list[Result]:
    """The results; or the first error is raised, after all steps have run (R2)."""
    for error in results:
        if isinstance(error, InMemoryError):
            error.outcomes = tuple(results)
            raise error
    return [result for result in results if not isinstance(result, InMemoryError)]


def _raise_first(made: model.Made) -> None:
    if made.error:
        raise _error(made.error)


def _error(name: str) -> InMemoryError:
    types = registered()
    if name == model.UNKNOWN:
        return types.OutcomeUnknownError("no reply: it may have been executed, once")
    return types.NotExecutedError("the server cannot be reached: it was not executed")


def _refused(key: str, what: str) -> InMemoryError:
    return registered().CounterOverflowError(
        f"{what} on {key!r}: a count or the total would be outside ±(2^53 - 1)"
    )
