"""What a call does to one counter: the operations, conditions, and the function that runs them.

Rules R2, R9 and R15. A `View` is all that an operation looks at, and all that it changes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import ClassVar, NamedTuple

LIMIT = 2**53 - 1
"""R2: counts, and totals that a step reports or makes, lie in -LIMIT..LIMIT."""


class Condition(NamedTuple):
    """R15: a step's condition: one of `RELATIONS` to a number, or `ALWAYS`."""

    relation: str
    operand: int


ALWAYS = Condition("always", 0)
"""R15: the condition that always holds. The step runs as if it had none, and returns a `Change`."""


class Step(NamedTuple):
    """One operation on one counter. `op` is one of `OPERATIONS`; with a condition, one of
    `CONDITIONAL`."""

    op: str
    count: int = 0  # type: ignore[assignment]  # it hides tuple.count, which nobody needs
    condition: Condition | None = None


class View(NamedTuple):
    """What one instance sees of one counter: the total, the epoch, and its own count."""

    total: int = 0
    epoch: int = 0
    count: int = 0  # type: ignore[assignment]


class CounterState(NamedTuple):
    """What a call returns: `(cumulative, instance_count)`."""

    cumulative: int
    instance_count: int


class Change(tuple[CounterState, CounterState]):
    """What a call with a condition returns (R15). It unpacks as `new, old`.

    Attributes:
        new: the state after the call.
        old: the state before it.
        applied: whether the condition held, so that the step ran. `new == old` does not tell: a
            `set` may set what was there already, and still moves the epoch.

    Two changes are equal if all three are. A plain tuple has no `applied`, and is compared without.
    """

    __match_args__: ClassVar[tuple[str, str, str]] = ("new", "old", "applied")

    _applied: bool

    def __new__(cls, new: CounterState, old: CounterState, applied: bool) -> Change:
        change = super().__new__(cls, (new, old))
        change._applied = applied
        return change

    @property
    def new(self) -> CounterState:
        return self[0]

    @property
    def old(self) -> CounterState:
        return self[1]

    @property
    def applied(self) -> bool:
        return self._applied

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple) or getattr(other, "applied", self.applied) != self.applied:
            return False
        return tuple(self) == tuple(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)  # equal to that of a plain tuple, which is equal too

    def __repr__(self) -> str:
        return f"Change(new={self.new}, old={self.old}, applied={self.applied})"

    def __getnewargs__(self) -> tuple[CounterState, CounterState, bool]:
        return (*self, self.applied)


def _get(view: View, _: int) -> tuple[View, CounterState]:
    return view, CounterState(view.total, view.count)


def _inc(view: View, n: int) -> tuple[View, CounterState]:
    after = View(view.total + n, view.epoch, view.count + n)
    return after, CounterState(after.total, after.count)


def _set_on_instance(view: View, n: int) -> tuple[View, CounterState]:
    after = View(view.total - view.count + n, view.epoch, n)
    return after, CounterState(after.total, n)


def _delete_on_instance(view: View, _: int) -> tuple[View, CounterState]:
    after = View(view.total - view.count, view.epoch, 0)
    return after, CounterState(after.total, view.count)


def _set(view: View, n: int) -> tuple[View, CounterState]:
    return View(n, view.epoch + 1, n), CounterState(n, n)


def _delete(view: View, _: int) -> tuple[View, CounterState]:
    return View(0, view.epoch + 1, 0), CounterState(view.total, view.count)


_OPERATIONS = {
    "get": _get,
    "inc": _inc,
    "set_on_instance": _set_on_instance,
    "delete_on_instance": _delete_on_instance,
    "set": _set,
    "delete": _delete,
}
OPERATIONS = tuple(_OPERATIONS)

READS = frozenset({"get"})
"""Steps that change nothing: they may be read again (R11) and need no completion record."""

GLOBAL = frozenset({"set", "delete"})
"""Steps that bump the epoch: their outcome is unknown once the session is lost (R12)."""


_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "gt": operator.gt,
}
RELATIONS = tuple(_RELATIONS)

CONDITIONAL = ("inc", "set", "set_on_instance")
"""R15: the steps that may have a condition: on the total, and the last on the caller's slice."""


def step_result(view: View, step: Step) -> tuple[View, CounterState | Change | None]:
    """R9, R15, and R2: the view after the step and what it returns, or the same view and None."""
    if step.condition is None:
        after, result = _OPERATIONS[step.op](view, step.count)
        return (after, result) if _in_range(after, *result) else (view, None)
    applied = _holds(view, step.op, step.condition)
    after = _OPERATIONS[step.op](view, step.count)[0] if applied else view
    new, old = CounterState(after.total, after.count), CounterState(view.total, view.count)
    return (after, Change(new, old, applied)) if _in_range(after, *new, *old) else (view, None)


def _holds(view: View, op: str, condition: Condition) -> bool:
    assert op in CONDITIONAL
    if condition == ALWAYS:
        return True
    subject = view.count if op == "set_on_instance" else view.total
    return _RELATIONS[condition.relation](subject, condition.operand)


def _in_range(after: View, *results: int) -> bool:
    return all(abs(n) <= LIMIT for n in (after.total, after.count, *results))


def run_steps(
    view: View, steps: tuple[Step, ...]
) -> tuple[View, tuple[CounterState | Change | None, ...]]:
    """Run the steps in order; a refused one changes nothing and the others go on (R2)."""
    results = []
    for step in steps:
        view, result = step_result(view, step)
        results.append(result)
    return view, tuple(results)


def writes(steps: tuple[Step, ...]) -> bool:
    return any(step.op not in READS for step in steps)
