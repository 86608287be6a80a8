"""Look for a history that a port answers wrongly, and shrink it: Hypothesis against a port.

Histories are drawn from the strategies of our own suite (oracle/conform/strategies.py), as far as
the port can do what is in them. A history is drawn whole and then played, so that one that came too
near the threshold in real time can be played again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, Verbosity, given, reject, seed, settings
from hypothesis.errors import Unsatisfiable

from oracle.conform import strategies
from oracle.conform.lines import (
    ALWAYS,
    CALL_FAULTS,
    EMPTY,
    OPERATIONS,
    Capabilities,
    History,
    Line,
)
from oracle.conform.play import Differs, TooNear, cannot_play, play
from oracle.conform.process import Broke, Port
from oracle.conform.shrink import shrink
from oracle.model import RELATIONS

START_MS = 1_000_000
NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
KINDS = (*strategies.KINDS, *strategies.CONDITIONAL_KINDS)
REAL_TIME_STEP = 0.6
"""How far the clock goes at a time on a port with real time only, in thresholds: one step is far
below the threshold, two are far above it."""
REAL_TIME_THRESHOLD_MS = 200


class Found(NamedTuple):
    """The shortest history that failed. `unsteady`: it did not fail again."""

    history: History
    error: Differs | Broke
    unsteady: bool = False


class Verdict(NamedTuple):
    """What came of a run: how many histories and steps were played before anything failed, how many
    came too near the threshold in real time, and what was found."""

    histories: int = 0
    steps: int = 0
    dropped: int = 0
    found: Found | None = None


class Plan(NamedTuple):
    """How hard to look. `threshold_ms` 0: drawn, or small on a port with real time only.
    `small_counts`: none near the ends of the range."""

    examples: int = 200
    steps: int = 50
    seed: int = 0
    threshold_ms: int = 0
    small_counts: bool = False


Progress = Callable[[Verdict], None]


class _Failed(BaseException):
    """Ends Hypothesis's run at once: it is no Exception, which it would replay and shrink."""

    def __init__(self, found: Found) -> None:
        super().__init__(str(found.error))
        self.found = found


