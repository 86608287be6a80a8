"""Histories drawn at random, by seed and number: the same ones everywhere, in every release.

Everything is small on purpose. Few keys and few instances meet each other again and again; counts
lie around 0 or at the ends of the range; the clock jumps to the millisecond around the threshold,
which is where mistakes are. A judge goes along, so that conditions can be drawn near what is there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from oracle.conform import lines
from oracle.conform.judge import Judge
from oracle.conform.lines import BATCH, OPERATIONS, SINGLE, TOGETHER, Capabilities, Line
from oracle.conform.notation import START_MS
from oracle.conform.traces import History
from oracle.model import LIMIT, RELATIONS, Counter

KEYS = ("k", "k", "другой", "a b")
"""The first one twice: things happen where others were."""
BAD_KEYS = ("a:b", "", "x" * 256)
EDGES = (LIMIT, LIMIT - 1, LIMIT // 2 + 1, -LIMIT, 1 - LIMIT, -LIMIT // 2)
THRESHOLDS_MS = (30_000, 30_000, 1_000, 3, 1)
HOUR_MS = 3_600_000
MOST_INSTANCES = 5
NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

REAL_TIME_STEP = 0.6
"""How far the clock goes at a time on a port with real time only, in thresholds: one step is far
below the threshold, two are far above it."""
REAL_TIME_THRESHOLD_MS = 200

_PLAIN = ("inc", "inc", "dec", "get", "get", "set", "set_on_instance", "delete",
          "delete_on_instance")  # fmt: skip
_CONDITIONAL = ("inc_if", "set_if", "set_on_instance_if")
_TOGETHER = ("inc", "inc", "dec", "get")
"""What callers do at the same time: its effect is the same in every order."""

_WEIGHTS = {
    "random": {
        "call": 20, "small_call": 20, "plain_call": 20, "near_call": 8, "heartbeat": 4, "alone": 3,
        "clock": 12, "fall_silent": 4, "die": 3, "empty": 2,
    },
    "faults": {
        "small_call": 20, "plain_call": 25, "call": 4, "heartbeat": 6, "alone": 6, "clock": 8,
        "fall_silent": 6, "die": 3, "empty": 3, "lose_key": 3, "snapshot": 4, "roll_back": 4,
        "late_copy": 6,
    },
    "batches": {
        "batch": 25, "together": 25, "small_call": 5, "plain_call": 10, "clock": 8,
        "fall_silent": 4, "alone": 2, "die": 2, "empty": 2,
    },
}  # fmt: skip
"""How often each event takes place in the histories of a layer, as far as the port can do it. What
wipes everything is rare: there must be something left to be wrong about."""

_FAULTS = {
    "random": (lines.LOSE_REPLY, lines.GIVE_UP),
    "faults": tuple(lines.CALL_FAULTS),
    "batches": (lines.LOSE_REPLY,),
}
"""What can befall a call in the histories of a layer."""


class Drawing(NamedTuple):
    """Which histories to draw.

    Attributes:
        layer: `random`, `faults` or `batches`.
        seed: the same seed draws the same histories.
        steps: the most lines of a history.
        threshold_ms: of every history; 0: drawn, or small on a port with real time only.
        small_counts: no counts near the ends of the range, and no bad keys.
    """

    layer: str = "random"
    seed: int = 0
    steps: int = 50
    threshold_ms: int = 0
    small_counts: bool = False


class Drawn(NamedTuple):
    """A history, and the right answers to it, which were needed to draw it."""

    history: History
    right: tuple[Line, ...]


def draw(drawing: Drawing, number: int, capabilities: Capabilities) -> Drawn:
    """The history with this number, of those that a port with these capabilities can play."""
    chance = random.Random(f"{drawing.seed} {drawing.layer} {number}")
    threshold = drawing.threshold_ms
    if not threshold:
        virtual = capabilities.virtual_clock
        threshold = chance.choice(THRESHOLDS_MS) if virtual else REAL_TIME_THRESHOLD_MS
    writer = _Writer(drawing, chance, capabilities, threshold)
    length = chance.choice([drawing.steps, drawing.steps, max(1, drawing.steps // 4)])
    comment = f"drawn for {drawing.layer}: seed {drawing.seed}, number {number}"
    return writer.drawn(length, comment)


class _Writer:
    """Writes a history down as it is drawn. The methods without an underscore, but `drawn`, are the
    events of `_WEIGHTS`."""

    def __init__(
        self, drawing: Drawing, chance: random.Random, capabilities: Capabilities, threshold: int
    ) -> None:
        self._drawing = drawing
        self._chance = chance
        self._capabilities = capabilities
        self._threshold_ms = threshold
        self._wall_ms = START_MS
        self._born = 0
        self._names = [self._new_name() for _ in range(chance.randint(1, MOST_INSTANCES))]
        self._lines: list[Line] = []
        self._right: list[Line] = []
        self._judge = Judge(threshold)
        self._relations = list(RELATIONS)
        if lines.ALWAYS in capabilities.features:
            self._relations.append(lines.ALWAYS)
        can = capabilities.operations
        self._plain = [op for op in _PLAIN if op in can]
        self._any = self._plain + [op for op in _CONDITIONAL if op in can]
        self._alone = [op for op in OPERATIONS if op in can and not OPERATIONS[op].fields]
        self._faults = [
            field
            for field in _FAULTS[drawing.layer]
            if lines.CALL_FAULTS[field] in capabilities.faults
        ]

    def drawn(self, length: int, comment: str) -> Drawn:
        events = self._possible()
        while len(self._lines) < length:
            getattr(self, self._chance.choice(events))()
        history = History(self._threshold_ms, tuple(self._lines[:length]), comment)
        return Drawn(history, tuple(self._right[:length]))

    def _possible(self) -> list[str]:
        """Each event that this port can play, as often as its weight says."""
        can, faults = self._capabilities.operations, self._capabilities.faults
        needed = {
            "call": bool(self._any) and not self._drawing.small_counts,
            "small_call": bool(self._any),
            "plain_call": bool(can & {"inc", "get"}),
            "near_call": bool(can & set(_CONDITIONAL)),
            "heartbeat": "heartbeat" in can,
            "alone": bool(self._alone),
            "fall_silent": can >= {"inc", "get"} and self._capabilities.virtual_clock,
            "batch": BATCH in can,
            "together": TOGETHER in can,
            **{event: fault in faults for event, fault in lines.EVENTS.items() if fault},
        }
        return [
            event
            for event, weight in _WEIGHTS[self._drawing.layer].items()
            for _ in range(weight if needed.get(event, True) else 0)
        ]

    # --- Events ----------------------------------------------------------------------------------

    def call(self) -> None:
        """Any call: with counts at the ends of the range, and bad keys."""
        key = self._chance.choice(BAD_KEYS) if self._chance.random() < 0.14 else self._key()
        edge = self._chance.random() < 0.4
        self._write(self._single(self._any, key, self._edge() if edge else self._count()))

    def small_call(self) -> None:
        self._write(self._single(self._any, self._key(), self._count()))

    def plain_call(self) -> None:
        """The ordinary, so that what went wrong has somebody to see it."""
        plain = [op for op in ("inc", "get") if op in self._capabilities.operations]
        self._write(self._single(plain, self._key(), self._count()), may_fail=False)

    def near_call(self) -> None:
        """A condition on what is there, give or take 1: at its edge."""
        conditional = [op for op in self._any if op in _CONDITIONAL]
        key, who = self._key(), self._who()
        call = self._single(conditional, key, self._count())
        if call.get("comparator") != lines.ALWAYS:
            view = self._judge.server.counters.get(key, Counter()).view(who)
            there = view.count if call["op"] == "set_on_instance_if" else view.total
            near = there + self._chance.choice([-1, 0, 0, 1])
            call["value"] = max(-LIMIT, min(LIMIT, near))
        self._write(call, who=who)

    def heartbeat(self) -> None:
        self._write({"op": "heartbeat"})

    def alone(self) -> None:
        """A call that names no key."""
        self._write({"op": self._chance.choice(self._alone)})

    def batch(self) -> None:
        calls = [
            self._single(self._any, self._key(), self._count())
            for _ in range(self._chance.randint(1, 6))
        ]
        self._write({"op": BATCH, "steps": calls})

    def together(self) -> None:
        """Counts are small and all different, so that answers can be told apart."""
        can = [op for op in _TOGETHER if op in self._capabilities.operations]
        calls = [
            self._single(can, self._key(), 2**place) for place in range(self._chance.randint(2, 4))
        ]
        self._write({"op": TOGETHER, "calls": calls})

    def clock(self) -> None:
        if not self._capabilities.virtual_clock:
            self._wall_ms += int(self._chance.choice([1, 2]) * REAL_TIME_STEP * self._threshold_ms)
            return
        threshold = self._threshold_ms
        jumps = (threshold, threshold // 2, threshold // 2, 2, 5 * HOUR_MS, -HOUR_MS)
        self._wall_ms += self._chance.choice(jumps) + self._chance.choice([0, 0, 0, -1, 1])

    def fall_silent(self) -> None:
        """One counts, and is not heard for the threshold, give or take 1 ms; others look."""
        key = self._key()
        self._write({"op": "inc", "key": key, "count": self._count()}, may_fail=False)
        self._wall_ms += self._threshold_ms + self._chance.choice([0, 0, -1, 1])
        self._write({"op": "get", "key": key}, may_fail=False)

    def die(self) -> None:
        """One dies, and another takes its place."""
        at = self._chance.randrange(len(self._names))
        self._append({"op": "die", "instance": self._names[at]})
        self._names[at] = self._new_name()

    def empty(self) -> None:
        self._append({"op": lines.EMPTY})

    def lose_key(self) -> None:
        self._append({"op": "lose_key", "key": self._key()})

    def snapshot(self) -> None:
        self._append({"op": "snapshot"})

    def roll_back(self) -> None:
        self._append({"op": "roll_back"})

    def late_copy(self) -> None:
        self._append({"op": "late_copy", "wall_ms": self._wall_ms})

    # --- What they are made of -------------------------------------------------------------------

    def _who(self) -> str:
        return self._chance.choice(self._names)

    def _key(self) -> str:
        return self._chance.choice(KEYS)

    def _count(self) -> int:
        return self._chance.randint(-20, 20)

    def _edge(self) -> int:
        return self._chance.choice(EDGES)

    def _single(self, ops: Sequence[str], key: str, count: int) -> Line:
        op = self._chance.choice(ops)
        line: Line = {"op": op, "key": key}
        if "comparator" in SINGLE[op].fields:
            line["comparator"] = self._chance.choice(self._relations)
            if line["comparator"] != lines.ALWAYS:
                small = self._chance.randint(-3, 3)
                line["value"] = self._chance.choice([small, self._count(), count])
        if "count" in SINGLE[op].fields:
            line["count"] = count
        return line

    def _write(self, call: Line, *, who: str = "", may_fail: bool = True) -> None:
        line = {"op": call["op"], "instance": who or self._who(), **call}
        if may_fail and self._faults and self._chance.random() < 0.25:
            line |= self._fault()
        self._append(line | {"wall_ms": self._wall_ms})

    def _fault(self) -> Line:
        chance, field = self._chance, self._chance.choice(self._faults)
        if field in (lines.LOSE_REPLY, lines.GIVE_UP):
            return {field: True}
        number = chance.choice([1, 1, 2, 3, 4])
        if field == lines.LOSE_REPLIES:
            return {field: sorted({number, chance.choice([1, 2, 3])})}
        if field == lines.REFUSE and lines.LOSE_REPLIES in self._faults and chance.random() < 0.5:
            return {lines.LOSE_REPLIES: [number], field: number}
        return {field: number}

    def _append(self, line: Line) -> None:
        self._lines.append(line)
        self._right.append(self._judge.answer(line))

    def _new_name(self) -> str:
        self._born += 1
        return NAMES[(self._born - 1) % len(NAMES)] + str((self._born - 1) // len(NAMES) or "")
