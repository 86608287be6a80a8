"""What a call does to one counter: the operations, and the one function that says what they mean.

The script runs the same transition on the same state (`run` in `lua/counter.lua`): so a reply can
be the state before the steps, and many steps can share a request.

The functions at the end turn a call's arguments into a step. They are all of the validation there
is, for the sync counter and the asyncio one alike: bad input is refused here, before anything is
sent (R1, R2).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from distkit.keys import LIMIT, checked_count, checked_key

SPAN: Final = LIMIT + 1
"""A total travels as high * SPAN + low: deaths and returns may move it out of a double's range."""

GET, INC, SET_ON_INSTANCE, SET, DELETE = "", "+", "=", "!", "~"
"""The operations, as the script spells them. A read is not spelt at all: the reply is the state."""


class CounterState(NamedTuple):
    """What a call returns.

    Attributes:
        cumulative: the sum of the live instances' slices (R7).
        instance_count: this instance's slice.
    """

    cumulative: int
    instance_count: int


class Change(NamedTuple):
    """What a call with a condition returns.

    Attributes:
        new: the state after it; equal to `old` if the condition did not hold.
        old: the state before.
    """

    new: CounterState
    old: CounterState


class Comparator(NamedTuple):
    """A condition (R15): made by `eq`, `ne`, `lt` or `gt`."""

    test: str
    operand: int

    def holds(self, subject: int) -> bool:
        return TESTS[self.test](subject, self.operand)

    def __repr__(self) -> str:
        return f"{self.test}({self.operand})"


TESTS: Final[dict[str, Callable[[int, int], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "gt": operator.gt,
}
"""The script's letter for each is its first."""


GLOBAL: Final = frozenset({SET, DELETE})
"""They bump the epoch; the others change nothing but the caller's slice."""


class Step(NamedTuple):
    """One operation on one counter; `removed` asks for what was there instead of what is. With a
    condition, `when`, the result is a `Change`."""

    key: str
    op: str
    n: int = 0
    removed: bool = False
    when: Comparator | None = None


def spell(step: Step) -> str:
    """The step as the script reads it; PROTOCOL.md, "Steps"."""
    _, op, n, _, when = step
    if when is not None:
        return f"{when.test[0]}{when.operand}{op}{n}"
    return f"{op}{n}" if op else ""


class State(NamedTuple):
    """One counter as its caller sees it."""

    total: int
    epoch: int
    own: int


def transition(before: State, step: Step) -> tuple[State, CounterState | Change] | None:
    """R9, R15, and R2: the state after the step and its result; None if a number would be out of
    range. The script runs the same function on the same state, so that a reply need not carry
    results.
    """
    if step.when is not None:
        return _conditional(before, step, step.when)
    done = _unconditional(before, step)
    return done if _fits(*done) else None


def _unconditional(before: State, step: Step) -> tuple[State, CounterState]:
    """R9, whatever the numbers."""
    total, epoch, own = before
    _, op, n, _, _ = step
    if op == INC:
        return State(total + n, epoch, own + n), CounterState(total + n, own + n)
    if op == GET:
        return before, CounterState(total, own)
    if op == SET_ON_INSTANCE:
        after = State(total - own + n, epoch, n)
        return after, CounterState(after.total, own if step.removed else n)
    if op == SET:
        return State(n, epoch + 1, n), CounterState(n, n)
    assert op == DELETE, f"no such operation: {op!r}"
    return State(0, epoch + 1, 0), CounterState(total, own)


def _conditional(before: State, step: Step, when: Comparator) -> tuple[State, Change] | None:
    """R15: the condition is on the total; that of `set_on_instance`, on the slice."""
    subject = before.own if step.op == SET_ON_INSTANCE else before.total
    after = _unconditional(before, step)[0] if when.holds(subject) else before
    old, new = (CounterState(state.total, state.own) for state in (before, after))
    return (after, Change(new, old)) if _fits(after, old) and _fits(after, new) else None


def _fits(after: State, result: CounterState) -> bool:
    """R2: what the step makes, and what it reports."""
    total, _, own = after
    return -LIMIT <= total <= LIMIT and -LIMIT <= own <= LIMIT and -LIMIT <= result[0] <= LIMIT


def eq(operand: int) -> Comparator:
    """Holds for counts equal to `operand`."""
    return Comparator("eq", checked_count(operand, "operand"))


def ne(operand: int) -> Comparator:
    """Holds for counts other than `operand`."""
    return Comparator("ne", checked_count(operand, "operand"))


def lt(operand: int) -> Comparator:
    """Holds for counts less than `operand`."""
    return Comparator("lt", checked_count(operand, "operand"))


def gt(operand: int) -> Comparator:
    """Holds for counts greater than `operand`."""
    return Comparator("gt", checked_count(operand, "operand"))


def inc(key: object, count: object = 1) -> Step:
    return Step(checked_key(key), INC, checked_count(count))


def dec(key: object, count: object = 1) -> Step:
    return Step(checked_key(key), INC, -checked_count(count))


def get(key: object) -> Step:
    return Step(checked_key(key), GET)


def set_on_instance(key: object, count: object) -> Step:
    return Step(checked_key(key), SET_ON_INSTANCE, checked_count(count))


def delete_on_instance(key: object) -> Step:
    return Step(checked_key(key), SET_ON_INSTANCE, 0, removed=True)


def set(key: object, count: object) -> Step:
    return Step(checked_key(key), SET, checked_count(count))


def delete(key: object) -> Step:
    return Step(checked_key(key), DELETE)


def inc_if(key: object, comparator: object, count: object = 1) -> Step:
    return Step(checked_key(key), INC, checked_count(count), when=_checked_comparator(comparator))


def set_if(key: object, comparator: object, count: object) -> Step:
    return Step(checked_key(key), SET, checked_count(count), when=_checked_comparator(comparator))


def set_on_instance_if(key: object, comparator: object, count: object) -> Step:
    when = _checked_comparator(comparator)
    return Step(checked_key(key), SET_ON_INSTANCE, checked_count(count), when=when)


def each_of(updates: Iterable[Any], make: Callable[..., Step], shape: str) -> list[Step]:
    """The steps of a batch, all of them checked before any is sent.

    Args:
        updates: the arguments of each step, as `shape` says.
        make: one of the constructors above.
        shape: for the error: "(key, count)", say.
    """
    size = shape.count(",") + 1
    made = []
    for update in updates:
        if not isinstance(update, tuple | list) or len(update) != size:
            raise TypeError(f"each update must be {shape}, not {update!r}")
        made.append(make(*update))
    return made


def _checked_comparator(comparator: object) -> Comparator:
    if not isinstance(comparator, Comparator):
        kind = type(comparator).__name__
        raise TypeError(f"comparator must be made by eq, ne, lt or gt, not {kind}")
    return comparator
