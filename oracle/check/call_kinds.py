"""What an instance of a bounded world can call: the kinds of call, and the steps that each makes.

A kind is a value, not a name: `kinds` reads what a person writes on the command line, and
`CallKind.name` writes it again. The methods on one key come from `model.METHODS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from oracle.model import METHODS, Condition, Method, Step, Steps

THEN = "_then_"
"""What stands between the two steps of one call in its name: `inc_then_set`."""

IF_ZERO = Condition("eq", 0)
"""The condition of every conditional step: true at first; what counts makes it false, and a `set`
or a `delete` may make it true again."""

MARKS = {"inc": 1, "set_on_instance": 3, "set": 5}
"""The digit that each operation leaves in a slice. Each call leaves it at a decimal place of its
own, so a digit that is not a mark shows that one operation was counted twice."""

MOST_CALLS = 7
"""How many decimal places the first steps of calls have. The second step of a call leaves its mark
so many places higher; R2 leaves room for 15 places."""


class CallKind(NamedTuple):
    """One kind of call. A call without steps is a heartbeat (R4); `leaving` ends the session (R16)
    and runs no steps."""

    methods: tuple[Method, ...] = ()
    leaving: bool = False

    @property
    def name(self) -> str:
        if self.leaving:
            return "leave"
        return THEN.join(method.name for method in self.methods) or "heartbeat"

    def steps(self, keys: tuple[str, ...], remaining: int) -> Iterator[Steps]:
        """The steps of each call of this kind that can be made now: one call for each key, or one
        call in all if it has no steps.

        Args:
            keys: the counters of the world.
            remaining: how many calls the world has left, this one included. It chooses the marks.
        """
        if not self.methods:
            yield ()
            return
        steps = [_step(method, remaining, i) for i, method in enumerate(self.methods)]
        for key in keys:
            yield tuple((key, step) for step in steps)


def _step(method: Method, remaining: int, position: int) -> Step:
    mark = MARKS.get(method.op, 0) * 10 ** (remaining - 1 + MOST_CALLS * position)
    return method.step(mark, IF_ZERO if method.is_conditional else None)


EXPLORED = {name: method for name, method in METHODS.items() if not method.is_negated}
"""The methods that are explored. `dec` is `inc` of a negative count: its marks would not be
seen."""

HEARTBEAT = CallKind()
LEAVE = CallKind(leaving=True)
KINDS = (*(CallKind((method,)) for method in EXPLORED.values()), HEARTBEAT, LEAVE)
"""Every kind of call with at most one step: the operations, those that may have a condition with
one as well (R15), a heartbeat and leaving."""


def kinds(names: str) -> tuple[CallKind, ...]:
    """Read kinds of call as a person writes them: names with commas between them, each one of
    `KINDS` or two steps of one call. Repeated names count once.

    Raises:
        ValueError: some of them are no kinds of call.
    """
    found = {name: _kind(name) for name in names.split(",")}
    unknown = [name for name, kind in found.items() if kind is None]
    if unknown:
        known = f"{', '.join(kind.name for kind in KINDS)}, and two steps of one call, such as"
        raise ValueError(f"{', '.join(unknown)}: no such operation; there are {known} inc_then_set")
    return tuple(kind for kind in found.values() if kind is not None)


def _kind(name: str) -> CallKind | None:
    for kind in KINDS:
        if kind.name == name:
            return kind
    words = name.split(THEN)
    if len(words) != 2 or not EXPLORED.keys() >= set(words):
        return None
    return CallKind(tuple(EXPLORED[word] for word in words))
