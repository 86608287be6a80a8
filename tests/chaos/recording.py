"""Lanes whose calls are recorded, each with its time and its answer, for `orders`.

All recorded lanes of all processes use the same few counters, so that their calls overlap. The
clock is that of the machine: its times can be compared between processes.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any, Final

from distkit import OutcomeUnknownError
from tests.chaos.books import HOLDS, Book, Call

KEYS: Final = ("order-0", "order-1")
LANES: Final = 2
REST_S: Final = 0.004
"""How long a lane rests between two calls, at most."""

OPERATIONS: Final = {
    "inc": 30, "dec": 15, "get": 25, "set_on_instance": 8, "delete_on_instance": 3, "inc_if": 8,
    "set_on_instance_if": 3, "set": 2, "delete": 2, "set_if": 2, "batch": 6,
}  # fmt: skip
BATCH: Final = 3
OPERAND: Final = 20


class RecordedLane:
    """As `worker.Lane`, but it keeps a record of each call instead of books."""

    def __init__(self, number: int, seed: str) -> None:
        self._chance = random.Random(f"{seed}-recorded-{number}")
        self.books: dict[str, Book] = {}
        self.acknowledged = 0
        self.worst_s = 0.0
        self.errors: Counter[str] = Counter()
        self.records: list[tuple[Any, ...]] = []

    def choose(self) -> list[Call]:
        """The next call, as its steps: several if it is a batch."""
        key = self._chance.choice(KEYS)
        (op,) = self._chance.choices([*OPERATIONS], [*OPERATIONS.values()])
        if op == "batch":
            return [Call("inc", key, self._chance.randrange(-5, 10)) for _ in range(BATCH)]
        condition = None
        if op.endswith("_if"):
            condition = self._chance.choice(sorted(HOLDS)), self._chance.randrange(OPERAND)
        return [Call(op, key, self._chance.randrange(-5, 10), condition)]

    def begin(self, steps: list[Call]) -> float:
        return time.monotonic()

    def end(self, steps: list[Call], outcome: Any, began: float) -> float:
        """Record the call. Returns how long to wait before the next one, in seconds."""
        ended = time.monotonic()
        self.worst_s = max(self.worst_s, ended - began)
        failed = isinstance(outcome, Exception)
        if failed:
            self.errors[type(outcome).__name__] += 1
        else:
            self.acknowledged += 1
        self.records += record(steps, outcome, began, ended)
        return self._chance.uniform(0, REST_S)


def record(steps: list[Call], outcome: Any, began: float, ended: float) -> list[tuple[Any, ...]]:
    """The record of a call; none if it was not executed."""
    if isinstance(outcome, OutcomeUnknownError):
        shown = None
    elif isinstance(outcome, Exception):
        return []
    else:
        outcomes = outcome if len(steps) > 1 else [outcome]
        shown = [_shown(each) for each in outcomes]
    made = [(step.op, step.n, step.condition) for step in steps]
    return [(steps[0].key, made, began, ended, shown)]


def _shown(outcome: Any) -> tuple[Any, ...]:
    """A result as JSON has it: of a condition, the two states and whether it held."""
    return (*outcome, outcome.applied) if hasattr(outcome, "applied") else tuple(outcome)
