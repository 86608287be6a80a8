"""Small worlds, explored to the end: nothing is found in the machine, and every broken one is
found.

`oracle.check.properties` has the properties, each with its rule.
"""

from __future__ import annotations

import pytest

from oracle import model
from oracle.check.broken import BROKEN
from oracle.check.fast.search import Budget, explore
from oracle.check.properties import PROPERTIES, Property
from oracle.check.world import Bounds

INC_SET, INC_GET = ("inc", "set"), ("inc", "get")
EVERY_PROPERTY = [prop for props in PROPERTIES.values() for prop in props]

WORLDS = {
    "two calls of every kind, given up": (Bounds(give_ups=2), 5_300),
    "two calls of every kind, linearizable": (
        Bounds(threshold=3, ticks=1, crashes=1, give_ups=1, linear=True),
        1_000_000,
    ),
    "two operations on a counter, and a clock that moves twice": (
        Bounds(kinds=model.OPERATIONS, ticks=2, crashes=1, give_ups=1),
        3_500_000,
    ),
    "calls of two steps": (
        Bounds(
            kinds=("inc_then_set", "set_if_then_inc", "get_then_set_on_instance", "leave"),
            ticks=1,
            crashes=1,
            give_ups=1,
            linear=True,
        ),
        100_000,
    ),
    "two counters": (Bounds(keys=2, kinds=INC_SET, give_ups=1), 2_100),
    "three instances": (Bounds(3, kinds=("inc", "delete"), give_ups=1), 500),
    "a newcomer and a crash": (Bounds(1, joins=1, crashes=1, give_ups=1), 11_500),
    "everything lost": (Bounds(operations=1, losses=1, give_ups=1), 780),
    "everything lost twice": (Bounds(operations=1, kinds=INC_SET, losses=2), 2_900),
    "two calls, and everything lost": (Bounds(kinds=INC_GET, losses=1), 10_000),
    "a rollback": (Bounds(operations=1, rollbacks=1, give_ups=1), 900),
    "two rollbacks": (Bounds(operations=1, kinds=INC_SET, rollbacks=2), 3_700),
    "two calls and a rollback": (Bounds(kinds=INC_SET, rollbacks=1), 10_000),
    "a loss, a rollback and a clock": (
        Bounds(operations=1, kinds=INC_SET, losses=1, rollbacks=1, ticks=1),
        28_000,
    ),
}
"""The number is how many states each has at the least, before symmetry, so that none gets lost
unnoticed."""


@pytest.mark.parametrize("name", WORLDS)
def test_nothing_is_found_in_a_small_world(name: str) -> None:
    bounds, at_least = WORLDS[name]
    found = explore(bounds)
    assert not found.violation, found
    assert found.complete
    assert found.worlds >= at_least


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_protocol_is_found_out_with_its_shortest_history(name: str) -> None:
    protocol, bounds, breaks = BROKEN[name]
    found = explore(bounds, protocol)
    assert f", {breaks}: " in found.violation
    shorter = explore(bounds, protocol, symmetry=False)
    assert len(found.trace) == len(shorter.trace) <= 12


@pytest.mark.parametrize("name", BROKEN)
def test_the_right_protocol_stands_where_a_broken_one_falls(name: str) -> None:
    found = explore(BROKEN[name].bounds, budget=Budget(states=50_000))
    assert not found.violation, found


@pytest.mark.parametrize("prop", EVERY_PROPERTY, ids=lambda prop: prop.name)
def test_every_property_is_broken_by_some_protocol(prop: Property) -> None:
    assert any(broken.breaks == prop.name for broken in BROKEN.values())
    assert prop.words


def test_a_budget_of_states_ends_the_search() -> None:
    found = explore(Bounds(give_ups=1, ticks=2), budget=Budget(states=10_000))
    assert not found.complete
    assert not found.violation
    assert 10_000 < found.states < 100_000


def test_a_budget_of_seconds_ends_the_search() -> None:
    found = explore(Bounds(give_ups=1, ticks=2), budget=Budget(seconds=0))
    assert not found.complete
