"""The explored worlds reach what they are meant to reach (R5 to R11, R14 to R19).

"Nothing was found" means little if a step, a condition or a loss never occurred. The counts are
exact: if a kind of call stops doing something, they change.
"""

from __future__ import annotations

from functools import cache

import pytest

from oracle.check.call_kinds import kinds
from oracle.check.state import Bounds
from tests.oracle.reached import EVERYTHING, reached_in

WORLDS = {
    "every kind of call": Bounds(),
    "conditions": Bounds(kinds=kinds("inc_if,set_if,set_on_instance_if")),
    "counters that vanish": Bounds(operations=3, kinds=kinds("inc,delete,leave")),
    "counters let go, and a key lost": Bounds(
        kinds=kinds("delete_on_instance,delete,heartbeat,release"), key_losses=1
    ),
    "promises, and an id used again": Bounds(
        kinds=kinds("inc,leave"), promises=(1,), ticks=1, crashes=1, reuses=1
    ),
    "deaths": Bounds(kinds=kinds("inc"), thresholds=(1,), ticks=1, crashes=1),
    "one instance, and a key lost": Bounds(1, kinds=kinds("inc,leave"), key_losses=1),
    "a rollback": Bounds(1, operations=3, kinds=kinds("inc,leave"), rollbacks=1),
    "a key falls back": Bounds(kinds=kinds("set,heartbeat"), key_rollbacks=1),
}
"""Small worlds, each for what its name says."""

reached_by = cache(reached_in)


def test_together_the_worlds_reach_everything() -> None:
    together = set[str]().union(*map(reached_by, WORLDS.values()))
    assert together == EVERYTHING


def test_a_condition_holds_and_does_not_hold_exactly_so_often() -> None:
    """A condition that never held would hide that its step runs."""
    reached = reached_by(WORLDS["conditions"])
    assert {name: count for name, count in reached.items() if "condition" in name} == {
        "inc on a condition that holds": 7,
        "inc on a condition that does not hold": 15,
        "set on a condition that holds": 7,
        "set on a condition that does not hold": 15,
        "set_on_instance on a condition that holds": 19,
        "set_on_instance on a condition that does not hold": 3,
    }


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        (
            "a rollback",
            {"lost writes are found": 26, "an open finds lost writes": 22}
            | {"an open replaces the session of a late copy": 33, "a count is restored": 8},
        ),
        ("deaths", {"a dead slice is removed": 22}),
    ],
)
def test_a_small_world_reaches_exactly_so_much(world: str, expected: dict[str, int]) -> None:
    reached = reached_by(WORLDS[world])
    assert {name: reached[name] for name in expected} == expected
