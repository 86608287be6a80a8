"""Linearizability, checked as the calls go on: do the replies so far fit some order of the calls?

Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) search the orders of a finished
history. Here the search goes along with the history, as in Lowe ("Testing for linearizability",
2017): `Linearizations` holds every configuration that the counter may be in (what each instance has
counted, which of the calls under way have taken effect, and with what result). A reply rules out
the configurations that do not lead to it. The history is linearizable iff at least one is left. The
counter here is a plain atomic one: it has no sessions, epochs or messages.

A call that was given up may take effect once, before its instance's next call does, or never (R12).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from oracle.model import Change, CounterState, Map, Step, View, run_steps

Results = tuple[CounterState | Change | None, ...]


class PendingCall(NamedTuple):
    """A call under way.

    Attributes:
        who: the instance.
        number: which of its calls this is; a later call has a higher number.
        steps: what the call does.
        results: what it returns, once it has taken effect.
        orphan: whether the instance has given it up.
    """

    who: str
    number: int
    steps: tuple[Step, ...]
    results: Results | None = None
    orphan: bool = False


class Configuration(NamedTuple):
    """One state in which the counter may be."""

    counts: Map[str, int] = Map()
    pending: frozenset[PendingCall] = frozenset()


class Linearizations(NamedTuple):
    """Every configuration in which one counter may be. None: the history is not linearizable."""

    configurations: frozenset[Configuration] = frozenset({Configuration()})

    def call(self, who: str, number: int, *steps: Step) -> Linearizations:
        """A call begins."""
        begun = PendingCall(who, number, steps)
        return Linearizations(
            frozenset(c._replace(pending=c.pending | {begun}) for c in self.configurations)
        )

    def awaits(self, who: str) -> bool:
        """Whether a call of this instance is under way here."""
        return any(
            call.who == who and not call.orphan
            for configuration in self.configurations
            for call in configuration.pending
        )

    def reply(self, who: str, *results: CounterState | Change) -> Linearizations:
        """The call returns these results: by now it must have taken effect, with just these."""
        return Linearizations(
            frozenset(
                left
                for configuration in self.configurations
                for reached in _reach(configuration)
                for left in _end(reached, who, results)
            )
        )

    def give_up(self, who: str) -> Linearizations:
        """The call is over, and nobody knows whether it has taken effect or will."""
        return Linearizations(frozenset(_orphan(c, who) for c in self.configurations))

    def withdraw(self, who: str) -> Linearizations:
        """The call is over, and certainly has not taken effect."""
        return Linearizations(
            frozenset(left for c in self.configurations for left in _end(c, who, None))
        )

    def rename(self, names: dict[str, str]) -> Linearizations:
        """The same history under other names."""
        return Linearizations(
            frozenset(
                Configuration(
                    Map({names[who]: n for who, n in c.counts.items()}),
                    frozenset(call._replace(who=names[call.who]) for call in c.pending),
                )
                for c in self.configurations
            )
        )


def _reach(configuration: Configuration) -> set[Configuration]:
    """Every configuration that results when calls under way take effect, in any order."""
    reached, todo = {configuration}, [configuration]
    while todo:
        for following in _effects(todo.pop()):
            if following not in reached:
                reached.add(following)
                todo.append(following)
    return reached


def _effects(configuration: Configuration) -> Iterator[Configuration]:
    for call in configuration.pending:
        if call.results is None:
            yield _take_effect(configuration, call)


def _take_effect(configuration: Configuration, call: PendingCall) -> Configuration:
    who, epoch, counts = call.who, 0, configuration.counts
    before = View(sum(counts.values()), epoch, counts.get(who, 0))
    after, results = run_steps(before, call.steps)
    counts = counts if after.epoch == epoch else Map()
    counts = counts.put(who, after.count) if after.count else counts.without(who)
    # R12: a call that this instance gave up earlier cannot take effect any more.
    others = frozenset(c for c in configuration.pending if c.who != who or c.number > call.number)
    waiting = frozenset[PendingCall]() if call.orphan else {call._replace(results=results)}
    return Configuration(counts, others | waiting)


def _end(
    configuration: Configuration, who: str, results: Results | None
) -> Iterator[Configuration]:
    for call in configuration.pending:
        if call.who == who and not call.orphan and call.results == results:
            yield configuration._replace(pending=configuration.pending - {call})


def _orphan(configuration: Configuration, who: str) -> Configuration:
    mine = {call for call in configuration.pending if call.who == who and not call.orphan}
    orphans = {call._replace(orphan=True) for call in mine if call.results is None}
    return configuration._replace(pending=(configuration.pending - mine) | orphans)
