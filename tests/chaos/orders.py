"""Linearizability of what real processes did: does some order of the calls explain every answer?

Each call of a history has taken effect at one moment between its beginning and its end, and its
answer is what the specification gives at that moment (`oracle.model.run_steps`). The search follows
Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) and Lowe ("Testing for
linearizability", 2017): it goes through the history in time, holds every configuration in which the
counter can be, and lets a call take effect no earlier than the answer of some call needs it.

The rules this file keeps:
  * A history is linearizable iff the history of each counter is (Herlihy and Wing, 1990), so each
    counter is checked alone.
  * A call whose outcome is unknown takes effect once or never, but not after a call that its
    instance began later (R12).
  * A call that was not executed is no part of the history: if it has left a trace, no order
    explains it.
  * It holds without faults that lose data or let instances be presumed dead (R8, R10): an instance
    that lives and counts is assumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from oracle.model import METHODS, Change, Condition, CounterState, Step, View, run_steps

MOST: Final = 50_000
"""How many configurations one answer may lead to, before the search is given up."""
SHOWN: Final = 12
"""How many earlier calls a failure shows."""

Results = tuple[CounterState | Change | None, ...]


class Recorded(NamedTuple):
    """A call on one counter.

    Attributes:
        who: the instance.
        steps: what it does, in one request.
        began, ended: on a clock that all instances share.
        results: what it returned; None if the outcome is unknown.
    """

    who: str
    steps: tuple[Step, ...]
    began: float
    ended: float
    results: Results | None


class Configuration(NamedTuple):
    """One state in which the counter can be.

    Attributes:
        counts: of each instance.
        settled: the open calls that have taken effect, or never will.
    """

    counts: tuple[int, ...]
    settled: frozenset[int] = frozenset()


class Failure(NamedTuple):
    """Why a history is not linearizable.

    Attributes:
        why: what is wrong.
        call: the call whose answer no order explains.
        open: the other calls under way then, or unknown.
        before: the calls that ended just before it.
    """

    why: str
    call: Recorded
    open: list[Recorded]
    before: list[Recorded]


class TooManyError(Exception):
    """There are too many configurations to search."""


def check(history: Iterable[Recorded]) -> Failure | None:
    """Find an order of these calls on one counter that explains every answer. Returns None if there
    is one."""
    calls = sorted(history, key=lambda call: call.ended)
    return Search(calls).run()


def at_once(history: Iterable[Recorded]) -> int:
    """How many of these calls were under way at once, at most."""
    moments = [(time, change) for c in history for time, change in ((c.began, 1), (c.ended, -1))]
    return max(accumulate((change for _, change in sorted(moments)), initial=0))


class Search:
    """The search for an order of these calls."""

    def __init__(self, calls: Sequence[Recorded]) -> None:
        self._calls = calls
        self._number = {who: n for n, who in enumerate(dict.fromkeys(c.who for c in calls))}
        self._open: set[int] = set()

    def run(self) -> Failure | None:
        configurations = {Configuration((0,) * len(self._number))}
        for number in self._events():
            call = self._calls[number]
            if number not in self._open:
                self._open.add(number)
            elif call.results is not None:
                try:
                    reached = {_without(c, number) for c in self._until(number, configurations)}
                except TooManyError:
                    return self._failure("too many orders to search", number)
                if not reached:
                    return self._failure("no order of the calls explains this answer", number)
                self._open.remove(number)
                configurations = self._forget(reached)
        return None

    def _events(self) -> Iterator[int]:
        """The calls as they begin and end. Those that meet in one instant overlap."""
        moments = [(call.began, 0, number) for number, call in enumerate(self._calls)]
        moments += [(call.ended, 1, number) for number, call in enumerate(self._calls)]
        for _, _, number in sorted(moments):
            yield number

    def _until(self, number: int, configurations: set[Configuration]) -> Iterator[Configuration]:
        """The configurations to which these lead as soon as this call has taken effect."""
        todo, seen = [*configurations], {*configurations}
        while todo:
            configuration = todo.pop()
            if number in configuration.settled:
                yield configuration
                continue
            for other in self._open - configuration.settled:
                following = self._take_effect(configuration, other)
                if following is not None and following not in seen:
                    seen.add(following)
                    todo.append(following)
            if len(seen) > MOST:
                raise TooManyError

    def _take_effect(self, configuration: Configuration, number: int) -> Configuration | None:
        """The configuration after the call; None if it would have been answered differently."""
        call, counts = self._calls[number], configuration.counts
        place = self._number[call.who]
        after, results = run_steps(View(sum(counts), 0, counts[place]), call.steps)
        if call.results is not None and call.results != results:
            return None
        left = [0] * len(counts) if after.epoch else [*counts]
        left[place] = after.count
        over = {each for each in self._open if self._cannot_follow(each, call)}
        return Configuration(tuple(left), configuration.settled | {number} | over)

    def _cannot_follow(self, number: int, later: Recorded) -> bool:
        """R12: a call that was given up before its instance began a later one."""
        call = self._calls[number]
        return call.results is None and call.who == later.who and call.ended < later.began

    def _forget(self, configurations: set[Configuration]) -> set[Configuration]:
        """Drop the unknown calls that are settled in every configuration."""
        over = self._open.intersection(*(c.settled for c in configurations))
        over = {number for number in over if self._calls[number].results is None}
        if not over:
            return configurations
        self._open -= over
        return {c._replace(settled=c.settled - over) for c in configurations}

    def _failure(self, why: str, number: int) -> Failure:
        began = [*self._calls[max(0, number - SHOWN) : number]]
        others = [self._calls[each] for each in sorted(self._open - {number})]
        return Failure(why, self._calls[number], others, began)


def _without(configuration: Configuration, number: int) -> Configuration:
    return configuration._replace(settled=configuration.settled - {number})


# --- What the processes report -------------------------------------------------------------------


def histories(reports: Iterable[dict[str, Any]]) -> dict[str, list[Recorded]]:
    """The history of each counter, from what all instances have recorded."""
    found: dict[str, list[Recorded]] = {}
    for report in reports:
        for key, *words in report["recorded"]:
            found.setdefault(key, []).append(_recorded(report["instance_id"], *words))
    return found


def _recorded(who: str, steps: Any, began: float, ended: float, outcomes: Any) -> Recorded:
    made = tuple(
        METHODS[name].step(n, None if condition is None else Condition(*condition))
        for name, n, condition in steps
    )
    results = None if outcomes is None else tuple(map(_result, outcomes))
    return Recorded(who, made, began, ended, results)


def _result(outcome: Any) -> CounterState | Change:
    if len(outcome) == 2:
        return CounterState(*outcome)
    new, old, applied = outcome
    return Change(CounterState(*new), CounterState(*old), applied)
