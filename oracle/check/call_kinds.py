"""What an instance of a bounded world can call: the kinds of call, and the steps that each makes.

A kind is a value, not a name: `kinds` reads what a person writes on the command line, and
`CallKind.name` writes it again. The methods on one key come from `model.METHODS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations
from typing import NamedTuple

from oracle.model import METHODS, Condition, Method, Step, Steps

THEN, AND = "_then_", "_and_"
"""What stands between the two methods of one call in its name: `inc_then_set` makes two steps on
one counter, `inc_and_set` one step on each of two counters."""

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
    """One kind of call: the methods that it calls. `apart` says that each is on a counter of its
    own. Calls without methods are `HEARTBEAT`, `RELEASE` and `LEAVE`."""

    name: str
    methods: tuple[Method, ...] = ()
    apart: bool = False

    def steps(self, keys: tuple[str, ...], remaining: int) -> Iterator[Steps]:
        """The steps of each call of this kind that can be made now: one call for each key, or for
        each choice of two keys.

        Args:
            keys: the counters of the world.
            remaining: how many calls the world has left, this one included. It chooses the marks.
        """
        steps = [_step(method, remaining, i) for i, method in enumerate(self.methods)]
        for chosen in self._keys(keys):
            yield tuple(zip(chosen, steps, strict=True))

    def _keys(self, keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The keys of the steps, in order."""
        if not self.apart:
            return ((key,) * len(self.methods) for key in keys)
        alike = len(set(self.methods)) == 1  # which is on which key makes no difference
        return combinations(keys, 2) if alike else permutations(keys, 2)


def _step(method: Method, remaining: int, position: int) -> Step:
    mark = MARKS.get(method.op, 0) * 10 ** (remaining - 1 + MOST_CALLS * position)
    return method.step(mark, IF_ZERO if method.is_conditional else None)


EXPLORED = {name: method for name, method in METHODS.items() if not method.is_negated}
"""The methods that are explored. `dec` is `inc` of a negative count: its marks would not be
seen."""

HEARTBEAT = CallKind("heartbeat")
"""The instance looks at every counter that it remembers (R10)."""

RELEASE = CallKind("release")
"""The instance lets go of the counters that it remembers to count 0 of, and looks at all others,
whether it remembers them or not (R18)."""

LEAVE = CallKind("leave")
"""The instance drops its slices and ends its session (R16)."""

KINDS = (*(CallKind(name, (method,)) for name, method in EXPLORED.items()), HEARTBEAT, RELEASE,
         LEAVE)  # fmt: skip
"""Every kind of call with at most one method: the operations, those that may have a condition with
one as well (R15), and what an instance calls of itself."""


def kinds(names: str) -> tuple[CallKind, ...]:
    """Read kinds of call as a person writes them: names with commas between them, each one of
    `KINDS` or two methods of one call. Repeated names count once.

    Raises:
        ValueError: some of them are no kinds of call.
    """
    found = {name: _kind(name) for name in names.split(",")}
    unknown = [name for name, kind in found.items() if kind is None]
    if unknown:
        known = f"{', '.join(kind.name for kind in KINDS)}, and two steps of one call, such as"
        raise ValueError(
            f"{', '.join(unknown)}: no such operation; there are {known} inc_then_set on one "
            "counter, or inc_and_set on two"
        )
    return tuple(kind for kind in found.values() if kind is not None)


def _kind(name: str) -> CallKind | None:
    for kind in KINDS:
        if kind.name == name:
            return kind
    for between in (THEN, AND):
        words = name.split(between)
        if len(words) == 2 and EXPLORED.keys() >= set(words):
            return CallKind(name, tuple(EXPLORED[word] for word in words), between == AND)
    return None
