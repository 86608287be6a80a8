"""A failing history made short: delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating
Failure-Inducing Input", 2002) on its lines, then on what is in them.

Hypothesis shrinks what it drew, and a history is better shrunk as what it is: lines that may each
be left out, waits that may each be none, instances that may be one. That takes some hundred plays,
not some thousand, each of which a real-time port makes slow; and from the end no line can go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from oracle.conform.lines import (
    CALL_FAULTS,
    COMPOUND,
    CONDITION,
    GIVE_UP,
    GIVE_UP_FROM,
    LOSE_REPLIES,
    LOSE_REPLY,
    TOGETHER,
    Line,
    parts,
)
from oracle.conform.traces import History
from oracle.model import LIMIT

Fails = Callable[[History], History | None]
"""Plays a history; returns it up to the line that failed, or None when none did."""

MOST_PLAYS = 1_000
LAST_PLAYS = 3
"""How many of them are left for names and numbers, which make a history short to write."""

PLAIN_KEY = "k"
FEW_KEYS = 3
PLAIN_THRESHOLD_MS = 30_000
PLAIN_COUNTS = (1, 2, 3, 5, -1, -5, 0, LIMIT, -LIMIT)
"""The counts that are tried, the plainest first."""


class _Enough(Exception):
    """So many plays that what is left has to do."""


class _Shrinker:
    def __init__(self, history: History, fails: Fails) -> None:
        self.best = history
        self._fails = fails
        self._plays = 0
        self._most_plays = MOST_PLAYS - LAST_PLAYS

    def _try(self, candidate: History) -> bool:
        """Keep a plainer history if it fails as well, with one answer or another."""
        if candidate == self.best:
            return False
        self._plays += 1
        if self._plays > self._most_plays:
            raise _Enough
        failed = self._fails(candidate)
        if failed is None:
            return False
        self.best = failed
        return True

    def run(self) -> History:
        passes = (
            *(self._leave_out, self._wait_less),
            *(self._merge_instances, self._merge_keys, self._say_less),
        )
        try:
            before = None
            while before != self.best:
                before = self.best
                for make_plainer in passes:
                    make_plainer()
        except _Enough:
            pass
        self._most_plays = MOST_PLAYS
        self._rename()
        self._number_keys()
        return self.best

    def _leave_out(self) -> None:
        """Half of the lines, a quarter, ... one: what can go, goes."""
        size = max(1, len(self.best.lines) // 2)
        while True:
            at = len(self.best.lines) - size
            while at >= 0:
                lines = self.best.lines
                self._try(self.best._replace(lines=lines[:at] + lines[at + size :]))
                at = min(at, len(self.best.lines)) - size
            if size == 1:
                return
            size //= 2

    def _wait_less(self) -> None:
        threshold = self.best.threshold_ms
        for at in range(len(self.best.lines)):
            for gap in (0, threshold, threshold - 1, -1):
                if at < len(self.best.lines) and self._shorter(at, gap):
                    break
        if threshold != PLAIN_THRESHOLD_MS:
            self._try(_with_threshold(self.best, PLAIN_THRESHOLD_MS))

    def _shorter(self, at: int, gap: int) -> bool:
        """Wait for `gap` ms before line number `at`, where it is longer now (or goes back)."""
        now = _gaps(self.best)[at]
        if abs(gap) >= abs(now) or (gap < 0) != (now < 0 and gap != 0):
            return False
        gaps = _gaps(self.best)
        gaps[at] = gap
        return self._try(_with_gaps(self.best, gaps))

    def _merge_instances(self) -> None:
        names = _names(self.best)
        for late in reversed(range(1, len(names))):
            for early in range(late):
                if self._try(_renamed(self.best, {names[late]: names[early]})):
                    break

    def _merge_keys(self) -> None:
        """Every use of a key at once; one alone is tried with the rest of its line."""
        for key in dict.fromkeys(call["key"] for call in _calls(self.best) if "key" in call):
            lines = (_with_key(line, key, PLAIN_KEY) for line in self.best.lines)
            self._try(self.best._replace(lines=tuple(lines)))

    def _say_less(self) -> None:
        for at in range(len(self.best.lines)):
            while at < len(self.best.lines) and any(map(self._put(at), self._plainer_at(at))):
                pass

    def _plainer_at(self, at: int) -> list[Line]:
        return list(_plainer(self.best.lines[at]))

    def _put(self, at: int) -> Callable[[Line], bool]:
        lines = self.best.lines
        return lambda line: self._try(
            self.best._replace(lines=(*lines[:at], line, *lines[at + 1 :]))
        )

    def _number_keys(self) -> None:
        """Many keys are numbered, so that they can be written as a range: in the order in which
        requests name them, or else in that in which they come."""
        keys = list(dict.fromkeys(call["key"] for call in _calls(self.best) if "key" in call))
        if len(keys) > FEW_KEYS:
            for order in (sorted(keys), keys):
                if self._try(_numbered(self.best, order)):
                    return

    def _rename(self) -> None:
        """A, B, C in the order in which they come."""
        self._try(_renamed(self.best, dict(zip(_names(self.best), "ABCDEFGH", strict=False))))


def shrink(history: History, fails: Fails) -> History:
    """The shortest history that still fails, found by leaving out and simplifying.

    Args:
        history: one that fails.
        fails: plays a history; the part that failed, or None.
    """
    return _Shrinker(history, fails).run()


def _numbered(history: History, keys: list[str]) -> History:
    """These keys are called k01, k02, ... in this order."""
    width, lines = len(str(len(keys))), history.lines
    for key in keys:
        lines = tuple(_with_key(line, key, f"{key}\0") for line in lines)
    for number, key in enumerate(keys, 1):
        numbered = f"{PLAIN_KEY}{number:0{width}}"
        lines = tuple(_with_key(line, f"{key}\0", numbered) for line in lines)
    return history._replace(lines=lines)


def _gaps(history: History) -> list[int]:
    """For each line, how long after the one before it; 0 where a line has no time."""
    gaps, last = [], None
    for line in history.lines:
        wall = line.get("wall_ms", last)
        gaps.append(0 if last is None or wall is None else wall - last)
        last = wall
    return gaps


def _with_gaps(history: History, gaps: list[int]) -> History:
    walls = [line["wall_ms"] for line in history.lines if "wall_ms" in line]
    wall, lines = (walls or [0])[0], []
    for line, gap in zip(history.lines, gaps, strict=True):
        wall += gap
        lines.append({**line, "wall_ms": wall} if "wall_ms" in line else line)
    return history._replace(lines=tuple(lines))


def _with_threshold(history: History, threshold_ms: int) -> History:
    """Waits of about the threshold become waits of about the new one."""
    was = history.threshold_ms
    gaps = [
        gap - was + threshold_ms if gap >= was - 1 and gap > 0 else gap for gap in _gaps(history)
    ]
    return _with_gaps(history, gaps)._replace(threshold_ms=threshold_ms)


def _names(history: History) -> list[str]:
    return list(dict.fromkeys(line["instance"] for line in history.lines if "instance" in line))


def _renamed(history: History, names: dict[str, str]) -> History:
    lines = (
        {**line, "instance": names.get(line["instance"], line["instance"])}
        if "instance" in line
        else line
        for line in history.lines
    )
    return history._replace(lines=tuple(lines))


def _calls(history: History) -> Iterator[Line]:
    """Every line, and the parts of those that are compound."""
    for line in history.lines:
        yield line
        yield from parts(line)


def _with_key(line: Line, key: str, other: str) -> Line:
    """The line with another key in place of this one."""
    field = COMPOUND.get(line["op"])
    if field:
        return {**line, field: [_with_key(call, key, other) for call in line[field]]}
    return {**line, "key": other} if line.get("key") == key else line


def _plainer(line: Line) -> Iterator[Line]:
    """The same line with less in it."""
    faults = [fault for fault in CALL_FAULTS if fault in line]
    if faults:
        yield {name: value for name, value in line.items() if name not in CALL_FAULTS}
    for fault in faults:
        without = {name: value for name, value in line.items() if name != fault}
        yield without
        yield from ({**without, **plain} for plain in _plainer_fault(fault, line[fault]))
    field = COMPOUND.get(line["op"])
    if field:
        yield from ({**line, field: fewer} for fewer in _plainer_parts(line))
        return
    if line.get("key", PLAIN_KEY) != PLAIN_KEY:
        yield {**line, "key": PLAIN_KEY}
    if "count" in line:
        plain = PLAIN_COUNTS
        known = plain.index(line["count"]) if line["count"] in plain else len(plain)
        for count in plain[:known]:
            yield {**line, "count": count}
    if line["op"] == "dec":
        yield {**line, "op": "inc"}
    if "comparator" in line:
        without = {name: line[name] for name in line if name not in CONDITION}
        yield {**without, "op": line["op"].removesuffix("_if")}


def _plainer_fault(fault: str, value: Any) -> Iterator[Line]:
    """The same fault said more simply, or one that comes earlier."""
    if fault == LOSE_REPLIES:
        for number in value if len(value) > 1 else ():
            yield {LOSE_REPLIES: [other for other in value if other != number]}
        if value == [1]:
            yield {LOSE_REPLY: True}
    elif fault == GIVE_UP_FROM and value == 1:
        yield {GIVE_UP: True}
    elif isinstance(value, int) and value is not True:
        yield from ({fault: number} for number in range(1, value))


def _plainer_parts(line: Line) -> Iterator[list[Line]]:
    """The steps of a batch, or the calls made together, with one left out or plainer. Two callers
    are the least that can be at the same time."""
    calls = list(parts(line))
    if len(calls) > (2 if line["op"] == TOGETHER else 1):
        for at in range(len(calls)):
            yield [*calls[:at], *calls[at + 1 :]]
    for at, call in enumerate(calls):
        for plain in _plainer(call):
            yield [*calls[:at], plain, *calls[at + 1 :]]
