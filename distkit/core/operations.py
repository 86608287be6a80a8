"""The operations on a counter: what they mean, and how a call's arguments become a step.

`transition` is the meaning. The script runs the same function on the same state (`run` in
`distkit/redis/counter.lua`). A reply therefore carries the state before the steps, not their
results, and many steps can share a request.

The constructors at the end are the only validation there is, for both counters: they refuse bad
input before anything is sent (R1, R2).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, NamedTuple

from distkit.keys import LIMIT, checked_count, checked_key

SPAN: Final = LIMIT + 1
"""A total travels as high * SPAN + low: a death or a return can push it out of a double's range."""

GET, INC, SET_ON_INSTANCE, SET, DELETE = "", "+", "=", "!", "~"
"""The operations, as the script spells them. A read has no spelling: the reply is the state."""

LOOK, DROP = "?", "x"
"""R18: the instance's own operations, each alone on its counter. Both read. After a look the
caller's slice is gone if it is 0, after a drop whatever it is."""

READS: Final = frozenset({GET, LOOK, DROP})
"""They write no slice, and may run again (R11)."""


class CounterState(NamedTuple):
    """What a call returns.

    Attributes:
        cumulative: the sum of the live instances' slices (R7).
        instance_count: this instance's slice.
    """

    cumulative: int
    instance_count: int


class Change(tuple[CounterState, CounterState]):
    """What a call with a condition returns: `new, old = change`, and `change.applied`.

    A change equals another change with the same states and the same `applied`. It also equals the
    plain tuple `(new, old)`, which says nothing about `applied`. It is immutable.

    Attributes:
        new: the state after the call; equal to `old` if the condition did not hold.
        old: the state before.
        applied: whether the condition held and the operation ran. An operation that ran can leave
            the state as it was: `inc` by 0, or `set` to the total that this instance owned already.
    """

    _applied: bool
    __match_args__ = ("new", "old", "applied")

    def __new__(cls, new: CounterState, old: CounterState, applied: bool) -> Change:
        change = super().__new__(cls, (new, old))
        change.__dict__["_applied"] = applied
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
        if not isinstance(other, tuple):
            return NotImplemented
        # Any tuple with `applied` counts as a change: the oracle has a class of its own.
        applied = getattr(other, "applied", self._applied)
        return tuple.__eq__(self, other) and self._applied == applied

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)  # the plain tuple's, which a change may be equal to

    def __repr__(self) -> str:
        return f"Change(new={self.new!r}, old={self.old!r}, applied={self._applied!r})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Change is immutable: {name!r} cannot be set")

    def __getnewargs__(self) -> tuple[CounterState, CounterState, bool]:
        return self[0], self[1], self._applied


class Comparator(NamedTuple):
    """A condition (R15), made by `eq`, `ne`, `lt`, `gt` or `always`."""

    test: str
    operand: int

    def holds(self, subject: int) -> bool:
        return TESTS[self.test](subject, self.operand)

    def __repr__(self) -> str:
        return "always()" if self.test == "always" else f"{self.test}({self.operand})"


TESTS: Final[dict[str, Callable[[int, int], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "gt": operator.gt,
    "always": lambda _subject, _operand: True,
}
"""The script's letter for each is its first; `always` has none."""

ALWAYS: Final = Comparator("always", 0)
UNFAILING: Final = f"g-{LIMIT + 1}"
"""How `always` is spelled: every count is greater. Like any condition, it refuses a total that is
out of range (R2, R15)."""

NEW: Final = frozenset({INC, SET_ON_INSTANCE, SET})
"""These operations return the state after them; the others return the state before."""

GLOBAL: Final = frozenset({SET, DELETE})
"""These operations start a new epoch; the others change only the caller's slice."""


class Step(NamedTuple):
    """One operation on one counter.

    Attributes:
        key: the counter.
        op: the operation, as the script spells it.
        n: its number, if it takes one.
        removed: return the slice that was removed instead of the new one.
        condition: run the operation only if this holds; the result is then a `Change`.
    """

    key: str
    op: str
    n: int = 0
    removed: bool = False
    condition: Comparator | None = None


def spell(step: Step) -> str:
    """The step as the script reads it; PROTOCOL.md, "Steps"."""
    _, op, n, _, condition = step
    if condition is None:
        return op if op in READS else f"{op}{n}"
    if condition.test == "always":
        return f"{UNFAILING}{op}{n}"
    return f"{condition.test[0]}{condition.operand}{op}{n}"


def spell_all(steps: Iterable[Step]) -> str:
    """Steps on one counter. The same `inc` several times in a row is spelled once."""
    words = []
    for step, same in groupby(steps):
        times = len(list(same))
        if times > 1 and step.op == INC and step.condition is None:
            words.append(f"{spell(step)}*{times}")
        else:
            words.append(spell(step) * times)
    return "".join(words)


View = tuple[int, int, int]
"""What an instance sees of a counter: the total, the epoch, its own count."""


def transition(before: View, step: Step) -> tuple[View, CounterState | Change] | None:
    """The state after the step, and its result (R9, R15); None if a number would leave the range
    (R2).

    It is one function on bare tuples because it runs once for every call.
    """
    total, epoch, own = before
    _, op, n, removed, condition = step
    after, applied = before, True
    if condition is not None and not condition.holds(own if op == SET_ON_INSTANCE else total):
        applied = False
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
    if condition is None:
        return after, old
    return after, Change(CounterState(new_total, new_own), old, applied)


def always() -> Comparator:
    """Always holds: for a step without a condition, in a batch whose other steps have one."""
    return ALWAYS


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


def inc_alone(key: object, count: object = 1) -> tuple[Step]:
    """`inc` as all that a caller wants. Callers that want the same get the same object, which makes
    a group of them quick to recognise."""
    if type(key) is str and type(count) is int:
        return _inc_alone(key, count)
    return (inc(key, count),)


@lru_cache(maxsize=4096)
def _inc_alone(key: str, count: int) -> tuple[Step]:
    return (_inc(key, count),)


@lru_cache(maxsize=4096)
def _inc(key: str, count: int) -> Step:
    """Programs make the same few steps again and again. (`inc` has checked the types: to the cache,
    1 and True are one key.)"""
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


CONDITIONAL: Final = "(key, comparator, count)"
"""The form of an update with a condition."""


def each_of(updates: Iterable[Any], make: Callable[..., Step], shape: str) -> list[Step]:
    """The steps of a batch, all of them checked before any is sent.

    Args:
        updates: the arguments of each step.
        make: one of the constructors above.
        shape: the form of an update, for the error message: "(key, count)", for example.
    """
    size = shape.count(",") + 1
    made = []
    for update in updates:
        if not isinstance(update, tuple | list) or len(update) != size:
            raise TypeError(f"each update must be {shape}, not {update!r}")
        made.append(make(*update))
    return made


def get_each(keys: Iterable[object]) -> list[Step]:
    """The steps of a batch of reads."""
    if isinstance(keys, str | bytes):
        raise TypeError(f"keys must be an iterable of str, not {type(keys).__name__}")
    return [get(key) for key in keys]


def _checked_comparator(comparator: object) -> Comparator:
    if not isinstance(comparator, Comparator) or comparator.test not in TESTS:
        given = (
            repr(comparator) if isinstance(comparator, Comparator) else type(comparator).__name__
        )
        raise TypeError(f"comparator must be made by eq, ne, lt, gt or always, not {given}")
    checked_count(comparator.operand, "operand")
    return comparator
