"""The operations and conditions on one counter, and the function that runs them (R2, R9, R15).

An operation is a function from a `View` to a `View` and a result. It reads and changes nothing
else.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

LIMIT = 2**53 - 1
"""R2: a step may neither produce nor report a count or a total outside -LIMIT..LIMIT."""


class Condition(NamedTuple):
    """The condition of a step (R15): the total or count must be in `relation` to `operand`.

    `relation` is one of `RELATIONS`.
    """

    relation: str
    operand: int


class Step(NamedTuple):
    """One operation on one counter, with its argument and condition.

    `op` is one of `OPERATIONS`; if there is a condition, one of `CONDITIONAL`.
    """

    op: str
    count: int = 0  # type: ignore[assignment]  # shadows tuple.count, which is not used
    condition: Condition | None = None


class View(NamedTuple):
    """What an instance sees of a counter: the total, the epoch, and the instance's own count."""

    total: int = 0
    epoch: int = 0
    count: int = 0  # type: ignore[assignment]


class CounterState(NamedTuple):
    """The result of a step: the total (`cumulative`) and the caller's count."""

    cumulative: int
    instance_count: int


class Change(NamedTuple):
    """The result of a step with a condition: the state after the step, and before it."""

    new: CounterState
    old: CounterState


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
"""Operations that change nothing. A retry reads again, so they need no completion record (R11)."""

GLOBAL = frozenset({"set", "delete"})
"""Operations that advance the epoch. If the session is lost before the reply arrives, their outcome
is unknown (R12)."""


_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "gt": operator.gt,
}
RELATIONS = tuple(_RELATIONS)

CONDITIONAL = ("inc", "set", "set_on_instance")
"""The operations that may have a condition (R15). `set_on_instance` tests the caller's own count,
the others test the total."""


def step_result(view: View, step: Step) -> tuple[View, CounterState | Change | None]:
    """Run one step (R9, R15).

    Returns the view after the step and the step's result. If the step is refused (R2), the view is
    unchanged and the result is None.
    """
    if step.condition is None:
        after, result = _OPERATIONS[step.op](view, step.count)
        return (after, result) if _in_range(after, *result) else (view, None)
    after = _OPERATIONS[step.op](view, step.count)[0] if _holds(view, step) else view
    change = Change(CounterState(after.total, after.count), CounterState(view.total, view.count))
    return (after, change) if _in_range(after, *change.new, *change.old) else (view, None)


def _holds(view: View, step: Step) -> bool:
    """Whether the step's condition holds on this view (R15)."""
    assert step.condition is not None and step.op in CONDITIONAL
    subject = view.count if step.op == "set_on_instance" else view.total
    return _RELATIONS[step.condition.relation](subject, step.condition.operand)


def _in_range(after: View, *results: int) -> bool:
    """Whether what the step produces and what it reports are in range (R2)."""
    return all(abs(n) <= LIMIT for n in (after.total, after.count, *results))


def run_steps(
    view: View, steps: tuple[Step, ...]
) -> tuple[View, tuple[CounterState | Change | None, ...]]:
    """Run the steps in order. A refused step changes nothing; the steps after it still run (R2)."""
    results = []
    for step in steps:
        view, result = step_result(view, step)
        results.append(result)
    return view, tuple(results)


def writes(steps: tuple[Step, ...]) -> bool:
    """Whether any of the steps can change the counter, even if its condition does not hold."""
    return any(step.op not in READS for step in steps)
