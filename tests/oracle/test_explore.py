"""The worlds of the suite `quick` are explored to the end: nothing is found in the protocol. And
the fault of every broken protocol is found.

`oracle.check.properties` has the properties, each with its rules.
"""

from __future__ import annotations

import pytest

from oracle.check.broken import BROKEN
from oracle.check.fast.search import Budget, Options, explore
from oracle.check.properties import PROPERTIES, Property
from oracle.check.state import Bounds
from oracle.check.suite import worlds
from oracle.check.trace import encode_bounds
from oracle.cli.explore import command_of
from oracle.cli.manifest import Entry, entry, read_manifest
from tests.oracle.worlds import MANIFEST, PAGE

EVERY_PROPERTY = [prop for props in PROPERTIES.values() for prop in props]


SHOW_A_FAULT: list[Bounds] = sorted({b.bounds for b in BROKEN.values()}, key=command_of)


def _recorded(bounds: Bounds) -> Entry:
    """What the manifest says about a world."""
    encoded = encode_bounds(bounds)
    (recorded,) = (world for world in read_manifest(MANIFEST) if world["bounds"] == encoded)
    return recorded


@pytest.mark.parametrize("bounds", worlds("quick"), ids=command_of)
def test_a_small_world_is_explored_as_the_manifest_says(bounds: Bounds) -> None:
    """Nothing is found, to the end, in just as many states."""
    recorded = _recorded(bounds)
    found = explore(bounds)
    assert not found.violation, found
    assert found.finished
    mine = entry(bounds, recorded["command"], found)
    assert mine | {"seconds": 0} == recorded | {"seconds": 0}


@pytest.mark.parametrize("name", BROKEN)
def test_the_fault_of_a_broken_protocol_is_found_with_its_shortest_trace(name: str) -> None:
    protocol, bounds, breaks = BROKEN[name]
    found = explore(bounds, protocol)
    assert f", {breaks}: " in found.violation
    apart = explore(bounds, protocol, Options(symmetry=False))
    assert len(found.trace) == len(apart.trace) <= 12
    assert f"| {name} | {breaks} | {len(found.trace)} |" in PAGE.read_text("utf-8")


@pytest.mark.parametrize("bounds", SHOW_A_FAULT, ids=command_of)
def test_nothing_is_found_where_a_broken_protocol_shows_its_fault(bounds: Bounds) -> None:
    found = explore(bounds, options=Options(budget=Budget(states=50_000)))
    assert not found.violation, found


@pytest.mark.parametrize("prop", EVERY_PROPERTY, ids=lambda prop: prop.name)
def test_every_property_is_broken_by_some_protocol(prop: Property) -> None:
    assert any(broken.breaks == prop.name for broken in BROKEN.values())
    assert prop.statement


def test_a_budget_of_states_ends_the_search() -> None:
    found = explore(Bounds(give_ups=1, ticks=2), options=Options(budget=Budget(states=10_000)))
    assert not found.finished
    assert not found.violation
    assert 10_000 < found.states < 100_000


def test_a_budget_of_seconds_ends_the_search() -> None:
    found = explore(Bounds(give_ups=1, ticks=2), options=Options(budget=Budget(seconds=0)))
    assert not found.finished
