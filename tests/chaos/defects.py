"""Defects that are planted in a real process's counter, to see that `orders` finds them.

Only the counters whose calls are recorded have them: the books of the others find nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from distkit import CounterState
from tests.chaos.recording import KEYS


def read_stale(counter: Any) -> None:
    """`get` answers what it found the time before."""
    real: Callable[[str], CounterState] = counter.get
    found: dict[str, CounterState] = {}

    def get(key: str) -> CounterState:
        state = real(key)
        if key not in KEYS:
            return state
        stale = found.get(key, state)
        found[key] = state
        return stale

    counter.get = get


def acknowledge_early(counter: Any) -> None:
    """`inc` answers before it is executed. Calls that begin after it come first."""
    real: Callable[[str, int], CounterState] = counter.inc
    owed = dict.fromkeys(KEYS, 0)

    def inc(key: str, n: int = 1) -> CounterState:
        if key not in KEYS:
            return real(key, n)
        total, count = real(key, owed[key])
        owed[key] = n
        return CounterState(total + n, count + n)

    counter.inc = inc


DEFECTS: Final[dict[str, Callable[[Any], None]]] = {
    "a stale read": read_stale,
    "an inc acknowledged before it is executed": acknowledge_early,
}
