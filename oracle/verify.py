"""Look for a history that a port answers wrongly, and shrink it: Hypothesis against a port.

Histories are drawn from the strategies of our own suite (oracle/strategies.py), as far as the port
can do what is in them. A history is drawn whole and played then, so that one which came too near
the threshold in real time can be played again.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, Verbosity, reject, seed, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from oracle import strategies
from oracle.lines import EMPTY, LOSE_REPLY, OPERATIONS, Capabilities, History, Line
from oracle.play import Differs, TooNear, play
from oracle.port import Broke, Port

START_MS = 1_000_000
NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
REAL_TIME_STEP = 0.6
"""How far the clock goes at a time on a port with real time only, in thresholds: one step is far
below the threshold, two are far above it."""
REAL_TIME_THRESHOLD_MS = 200


class Failure(Enum):
    DIFFERS = "differs"
    BROKE = "broke"


class Found(NamedTuple):
    """The shortest history that failed. `unsteady`: it does not fail each time."""

    failure: Failure
    history: History
    error: Differs | Broke
    unsteady: bool = False


class Outcome(NamedTuple):
    """What came of a run: how many histories and steps were played before anything failed, how many
    came too near the threshold in real time, and what was found."""

    histories: int
    steps: int
    dropped: int
    found: Found | None


class Plan(NamedTuple):
    """How hard to look. `threshold_ms` 0: drawn, or small on a port with real time only."""

    examples: int = 200
    steps: int = 50
    seed: int = 0
    threshold_ms: int = 0


Progress = Callable[[Outcome], None]


class _Hung(BaseException):
    """A port that hangs is not shrunk: each attempt would take the whole time limit. Not an
    Exception, so that Hypothesis lets it through."""

    def __init__(self, history: History, error: Broke) -> None:
        super().__init__(str(error))
        self.history = history
        self.error = error


class _Search:
    """Plays what Hypothesis draws, and remembers the shortest failure."""

    def __init__(self, port: Port, progress: Progress) -> None:
        self._port = port
        self._progress = progress
        self.outcome = Outcome(0, 0, 0, None)
        self.tries = 0

    def play(self, history: History) -> None:
        try:
            steps = play(history, self._port)
        except TooNear:
            self.outcome = self.outcome._replace(dropped=self.outcome.dropped + 1)
            reject()
        except Differs as error:
            self._note(Found(Failure.DIFFERS, _cut(history, error), error))
            raise
        except Broke as error:
            self._note(Found(Failure.BROKE, history, error))
            if error.hung:
                raise _Hung(history, error) from error
            raise
        if self.outcome.found is None:
            histories, played = self.outcome.histories + 1, self.outcome.steps + len(steps)
            self.outcome = self.outcome._replace(histories=histories, steps=played)
        self._progress(self.outcome)

    def _note(self, found: Found) -> None:
        best = self.outcome.found
        if best is None or len(found.history.lines) <= len(best.history.lines):
            self.outcome = self.outcome._replace(found=found)
        self._progress(self.outcome)


def _cut(history: History, error: Differs) -> History:
    """The history up to the wrong answer."""
    return history._replace(lines=history.lines[: len(error.steps)])


def search(port: Port, plan: Plan, progress: Progress = lambda _: None) -> Outcome:
    """Draw histories, play them on the port, and shrink the first that fails.

    Args:
        port: started; it is restarted when it breaks.
        plan: how many histories, how long, which seed, which threshold.
        progress: told after each history.
    """
    looking = _Search(port, progress)
    machine = seed(plan.seed)(machine_for(port.capabilities, plan, looking.play))
    how = settings(
        max_examples=plan.examples,
        stateful_step_count=plan.steps,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    run: Any = run_state_machine_as_test  # untyped in the older releases that Python 3.10 gets
    try:
        run(machine, settings=how)
    except (Differs, Broke, _Hung):
        pass
    except Flaky:
        found = looking.outcome.found
        assert found is not None, "only what failed once can be flaky"
        return looking.outcome._replace(found=found._replace(unsteady=True))
    return looking.outcome


# --- Histories -----------------------------------------------------------------------------------


class _Histories(RuleBasedStateMachine):
    """Writes a history down, and gives it to `finish` at the end. Subclassed by `machine_for`."""

    finish: Callable[[History], None]
    capabilities: Capabilities

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self.wall_ms = START_MS
        self.threshold_ms = 0
        self.names = list(NAMES[: strategies.MOST_INSTANCES])
        self.born = len(self.names)

    def write(self, op: str, who: int, **fields: object) -> None:
        fields = {name: value for name, value in fields.items() if value is not False}
        line = {"op": op, "instance": self.names[who], **fields, "wall_ms": self.wall_ms}
        self.lines.append(line)

    def write_call(self, op: str, who: int, key: str, count: int, lose_reply: bool = False) -> None:
        given = {"key": key, "count": count}
        fields = {name: given[name] for name in OPERATIONS[op].fields}
        self.write(op, who, **fields, lose_reply=lose_reply)

    def replace(self, who: int) -> None:
        self.lines.append({"op": "die", "instance": self.names[who]})
        self.names[who] = f"{NAMES[self.born % len(NAMES)]}{self.born // len(NAMES) or ''}"
        self.born += 1

    def teardown(self) -> None:
        if self.threshold_ms:
            type(self).finish(History(self.threshold_ms, tuple(self.lines)))


_who = st.integers(0, strategies.MOST_INSTANCES - 1)


def machine_for(
    capabilities: Capabilities, plan: Plan, finish: Callable[[History], None]
) -> type[RuleBasedStateMachine]:
    """The state machine that draws histories which this port can play."""
    body: dict[str, Any] = {"finish": staticmethod(finish), "capabilities": capabilities}
    body["begin"] = _begin(capabilities, plan)
    body |= _calls(capabilities)
    body |= _events(capabilities)
    return type("Histories", (_Histories,), body)


def _begin(capabilities: Capabilities, plan: Plan) -> Any:
    thresholds = st.just(plan.threshold_ms or REAL_TIME_THRESHOLD_MS)
    if capabilities.virtual_clock and not plan.threshold_ms:
        thresholds = strategies.thresholds

    def begin(self: _Histories, threshold_ms: int) -> None:
        self.threshold_ms = threshold_ms

    return initialize(threshold_ms=thresholds)(begin)


def _calls(capabilities: Capabilities) -> dict[str, Any]:
    """What instances do: everything that the port offers, the ordinary more often."""
    can = capabilities.operations
    lost = st.just(False)
    if LOSE_REPLY in capabilities.faults:
        lost = st.sampled_from([False, False, False, True])
    rules: dict[str, Any] = {}

    def call(self: _Histories, who: int, key: str, op: str, count: int, lose: bool) -> None:
        self.write_call(op, who, key, count, lose)

    on_a_key = [op for op in strategies.KINDS if op in can]
    if on_a_key:
        drawn: dict[str, Any] = {"who": _who, "op": st.sampled_from(on_a_key), "lose": lost}
        a_call: Any = rule(key=strategies.keys, count=strategies.counts, **drawn)
        bad_call: Any = rule(key=strategies.bad_keys, count=st.just(1), **drawn)
        now_and_then: Any = precondition(lambda self: len(self.lines) % 8 == 0)
        rules |= {"call": a_call(call), "bad_call": now_and_then(bad_call(call))}
    plain = [op for op in strategies.PLAIN_KINDS if op in can]
    if plain:

        def plain_call(self: _Histories, who: int, key: str, op: str, count: int) -> None:
            self.write_call(op, who, key, count)

        rules["plain_call"] = rule(
            who=_who, key=strategies.keys, op=st.sampled_from(plain), count=strategies.small_counts
        )(plain_call)
    if "heartbeat" in can:

        def heartbeat(self: _Histories, who: int, lose: bool) -> None:
            self.write("heartbeat", who, lose_reply=lose)

        rules["heartbeat"] = rule(who=_who, lose=lost)(heartbeat)
    clears = [op for op in ("clear_on_instance", "clear") if op in can]
    if clears:

        def clear(self: _Histories, who: int, op: str) -> None:
            self.write(op, who)

        rules["clear"] = rule(who=_who, op=st.sampled_from(clears))(clear)
    return rules


def _events(capabilities: Capabilities) -> dict[str, Any]:
    """Time, deaths and losses."""
    rules: dict[str, Any] = {}

    def die(self: _Histories, who: int) -> None:
        self.replace(who)

    rules["die"] = precondition(lambda self: self.lines)(rule(who=_who)(die))
    if capabilities.virtual_clock:

        def clock(self: _Histories, how: str, off: int) -> None:
            self.wall_ms += strategies.jump(how, self.threshold_ms) + off

        rules["clock"] = rule(how=strategies.jumps, off=strategies.offsets)(clock)
    else:

        def wait(self: _Histories, times: int) -> None:
            self.wall_ms += int(times * REAL_TIME_STEP * self.threshold_ms)

        rules["clock"] = rule(times=st.sampled_from([1, 2]))(wait)
    if {"inc", "get"} <= capabilities.operations and capabilities.virtual_clock:

        def fall_silent(self: _Histories, who: int, other: int, key: str, off: int) -> None:
            self.write_call("inc", who, key, 1)
            self.wall_ms += self.threshold_ms + off
            self.write_call("get", other, key, 0)

        rules["fall_silent"] = rule(
            who=_who, other=_who, key=strategies.keys, off=strategies.touches
        )(fall_silent)
    if EMPTY in capabilities.faults:

        def empty(self: _Histories) -> None:
            self.lines.append({"op": EMPTY})

        rules["empty"] = precondition(lambda self: self.lines)(rule()(empty))
    return rules
