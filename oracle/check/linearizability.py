"""Linearizability, on the fly: do the replies so far fit some order of the calls, one at a time?

Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) search the orders of a finished
history. Here the search goes along with the history, as Lowe ("Testing for linearizability", 2017)
describes it: `Order` holds every way in which things may stand (what each instance has counted,
which calls under way have taken effect already, and with what result); a reply strikes out the ways
that do not lead to it; a history is not linearizable iff none is left. The counter is a plain
atomic one: no sessions, epochs or messages.

A call that was given up may take effect once, before its instance's next call does, or never (R12).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from oracle.model import Change, CounterState, Map, Step, View, run_steps

Results = tuple[CounterState | Change | None, ...]


class Pending(NamedTuple):
    """A call under way: its `results` once it has taken effect; `orphan` when given up. `number`
    tells an instance's calls apart, and which came first."""

    who: str
    number: int
    steps: tuple[Step, ...]
    results: Results | None = None
    orphan: bool = False


class Way(NamedTuple):
    """One way in which things may stand."""

    counts: Map[str, int] = Map()
    pending: frozenset[Pending] = frozenset()


class Order(NamedTuple):
    """All of them, for one counter. Empty: the history is not linearizable."""

    ways: frozenset[Way] = frozenset({Way()})

    def call(self, who: str, number: int, *steps: Step) -> Order:
        """The call has begun."""
        begun = Pending(who, number, steps)
        return Order(frozenset(w._replace(pending=w.pending | {begun}) for w in self.ways))

    def awaits(self, who: str) -> bool:
        """Whether a call of this instance is under way here."""
        return any(p.who == who and not p.orphan for way in self.ways for p in way.pending)

    def reply(self, who: str, *results: CounterState | Change) -> Order:
        """The call has returned this: it must have taken effect, just so, by now."""
        return Order(
            frozenset(
                left
                for way in self.ways
                for here in _reach(way)
                for left in _end(here, who, results)
            )
        )

    def give_up(self, who: str) -> Order:
        """The call is over, and nobody knows whether it has taken effect or will."""
        return Order(frozenset(_orphan(way, who) for way in self.ways))

    def withdraw(self, who: str) -> Order:
        """The call is over, and surely has not taken effect."""
        return Order(frozenset(left for way in self.ways for left in _end(way, who, None)))

    def rename(self, names: dict[str, str]) -> Order:
        return Order(
            frozenset(
                Way(
                    Map({names[who]: n for who, n in way.counts.items()}),
                    frozenset(p._replace(who=names[p.who]) for p in way.pending),
                )
                for way in self.ways
            )
        )


def _reach(way: Way) -> set[Way]:
    """The ways that this one can become by calls under way taking effect, in any order."""
    reached, todo = {way}, [way]
    while todo:
        for following in _effects(todo.pop()):
            if following not in reached:
                reached.add(following)
                todo.append(following)
    return reached


def _effects(way: Way) -> Iterator[Way]:
    for pending in way.pending:
        if pending.results is None:
            yield _take_effect(way, pending)


def _take_effect(way: Way, pending: Pending) -> Way:
    who, epoch = pending.who, 0
    before = View(sum(way.counts.values()), epoch, way.counts.get(who, 0))
    after, results = run_steps(before, pending.steps)
    counts = way.counts if after.epoch == epoch else Map()
    counts = counts.put(who, after.count) if after.count else counts.without(who)
    # R12: what its instance gave up before this is over now, whether or not it took effect.
    rest = frozenset(p for p in way.pending if p.who != who or p.number > pending.number)
    waiting = frozenset[Pending]() if pending.orphan else {pending._replace(results=results)}
    return Way(counts, rest | waiting)


def _end(way: Way, who: str, results: Results | None) -> Iterator[Way]:
    for pending in way.pending:
        if pending.who == who and not pending.orphan and pending.results == results:
            yield way._replace(pending=way.pending - {pending})


def _orphan(way: Way, who: str) -> Way:
    mine = {p for p in way.pending if p.who == who and not p.orphan}
    orphans = {p._replace(orphan=True) for p in mine if p.results is None}
    return way._replace(pending=(way.pending - mine) | orphans)
