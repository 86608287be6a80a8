"""Properties that hold until Redis falls back to an earlier state: the shortest history of each
that shows why not longer.

`spec/VERIFICATION.md` tells them. Full losses, and losses of single keys, relax nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from oracle.check import transitions
from oracle.check.call_kinds import kinds
from oracle.check.fast.search import Exploration, explore
from oracle.check.properties import PROPERTIES, Answered, Counted, Executed
from oracle.check.state import Bounds, Context

RELAXED = (Executed, Answered, Counted)


class Relaxed(NamedTuple):
    """A property, a world in which it does not hold after a rollback, and the events to see it."""

    observed: type
    bounds: Bounds
    events: int


SET = Bounds(operations=3, first=kinds("set") * 2, kinds=kinds("get"), rollbacks=1)
DELETE = Bounds(1, kinds=kinds("delete,release"), key_rollbacks=1)
DEATH = Bounds(
    first=kinds("inc,set"), kinds=kinds("inc"), thresholds=(1,), ticks=1, key_rollbacks=1
)
HISTORIES = {
    "a request runs again after a rollback": Relaxed(
        Executed, Bounds(operations=1, kinds=kinds("inc"), rollbacks=1), 6
    ),
    "a request runs again after the sessions alone fell back": Relaxed(Executed, DELETE, 8),
    "a retry gets another reply after a rollback": Relaxed(
        Answered, Bounds(kinds=kinds("inc"), rollbacks=1), 9
    ),
    "a retry gets another reply after the sessions alone fell back": Relaxed(Answered, DEATH, 10),
    "one set starts two epochs after a rollback": Relaxed(Counted, SET, 13),
    "one delete starts two epochs after the sessions alone fell back": Relaxed(Counted, DELETE, 8),
}


def _explore_strictly(
    monkeypatch: pytest.MonkeyPatch, observed: type, bounds: Bounds
) -> Exploration:
    """Explore as if no rollback relaxed this property, and without the others that one relaxes."""
    restore = transitions._restore

    def forget(context: Context, number: int) -> Context:
        after = restore(context, number)
        return after._replace(rolled_back=0, moves_of_epoch=context.moves_of_epoch)

    monkeypatch.setattr(transitions, "_restore", forget)
    for other in set(RELAXED) - {observed}:
        monkeypatch.setitem(PROPERTIES, other, [])
    return explore(bounds)


@pytest.mark.parametrize("name", HISTORIES)
def test_a_property_is_relaxed_because_a_history_breaks_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed, bounds, events = HISTORIES[name]
    assert not explore(bounds).violation
    found = _explore_strictly(monkeypatch, observed, bounds)
    (prop,) = PROPERTIES[observed]
    assert prop.name in found.violation
    assert len(found.trace) == events


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(kinds=kinds("inc,delete,release"), key_rollbacks=1),
        Bounds(1, keys=2, kinds=kinds("inc,set"), give_ups=1, key_rollbacks=1),
    ],
)
def test_one_key_that_falls_back_does_not_change_the_reply_to_a_retry(
    bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _explore_strictly(monkeypatch, Answered, bounds).finished
