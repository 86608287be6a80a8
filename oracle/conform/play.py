"""One history on a port, compared with the oracle line by line.

On a port with a virtual clock, time is what the messages say. On one that has only real time the
runner sleeps between the lines, and what takes place between two sleeps counts as one moment. That
is an approximation, so it is checked: with every line, how long each other instance has really been
silent, at the least and at the most, must be on the same side of the threshold as in the history,
and not near it. Where it is not, nothing is concluded: `TooNear`, and the history is played again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from oracle.conform.explain import Hint, explain
from oracle.conform.judge import judge
from oracle.conform.lines import Capabilities, Line, same
from oracle.conform.process import Port
from oracle.conform.traces import History

BELOW, ABOVE = 0.9, 1.02
"""A real silence of less than BELOW thresholds is surely none, one of more than ABOVE surely is."""

ATTEMPTS = 5
"""How often a history is played that came too near the threshold in real time."""

LONGEST_S, LONGEST_THRESHOLDS = 60.0, 100
"""How long a history may take in real time: the longer of these."""


class Exchange(NamedTuple):
    """A line, what is right, and what the port said (None: it was not asked that far)."""

    line: Line
    right: Line
    said: Line | None


class Differs(AssertionError):
    """The port's last answer is not the oracle's."""

    def __init__(self, history: History, steps: Sequence[Exchange]) -> None:
        super().__init__(f"step {len(steps)}: {steps[-1].said}, not {steps[-1].right}")
        self.history: History = history._replace(lines=history.lines[: len(steps)])
        self.steps: tuple[Exchange, ...] = tuple(steps)

    @property
    def hint(self) -> Hint:
        """Where to look for the mistake."""
        last = self.steps[-1]
        assert last.said is not None
        return explain(self.history, [step.right for step in self.steps], last.said)


class TooNear(Exception):
    """Real time came so near the threshold that nothing can be concluded."""


def cannot_play(history: History, capabilities: Capabilities) -> str:
    """Why this history is not for this port; nothing if it is."""
    for line in history.lines:
        lacking = capabilities.lacks(line)
        if lacking:
            return f"it does not have {lacking}"
    if not capabilities.virtual_clock:
        return _not_for_real_time(history)
    return ""


def _not_for_real_time(history: History) -> str:
    walls = [line["wall_ms"] for line in history.lines if "wall_ms" in line]
    if walls != sorted(walls):
        return "it has real time only, which never goes back"
    longest_ms = max(LONGEST_S * 1000, LONGEST_THRESHOLDS * history.threshold_ms)
    if walls and walls[-1] - walls[0] > longest_ms:
        return f"it has real time only, and this takes more than {longest_ms / 1000:g} s"
    silences = _Silences(history.threshold_ms)
    try:
        for line in history.lines:
            if "wall_ms" in line and "instance" in line:
                silences.check(line, line["wall_ms"] / 1000, line["wall_ms"] / 1000)
    except TooNear:
        return "it has real time only, and this comes too near the threshold"
    return ""


def scaled(history: History, threshold_ms: int) -> History:
    """The same history for another threshold: every time is stretched alike."""
    was = history.threshold_ms
    lines = tuple(
        {**line, "wall_ms": line["wall_ms"] * threshold_ms // was} if "wall_ms" in line else line
        for line in history.lines
    )
    return history._replace(threshold_ms=threshold_ms, lines=lines)


def play(history: History, port: Port, right: Sequence[Line] | None = None) -> list[Exchange]:
    """Play a history on a port, as often as real time asks for.

    Args:
        history: one that the port can play.
        port: started.
        right: the right answers, if they are known already.

    Returns:
        The steps, when all answers are right.

    Raises:
        Differs: an answer is wrong.
        Broke: the port said what is no answer.
        TooNear: real time was too near the threshold each time.
    """
    answers = judge(history) if right is None else right
    for _ in range(ATTEMPTS - 1):
        try:
            return _play_once(history, port, answers)
        except TooNear:
            continue
    return _play_once(history, port, answers)


def _play_once(history: History, port: Port, answers: Sequence[Line]) -> list[Exchange]:
    port.reset(history.threshold_ms, _instances(history))
    if port.capabilities.virtual_clock:
        given = port.answers(history.lines)
    else:
        given = map(_RealTime(history, port).answer, history.lines)
    steps = []
    for line, right, said in zip(history.lines, answers, given, strict=True):
        steps.append(Exchange(line, right, said))
        if not same(line, said, right):
            raise Differs(history, steps)
    return steps


def _instances(history: History) -> list[str]:
    """Who is in it, in the order of coming."""
    return list(dict.fromkeys(line["instance"] for line in history.lines if "instance" in line))


class _Heard(NamedTuple):
    """One call of an instance: when, in the history; and, really, between when and when (s)."""

    wall_ms: int
    after: float
    before: float


class _Silences:
    """How long each instance has been silent: in the history and really."""

    def __init__(self, threshold_ms: int) -> None:
        self._threshold_ms = threshold_ms
        self._heard: dict[str, _Heard] = {}

    def check(self, line: Line, began: float, ended: float) -> None:
        """Note the call of this line, which really took place between `began` and `ended`.

        Raises:
            TooNear: somebody else's silence is near the threshold, or on the other side of it.
        """
        for name, heard in self._heard.items():
            if name == line["instance"]:
                continue
            least = 1000 * (began - heard.before) / self._threshold_ms
            most = 1000 * (ended - heard.after) / self._threshold_ms
            silent = line["wall_ms"] - heard.wall_ms >= self._threshold_ms
            if (silent and least < ABOVE) or (not silent and most > BELOW):
                raise TooNear
        self._heard[line["instance"]] = _Heard(line["wall_ms"], began, ended)


class _RealTime:
    """A port that reads a clock of its own: sleep as long as the history says, and look how long
    it really was."""

    def __init__(self, history: History, port: Port) -> None:
        self._port = port
        self._silences = _Silences(history.threshold_ms)
        walls = [line["wall_ms"] for line in history.lines if "wall_ms" in line]
        self._wall_ms = walls[0] if walls else 0

    def answer(self, line: Line) -> Line:
        if "wall_ms" not in line:
            return self._port.answer(line)
        time.sleep((line["wall_ms"] - self._wall_ms) / 1000)
        self._wall_ms = line["wall_ms"]
        began = time.monotonic()
        said = self._port.answer(line)
        # A call that is refused before it is sent is heard by nobody.
        if "instance" in line and said.get("error") != "invalid_key":
            self._silences.check(line, began, time.monotonic())
        return said
