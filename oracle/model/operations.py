"""What a call does to one counter: the operations, their conditions, and the function that runs
them.

Rules R2, R9 and R15. An operation reads a `View` and returns a new one; it touches nothing else.
`OPERATIONS` is the one table of operations: to add one, add a row and its function.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import ClassVar, NamedTuple

LIMIT = 2**53 - 1
"""R2: counts, and the totals that a step reports or makes, lie in -LIMIT..LIMIT."""


class Condition(NamedTuple):
    """R15: a step's condition: one of `RELATIONS` to a number, or `ALWAYS`."""

    relation: str
    operand: int


ALWAYS = Condition("always", 0)
"""R15: the condition that always holds. The step runs as if it had none, and returns a `Change`."""


class Step(NamedTuple):
    """One operation on one counter. `op` is a key of `OPERATIONS`; with a condition, it is one of
    `CONDITIONAL`."""

    op: str
    count: int = 0  # type: ignore[assignment]  # hides tuple.count, which nobody uses here
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


LOOK, DROP = "look", "drop"
"""R18: an instance's own steps. Each is the only step on its counter. After a look, the caller's
slice is gone if it counts 0 and the caller remembers 0; after a drop, it is gone in any case."""


class Operation(NamedTuple):
    """One row of `OPERATIONS`: everything that distinguishes one operation from another.

    Attributes:
        name: what rules, traces and the line protocol call it.
        function: the view after the operation and its result, before R2 is checked.
        letter: how the operation is spelled on the wire ("Steps" in spec/PROTOCOL.md); empty for
            `get`, which is not sent, because the reply is the view.
        takes_count: whether it has a count. Without one, the wire carries 0.
        default_count: the count that a caller may leave out.
        condition_on: which field of the view a condition looks at (R15); empty if the operation
            cannot have one.
        is_global: it starts a new epoch, so its outcome is unknown once the session is lost (R12).
        is_read: it returns what is there, so it may run again (R11) and needs no completion record.
        is_own: an instance runs it for itself (R18); no caller can ask for it.
    """

    name: str
    function: Callable[[View, int], tuple[View, CounterState]]
    letter: str
    takes_count: bool = False
    default_count: int | None = None
    condition_on: str = ""
    is_global: bool = False
    is_read: bool = False
    is_own: bool = False


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("get", _get, "", is_read=True),
        Operation("inc", _inc, "+", takes_count=True, default_count=1, condition_on="total"),
        Operation("set_on_instance", _set_on_instance, "=", takes_count=True, condition_on="count"),
        Operation("delete_on_instance", _delete_on_instance, "="),
        Operation("set", _set, "!", takes_count=True, condition_on="total", is_global=True),
        Operation("delete", _delete, "~", is_global=True),
        Operation(LOOK, _get, "?", is_read=True, is_own=True),
        Operation(DROP, _get, "x", is_read=True, is_own=True),
    )
}
"""Every operation, by name. The sets below, the explorer's kinds of call, the strategies and the
tests all derive from this table."""

READS = frozenset(name for name, operation in OPERATIONS.items() if operation.is_read)
GLOBAL = frozenset(name for name, operation in OPERATIONS.items() if operation.is_global)
CONDITIONAL = tuple(name for name, operation in OPERATIONS.items() if operation.condition_on)


class Method(NamedTuple):
    """One row of `METHODS`: a call on one key, as the public interface and the line protocol name
    it. It stands for one step."""

    name: str
    op: str
    is_conditional: bool = False
    is_negated: bool = False

    @property
    def operation(self) -> Operation:
        return OPERATIONS[self.op]

    def step(self, count: int = 0, condition: Condition | None = None) -> Step:
        """The step of a call with these arguments. A count is ignored where there is none."""
        assert (condition is not None) == self.is_conditional
        if not self.operation.takes_count:
            count = 0
        return Step(self.op, -count if self.is_negated else count, condition)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *(Method(name, name) for name, operation in OPERATIONS.items() if not operation.is_own),
        Method("dec", "inc", is_negated=True),
        *(Method(f"{name}_if", name, is_conditional=True) for name in CONDITIONAL),
    )
}
"""Every method on one key, by name: each operation that a caller can ask for, `dec`, and the
conditional ones (R15)."""


def method(name: str, condition: Condition | None = None) -> Method:
    """The method of this name; with a condition, the conditional one for the same operation."""
    plain = METHODS[name]
    if condition is None or plain.is_conditional:
        return plain
    return next(m for m in METHODS.values() if m.is_conditional and m.op == plain.op)


_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "gt": operator.gt,
}
RELATIONS = tuple(_RELATIONS)


def step_result(view: View, step: Step) -> tuple[View, CounterState | Change | None]:
    """R9, R15 and R2: the view after the step and its result. A refused step gives the same view
    and None."""
    if step.condition is None:
        after, result = OPERATIONS[step.op].function(view, step.count)
        return (after, result) if _in_range(after, *result) else (view, None)
    applied = _holds(view, step.op, step.condition)
    after = OPERATIONS[step.op].function(view, step.count)[0] if applied else view
    new, old = CounterState(after.total, after.count), CounterState(view.total, view.count)
    return (after, Change(new, old, applied)) if _in_range(after, *new, *old) else (view, None)


def _holds(view: View, op: str, condition: Condition) -> bool:
    assert op in CONDITIONAL
    if condition == ALWAYS:
        return True
    subject = view.count if OPERATIONS[op].condition_on == "count" else view.total
    return _RELATIONS[condition.relation](subject, condition.operand)


def _in_range(after: View, *results: int) -> bool:
    return all(abs(n) <= LIMIT for n in (after.total, after.count, *results))


def run_steps(
    view: View, steps: tuple[Step, ...]
) -> tuple[View, tuple[CounterState | Change | None, ...]]:
    """Run the steps in order. A refused step changes nothing, and the next ones still run (R2)."""
    results = []
    for step in steps:
        view, result = step_result(view, step)
        results.append(result)
    return view, tuple(results)


def writes(steps: tuple[Step, ...]) -> bool:
    """Whether any of the steps writes the caller's slice, so that it may not run again (R11)."""
    return any(step.op not in READS for step in steps)
