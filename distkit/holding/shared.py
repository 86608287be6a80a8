"""What holding has in common for threads and for tasks: arguments, and what an error comes to."""

from __future__ import annotations

import copy
from typing import Literal, TypeVar

from distkit.core.holding import UNREACHABLE, Slot
from distkit.errors import LimitReached
from distkit.keys import checked_count

WhenUnreachable = Literal["raise", "allow", "refuse"]

PolicyT = TypeVar("PolicyT", bound=str)


def checked_policy(given: PolicyT, allowed: tuple[str, ...]) -> PolicyT:
    """Return `when_unreachable`, or raise ValueError."""
    if given not in allowed:
        names = ", ".join(map(repr, allowed))
        raise ValueError(f"when_unreachable must be one of {names}, not {given!r}")
    return given


def checked_positive(number: object, what: str) -> int:
    """Return the count, or raise TypeError, ValueError or CounterOverflowError."""
    count = checked_count(number, what)
    if count < 1:
        raise ValueError(f"{what} must be at least 1, not {count}")
    return count


def checked_timeout(timeout: object, blocking: bool) -> float | None:
    """Return how long to wait at most, in seconds; None: for ever."""
    if not blocking:
        if timeout is not None:
            raise ValueError("timeout is for blocking=True only")
        return 0.0
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
    if not timeout >= 0:
        raise ValueError(f"timeout must not be negative: {timeout}")
    return float(timeout)


class Verdict:
    """What the end of a wish means for who had it.

    Attributes:
        slot: what it holds; None if it does not.
        error: why not, or why Redis does not know of it yet.
    """

    __slots__ = ("error", "slot")

    def __init__(self, slot: Slot | None, error: Exception | None = None) -> None:
        self.slot: Slot | None = slot
        self.error: Exception | None = error

    def limit_reached(self, key: str, most: int) -> LimitReached:
        reached = LimitReached(key, most)
        reached.__cause__ = self.error
        return reached


def is_unreachable(fate: object) -> bool:
    """Whether this error is what `when_unreachable` is about."""
    return isinstance(fate, UNREACHABLE)


def one_more(error: Exception) -> Exception:
    """A copy: several callers may raise it, and each raise adds to the traceback of its own."""
    try:
        made = copy.copy(error)
    except Exception:  # its class cannot be rebuilt from its arguments
        return error
    made.__cause__ = error.__cause__
    return made
