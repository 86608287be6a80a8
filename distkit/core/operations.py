"""What a call does to one counter: the operations, and the one function that says what they mean.

The script runs the same transition on the same state (`run` in `distkit/redis/counter.lua`): so a reply can
be the state before the steps, and many steps can share a request.

The functions at the end turn a call's arguments into a step. They are all of the validation there
is, for the sync counter and the asyncio one alike: bad input is refused here, before anything is
sent (R1, R2).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import lru_cache
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


NEW: Final = frozenset({INC, SET_ON_INSTANCE, SET})
"""They return the state after them; the others, the one before."""

GLOBAL: Final = frozenset({SET, DELETE})
"""They bump the epoch; the others change nothing but the caller's slice."""


class Step(NamedTuple):
    """One operation on one counter; `removed` asks for what was there instead of what is. With a
    condition, `when`, the result is a `Change`."""

    key: str
    op: str
    n: int = 0
    removed: bool = False
    condition: Comparator | None = None


def spell(step: Step) -> str:
    """The step as the script reads it; PROTOCOL.md, "Steps"."""
    _, op, n, _, condition = step
    if condition is not None:
        return f"{condition.test[0]}{condition.operand}{op}{n}"
    return f"{op}{n}" if op else ""


View = tuple[int, int, int]
"""One counter as its caller sees it: the total, the epoch, its own count."""


def transition(before: View, step: Step) -> tuple[View, CounterState | Change] | None:
    """R9, R15, and R2: the state after the step and its result; None if a number would be out of
    range. The script runs the same function on the same state, so that a reply need not carry
    results. (It is one function, and its states bare tuples, for it runs once for every call.)
    """
    total, epoch, own = before
    _, op, n, removed, condition = step
    after = before
    if condition is not None and not condition.holds(own if op == SET_ON_INSTANCE else total):
        pass
    elif op == INC:
        after = total + n, epoch, own + n
    elif op == SET_ON_INSTANCE:
        after = total - own + n, epoch, n
    elif op == SET:
        after = n, epoch + 1, n
    elif op == DELETE:
        after = 0, epoch + 1, 0
    new_total, _, new_own = after
    if not (-LIMIT <= new_total <= LIMIT and -LIMIT <= new_own <= LIMIT):
        return None
    if condition is None and op in NEW:
        return after, CounterState(new_total, own if removed else new_own)
    if not -LIMIT <= total <= LIMIT:
        return None
    old = CounterState(total, own)
    return after, old if condition is None else Change(CounterState(new_total, new_own), old)


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
    if type(key) is str and type(count) is int:
        return _inc(key, count)
    return Step(checked_key(key), INC, checked_count(count))


@lru_cache(maxsize=4096)
def _inc(key: str, count: int) -> Step:
    """Programs make few such steps, often. (The types are exact: 1 and True are one key.)"""
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
    return Step(
        checked_key(key), INC, checked_count(count), condition=_checked_comparator(comparator)
    )


def set_if(key: object, comparator: object, count: object) -> Step:
    return Step(
        checked_key(key), SET, checked_count(count), condition=_checked_comparator(comparator)
    )


def set_on_instance_if(key: object, comparator: object, count: object) -> Step:
    condition = _checked_comparator(comparator)
    return Step(checked_key(key), SET_ON_INSTANCE, checked_count(count), condition=condition)


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