def search(port: Port, plan: Plan, progress: Progress = lambda _: None) -> Verdict:
    """Draw histories, play them on the port, and shrink the first that fails.

    Args:
        port: started; it is restarted when it breaks.
        plan: how many histories, how long, which seed, which threshold.
        progress: told after each history.
    """
    verdict = Verdict()

    def check(history: History) -> None:
        nonlocal verdict
        try:
            steps = play(history, port)
        except TooNear:
            verdict = verdict._replace(dropped=verdict.dropped + 1)
            reject()
        except (Differs, Broke) as error:
            raise _Failed(Found(_failing_part(history, error), error)) from None
        else:
            verdict = verdict._replace(
                histories=verdict.histories + 1, steps=verdict.steps + len(steps)
            )
        progress(verdict)

    how = settings(
        max_examples=plan.examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    try:
        seed(plan.seed)(how(given(histories(port.capabilities, plan))(check)))()
    except _Failed as failed:
        verdict = verdict._replace(found=failed.found)
        progress(verdict)
        return verdict._replace(found=_shortest(failed.found, port, verdict, progress))
    except Unsatisfiable:
        assert verdict.histories == 0, "every one was too near the threshold"
    return verdict


def _failing_part(history: History, error: Differs | Broke) -> History:
    """The history up to the wrong answer; all of it if the port broke."""
    if isinstance(error, Broke):
        return history
    return history._replace(lines=history.lines[: len(error.steps)])


def _shortest(found: Found, port: Port, verdict: Verdict, progress: Progress) -> Found:
    """Shrink what was found, unless the port hangs: each attempt would take the time limit."""
    if isinstance(found.error, Broke) and found.error.hung:
        return found
    best = found

    def fails(history: History) -> History | None:
        nonlocal best
        if isinstance(found.error, Broke):
            port.end()  # it is to break on this history, not on those before it
        if cannot_play(history, port.capabilities):
            return None
        try:
            play(history, port)
        except TooNear:
            return None
        except (Differs, Broke) as error:
            if type(error) is not type(found.error) or getattr(error, "hung", False):
                return None
            best = Found(_failing_part(history, error), error)
            progress(verdict._replace(found=best))
            return best.history
        return None

    if fails(found.history) is None:
        return found._replace(unsteady=True)
    shrink(best.history, fails)
    return best


# --- Histories -----------------------------------------------------------------------------------


class _Writer:
    """Writes a history down as it is drawn. Each method but `history` is an event of `_EVENTS`."""

    def __init__(self, draw: st.DrawFn, capabilities: Capabilities, threshold_ms: int) -> None:
        self._draw = draw
        self._capabilities = capabilities
        self._threshold_ms = threshold_ms
        self._wall_ms = START_MS
        self._names: list[str] = []
        self._born = 0
        self._comparators = RELATIONS + ((ALWAYS,) if ALWAYS in capabilities.features else ())
        self._lines: list[Line] = []

    def history(self, events: list[str], instances: int, length: int) -> History:
        self._names = [self._new_name() for _ in range(instances)]
        drawn_from = st.sampled_from(events)
        while len(self._lines) < length:
            getattr(self, self._draw(drawn_from))()
        return History(self._threshold_ms, tuple(self._lines[:length]))

    def call(self) -> None:
        self._call(strategies.any_keys, KINDS, strategies.counts, may_fail=True)

    def small_call(self) -> None:
        self._call(strategies.keys, KINDS, strategies.small_counts, may_fail=True)

    def plain_call(self) -> None:
        self._call(strategies.keys, strategies.PLAIN_KINDS, strategies.small_counts)

    def on_no_key(self) -> None:
        ops = [op for op in self._can(tuple(OPERATIONS)) if not OPERATIONS[op].fields]
        self._write(self._draw(st.sampled_from(ops)), {}, may_fail=True)

    def heartbeat(self) -> None:
        self._write("heartbeat", {}, may_fail=True)

    def clock(self) -> None:
        if self._capabilities.virtual_clock:
            how = self._draw(strategies.jumps)
            self._wait(strategies.jump(how, self._threshold_ms) + self._draw(strategies.offsets))
        else:
            times = self._draw(st.sampled_from([1, 2]))
            self._wait(int(times * REAL_TIME_STEP * self._threshold_ms))

    def fall_silent(self) -> None:
        """One counts, and is not heard for the threshold, give or take 1 ms; others look."""
        self._call(strategies.keys, ("inc",), strategies.small_counts)
        self._wait(self._threshold_ms + self._draw(strategies.touches))
        self._call(strategies.keys, ("get",), strategies.small_counts)

    def die(self) -> None:
        """One dies, and another takes its place."""
        who = self._draw(st.integers(0, len(self._names) - 1))
        self._lines.append({"op": "die", "instance": self._names[who]})
        self._names[who] = self._new_name()

    def empty(self) -> None:
        self._lines.append({"op": EMPTY})

    def _can(self, operations: Sequence[str]) -> list[str]:
        return [op for op in operations if op in self._capabilities.operations]

    def _call(
        self,
        keys: st.SearchStrategy[str],
        kinds: Sequence[str],
        counts: st.SearchStrategy[int],
        *,
        may_fail: bool = False,
    ) -> None:
        op = self._draw(st.sampled_from(self._can(kinds)))
        drawn_from: dict[str, st.SearchStrategy[Any]] = {
            "key": keys,
            "count": counts,
            "comparator": st.sampled_from(self._comparators),
            "value": st.one_of(st.integers(-3, 3), counts),
        }
        fields = {name: self._draw(drawn_from[name]) for name in OPERATIONS[op].fields}
        if fields.get("comparator") == ALWAYS:
            del fields["value"]
        self._write(op, fields, may_fail=may_fail)

    def _write(self, op: str, fields: Line, *, may_fail: bool) -> None:
        line = {"op": op, "instance": self._draw(st.sampled_from(self._names)), **fields}
        faults = [fault for fault in CALL_FAULTS if fault in self._capabilities.faults]
        if may_fail and faults and self._draw(st.sampled_from([False, False, False, True])):
            line[self._draw(st.sampled_from(faults))] = True
        self._lines.append(line | {"wall_ms": self._wall_ms})

    def _wait(self, ms: int) -> None:
        self._wall_ms += ms

    def _new_name(self) -> str:
        self._born += 1
        return NAMES[(self._born - 1) % len(NAMES)] + str((self._born - 1) // len(NAMES) or "")


_EVENTS = {
    "call": 20,
    "small_call": 20,
    "plain_call": 20,
    "heartbeat": 4,
    "on_no_key": 3,
    "clock": 12,
    "fall_silent": 4,
    "die": 3,
    "empty": 2,
}
"""How often each event takes place, as far as the port can do it. What wipes everything is rare:
there must be something left to be wrong about."""


@st.composite
def histories(draw: st.DrawFn, capabilities: Capabilities, plan: Plan) -> History:
    """Histories that this port can play."""
    thresholds = st.just(plan.threshold_ms or REAL_TIME_THRESHOLD_MS)
    if capabilities.virtual_clock and not plan.threshold_ms:
        thresholds = strategies.thresholds
    writer = _Writer(draw, capabilities, draw(thresholds))
    instances = draw(st.integers(1, strategies.MOST_INSTANCES))
    length = draw(st.sampled_from([plan.steps, plan.steps, max(1, plan.steps // 4)]))
    return writer.history(_possible(capabilities, plan), instances, length)


def _possible(capabilities: Capabilities, plan: Plan) -> list[str]:
    """Each event that this port can play, as often as its weight says."""
    can = capabilities.operations
    needed = {
        "call": bool(can.intersection(KINDS)) and not plan.small_counts,
        "small_call": bool(can.intersection(KINDS)),
        "plain_call": bool(can.intersection(strategies.PLAIN_KINDS)),
        "heartbeat": "heartbeat" in can,
        "on_no_key": any(not OPERATIONS[op].fields for op in can),
        "fall_silent": can.issuperset(("inc", "get")) and capabilities.virtual_clock,
        "empty": EMPTY in capabilities.faults,
    }
    return [
        event
        for event, weight in _EVENTS.items()
        for _ in range(weight if needed.get(event, True) else 0)
    ]
