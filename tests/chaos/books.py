"""What an instance's slice can be: the exact book of one instance and one counter.

A slice has a single writer (R10), so whoever makes an instance's calls can tell what its slice is.
The rules this file keeps:
  * The book is the set of counts that the slice can have. An answered call leaves one of them.
  * A call whose outcome is unknown (R12) adds what it may have made of each of them.
  * Any other error changes nothing.
  * The answer to a call must follow from a count in the book. If it does not, that is a violation.
  * A counter that others `set` or `delete` can lose the slice to a new epoch (R6). Such a reset is
    noted with the time in which it must have happened, and has to be explained by a global call of
    some instance in that time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from distkit import OutcomeUnknownError

KEPT: Final = 12
"""How many calls a book remembers, to show with a violation."""

CONFLICT: Final = "its answer follows from no count in the book"


class Call(NamedTuple):
    """A call on one counter.

    Attributes:
        op: the method of the counter.
        key: the counter.
        n: its number, if it takes one.
        condition: the test and its operand, if it has one.
    """

    op: str
    key: str
    n: int = 0
    condition: tuple[str, int] | None = None

    @property
    def is_global(self) -> bool:
        """Whether it starts a new epoch."""
        return self.op in ("set", "delete")


AFTER: Final[dict[str, Callable[[int, int], int]]] = {
    "get": lambda count, n: count,
    "inc": lambda count, n: count + n,
    "dec": lambda count, n: count - n,
    "inc_if": lambda count, n: count + n,
    "set_on_instance": lambda count, n: n,
    "set_on_instance_if": lambda count, n: n,
    "delete_on_instance": lambda count, n: 0,
    "set": lambda count, n: n,
    "delete": lambda count, n: 0,
}
"""What each operation makes of the slice."""

RETURNS_THE_OLD: Final = frozenset({"delete_on_instance", "delete"})
"""These return the count before them; the others return the count after them."""

HOLDS: Final[dict[str, Callable[[int, int], bool]]] = {
    "eq": lambda subject, operand: subject == operand,
    "ne": lambda subject, operand: subject != operand,
    "lt": lambda subject, operand: subject < operand,
    "gt": lambda subject, operand: subject > operand,
}


class Reset(NamedTuple):
    """A slice became 0 because a new epoch began, between these times (of the monotonic clock)."""

    key: str
    since: float
    until: float


class Book:
    """The counts that one slice can have.

    Args:
        key: the counter.
        can_reset: whether instances start new epochs on this counter.

    Attributes:
        counts: what the slice can be.
        recent: the last calls, each with its answer and the counts before it.
        resets: the resets that have to be explained.
        violations: what contradicted the book.
    """

    def __init__(self, key: str, can_reset: bool = False) -> None:
        self.key = key
        self.can_reset = can_reset
        self.counts = {0}
        self.recent: deque[str] = deque(maxlen=KEPT)
        self.resets: list[Reset] = []
        self.violations: list[dict[str, Any]] = []
        self._agreed_at = 0.0  # when the last call began whose answer followed from the counts

    def note(self, call: Call, outcome: object, began: float, ended: float) -> None:
        """A call has ended: with its result, or with an error."""
        before = sorted(self.counts)
        self.recent.append(f"{before} {call.op} {call.n} {call.condition or ''} -> {outcome!r}")
        if isinstance(outcome, OutcomeUnknownError):
            self._widen(call)
        elif not isinstance(outcome, Exception):
            self._narrow(call, outcome, began, ended)

    def check(self, count: int, began: float, ended: float) -> None:
        """The slice is this, says a read."""
        self.note(Call("get", self.key), (None, count), began, ended)

    def _widen(self, call: Call) -> None:
        self.counts |= {AFTER[call.op](count, call.n) for count in self.counts}
        if self.can_reset:
            self.counts |= {0, AFTER[call.op](0, call.n)}

    def _narrow(self, call: Call, outcome: Any, began: float, ended: float) -> None:
        left = {
            AFTER[call.op](count, call.n) if self._ran(outcome) else count
            for count in self.counts
            if self._explains(count, call, outcome)
        }
        if left:
            self._agreed_at = began
        elif self.can_reset and self._explains(0, call, outcome):
            self.resets.append(Reset(self.key, self._agreed_at, ended))
            self._agreed_at = began
            left = {AFTER[call.op](0, call.n) if self._ran(outcome) else 0}
        else:
            self._object(CONFLICT)
            left = {self._reported(call, outcome)}
        self.counts = left

    def _object(self, why: str) -> None:
        self.violations.append({"key": self.key, "why": why, "calls": list(self.recent)})

    @staticmethod
    def _ran(outcome: Any) -> bool:
        return bool(getattr(outcome, "applied", True))

    @staticmethod
    def _reported(call: Call, outcome: Any) -> int:
        """What the slice is after the call, if the answer is true."""
        if hasattr(outcome, "applied"):
            return int(outcome.new.instance_count)
        return 0 if call.op in RETURNS_THE_OLD else int(outcome[1])

    def _explains(self, count: int, call: Call, outcome: Any) -> bool:
        """Whether a slice with this count gives this answer."""
        if not hasattr(outcome, "applied"):
            shown = count if call.op in RETURNS_THE_OLD else AFTER[call.op](count, call.n)
            return bool(outcome[1] == shown)
        new, old = outcome
        test, operand = call.condition or ("ne", -(2**60))
        subject = count if call.op == "set_on_instance_if" else old.cumulative
        after = AFTER[call.op](count, call.n) if outcome.applied else count
        return (
            old.instance_count == count
            and new.instance_count == after
            and new.cumulative - old.cumulative == after - count
            and bool(outcome.applied) == HOLDS[test](subject, operand)
        )


class GlobalCall(NamedTuple):
    """A `set` or `delete` of some instance: `ended` is infinite if nobody knows that it has."""

    key: str
    began: float
    ended: float


def unexplained(resets: list[Reset], global_calls: list[GlobalCall], loses: bool) -> list[Reset]:
    """The resets that no global call explains.

    Args:
        resets: of every instance.
        global_calls: of every instance.
        loses: whether Redis has lost writes meanwhile: then an epoch that was lost returns with the
            slices of an instance that remembers it (R10), at any time after its call.
    """
    return [
        reset
        for reset in resets
        if not any(
            call.key == reset.key
            and call.began <= reset.until
            and (loses or call.ended >= reset.since)
            for call in global_calls
        )
    ]
