"""The suite: layers of histories that a port plays in order, and the report of what came of it.

All systematic histories of a layer are played. Those that are drawn at random end with the first
that fails. What a port cannot play is counted, by rule: a port is never called right about what it
was not asked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from oracle.conform import batches, faults, matrix
from oracle.conform.draw import REAL_TIME_THRESHOLD_MS, Drawing, Drawn, draw
from oracle.conform.lines import Capabilities, Line
from oracle.conform.play import Differs, TooNear, cannot_play, scaled
from oracle.conform.process import Broke, Port
from oracle.conform.search import Failure, shortest, try_history
from oracle.conform.shipped import VECTORS, vector_names
from oracle.conform.traces import History, answers_in, read_trace

SUITE = 2
"""The version of the suite: it is raised when a port that was right may be found wrong."""

BEYOND = {
    "R19": "promises are made by heartbeats in the background, which a port turns off meanwhile",
    "R20": "the line protocol has no holders",
    "R21": "the line protocol divides no prefix",
}
"""The rules that no history is about, and why. Every report names them as not covered."""

MOST_EXPLAINED = 3
"""How many failures of a layer are shrunk: those that seem to be of different kinds."""

MOST_FAILURES = 25
"""After so many failures a layer ends: more of them say no more."""


class Plan(NamedTuple):
    """What to play.

    Attributes:
        layers: which layers, by name; none: all of them.
        rules: only histories about one of these rules; none: all of them.
        examples: how many histories to draw for the layer `random`.
        steps: the most lines of a drawn history.
        seed: which histories are drawn.
        threshold_ms: of every drawn history; 0: drawn, too.
        small_counts: draw no counts near the ends of the range, and no bad keys.
        fail_fast: end with the first failure of all.
    """

    layers: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    examples: int = 2000
    steps: int = 50
    seed: int = 1
    threshold_ms: int = 0
    small_counts: bool = False
    fail_fast: bool = False


class Layer(NamedTuple):
    """A part of the suite.

    Attributes:
        name: what it is called.
        words: what is in it.
        systematic: its histories; None if they are drawn.
        share: how many are drawn, for each that the plan asks for.
    """

    name: str
    words: str
    systematic: Callable[[], Iterable[History]] | None = None
    share: float = 0.0


def _golden() -> Iterator[History]:
    """The golden traces as they are shipped, with the right answers in them."""
    for name in vector_names():
        yield from read_trace(VECTORS / f"{name}.jsonl")


LAYERS = (
    Layer("vectors", "the golden traces", _golden),
    Layer("matrix", "each operation, condition and error at its edges", matrix.histories),
    Layer("random", "histories drawn at random", share=1.0),
    Layer("faults", "faults in the middle of a call", faults.histories, 0.2),
    Layer("batches", "batches, and callers at the same time", batches.histories, 0.1),
)
"""In the order in which they are played."""


class LeftOut(NamedTuple):
    """A history that the port cannot play, and why."""

    history: History
    reason: str


class LayerReport(NamedTuple):
    """What came of a layer.

    Attributes:
        layer: which.
        played: the histories that were played.
        steps: how many lines they had.
        left_out: those that the port cannot play.
        dropped: how many came too near the threshold in real time.
        failed: how many failed.
        failures: some of those, shrunk.
        rules: how many histories were played about each rule, and how many failed.
        seconds: how long it took.
    """

    layer: str
    played: int = 0
    steps: int = 0
    left_out: tuple[LeftOut, ...] = ()
    dropped: int = 0
    failed: int = 0
    failures: tuple[Failure, ...] = ()
    rules: tuple[tuple[str, int, int], ...] = ()
    seconds: float = 0.0


class Report(NamedTuple):
    """What came of a run: its plan, the port, and each layer."""

    port: Capabilities
    plan: Plan
    layers: tuple[LayerReport, ...]
    suite: int = SUITE

    @property
    def failures(self) -> list[Failure]:
        return [failure for layer in self.layers for failure in layer.failures]

    @property
    def broke(self) -> bool:
        """Whether the port broke, and gave no wrong answer."""
        kinds = {type(failure.error) for failure in self.failures}
        return kinds == {Broke}

    @property
    def not_covered(self) -> dict[str, dict[str, int]]:
        """For each reason why histories were left out: how many, by rule."""
        found: dict[str, dict[str, int]] = {}
        for layer in self.layers:
            for history, reason in layer.left_out:
                for rule in history.rules.split() or ["no rule"]:
                    rules = found.setdefault(reason, {})
                    rules[rule] = rules.get(rule, 0) + 1
        return found


Watch = Callable[[str, int, int, Failure | None], None]
"""Told of the layer, how many of its histories were played, how many there are, and what is being
shrunk."""


def _nobody(*_: object) -> None:
    """Watches nothing."""


def conform(port: Port, plan: Plan, watch: Watch = _nobody) -> Report:
    """Have a port play the layers of the plan.

    Args:
        port: started; it is restarted when it breaks.
        plan: what to play.
        watch: told how it goes.
    """
    reports = []
    for layer in LAYERS:
        if plan.layers and layer.name not in plan.layers:
            continue
        reports.append(_LayerRun(layer, port, plan, watch).run())
        if plan.fail_fast and reports[-1].failed:
            break
    return Report(port.capabilities, plan, tuple(reports))


def systematic(layer: Layer, plan: Plan, port: Capabilities) -> list[History]:
    """The systematic histories of a layer that are about the plan's rules, in the port's time."""
    threshold = plan.threshold_ms
    if not port.virtual_clock:
        threshold = threshold or REAL_TIME_THRESHOLD_MS
    return [
        scaled(history, threshold) if threshold else history
        for history in (layer.systematic() if layer.systematic else ())
        if not plan.rules or set(plan.rules) & set(history.rules.split())
    ]


def how_many_drawn(layer: Layer, plan: Plan) -> int:
    """How many histories of the layer are drawn. They are about no rule in particular: none, if the
    plan names rules."""
    return 0 if plan.rules else round(plan.examples * layer.share)


def drawn(layer: Layer, plan: Plan, port: Capabilities) -> Iterator[Drawn]:
    """The histories of a layer that are drawn, for a port with these capabilities."""
    drawing = Drawing(layer.name, plan.seed, plan.steps, plan.threshold_ms, plan.small_counts)
    for number in range(how_many_drawn(layer, plan)):
        yield draw(drawing, number, port)


class _LayerRun:
    """One layer being played."""

    def __init__(self, layer: Layer, port: Port, plan: Plan, watch: Watch) -> None:
        self._layer, self._port, self._plan, self._watch = layer, port, plan, watch
        self._left_out: list[LeftOut] = []
        self._failures: list[Failure] = []
        self._kinds: list[tuple[str, ...]] = []
        self._played = self._steps = self._dropped = self._failed = 0
        self._played_about: Counter[str] = Counter()
        self._failed_about: Counter[str] = Counter()

    def run(self) -> LayerReport:
        began = time.monotonic()
        self._play_systematic()
        if not (self._failed and self._plan.fail_fast):
            self._play_drawn()
        return LayerReport(
            self._layer.name,
            self._played,
            self._steps,
            tuple(self._left_out),
            self._dropped,
            self._failed,
            tuple(self._failures),
            tuple((rule, n, self._failed_about[rule]) for rule, n in self._played_about.items()),
            time.monotonic() - began,
        )

    def _play_systematic(self) -> None:
        histories = systematic(self._layer, self._plan, self._port.capabilities)
        for number, history in enumerate(histories):
            self._watch(self._layer.name, number, len(histories), None)
            failure = self._play(history, answers_in(history))
            if failure is not None:
                if len(self._kinds) < MOST_EXPLAINED and _kind(failure) not in self._kinds:
                    self._explain(failure, number, len(histories))
                if self._plan.fail_fast or self._failed == MOST_FAILURES:
                    return

    def _play_drawn(self) -> None:
        many = how_many_drawn(self._layer, self._plan)
        histories = drawn(self._layer, self._plan, self._port.capabilities)
        for number, (history, right) in enumerate(histories):
            self._watch(self._layer.name, number, many, None)
            failure = self._play(history, right)
            if failure is not None:
                self._explain(failure, number, many)
                return

    def _play(self, history: History, right: Sequence[Line] | None) -> Failure | None:
        reason = cannot_play(history, self._port.capabilities)
        if reason:
            self._left_out.append(LeftOut(history, reason))
            return None
        try:
            came = try_history(history, self._port, right)
        except TooNear:
            self._dropped += 1
            return None
        self._played += 1
        self._played_about.update(history.rules.split())
        if isinstance(came, Failure):
            self._failed += 1
            self._failed_about.update(history.rules.split())
            return came
        self._steps += came
        return None

    def _explain(self, failure: Failure, number: int, many: int) -> None:
        def progress(better: Failure) -> None:
            self._watch(self._layer.name, number, many, better)

        self._kinds.append(_kind(failure))
        short = shortest(failure, self._port, progress)
        if short.history.lines not in [known.history.lines for known in self._failures]:
            self._failures.append(short)


def _kind(failure: Failure) -> tuple[str, ...]:
    """What the mistake looks like: others of this kind are not shrunk."""
    return failure.error.hint.rules if isinstance(failure.error, Differs) else ("broke",)
