"""The worlds that are explored are a matrix: every pair of features stands in some world."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oracle.check.call_kinds import KINDS
from oracle.check.search import explore
from oracle.check.state import Bounds
from oracle.check.suite import (
    FEATURES,
    LARGE,
    PAIRS,
    SUITES,
    Feature,
    features_of,
    pairs_of,
    weight,
    world_of,
    worlds,
)
from oracle.cli import suite as command
from oracle.cli.main import main
from oracle.cli.manifest import read_manifest
from oracle.model import VERSION


@pytest.mark.parametrize("suite", SUITES)
def test_every_pair_of_features_stands_in_some_world(suite: str) -> None:
    covered = set[frozenset[str]]().union(*map(pairs_of, worlds(suite)))
    missing = [(one.name, other.name) for one, other in PAIRS]
    assert [pair for pair in missing if frozenset(pair) not in covered] == []


@pytest.mark.parametrize("operations", [2, 3])
def test_every_pair_stands_in_some_world_of_so_many_calls(operations: int) -> None:
    """In the suite `full`: with calls that follow one another, and not only in worlds of one."""
    found = [bounds for bounds in worlds("full") if bounds.operations == operations]
    covered = set[frozenset[str]]().union(*map(pairs_of, found))
    pairs = [pair for pair in PAIRS if "operations" not in {feature.group for feature in pair}]
    assert all(frozenset((one.name, other.name)) in covered for one, other in pairs)


def test_the_pairs_that_are_left_out_cannot_be_in_a_world() -> None:
    """Two cases of one group; a call on two counters where there is one; a promise to be heard at
    once, which is late at once."""
    left_out = [
        {one.name, other.name}
        for number, one in enumerate(FEATURES)
        for other in FEATURES[number + 1 :]
        if one.group != other.group and (one, other) not in PAIRS
    ]
    assert left_out == [
        {"keys 1", "one call on two counters"},
        {"thresholds (1,)", "promises"},
    ]


def test_every_kind_of_call_and_every_bound_is_a_feature() -> None:
    """Except `first`, which only divides a world, and `linear`, which adds no states."""
    names = {feature.name for feature in FEATURES}
    assert names >= {kind.name for kind in KINDS}
    changed = {name for bounds in worlds("quick") for name in _changed(bounds)}
    assert changed == set(Bounds._fields) - {"first"}


def _changed(bounds: Bounds) -> list[str]:
    return [name for name in Bounds._fields if getattr(bounds, name) != getattr(Bounds(), name)]


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_world_that_is_made_for_a_feature_has_it(feature: Feature) -> None:
    bounds = world_of((feature,))
    assert feature in features_of(bounds)
    assert not bounds.fault


@pytest.mark.parametrize("suite", SUITES)
def test_every_world_is_possible_and_the_smallest_come_first(suite: str) -> None:
    found = worlds(suite)
    assert not any(bounds.fault for bounds in found)
    assert len(set(found)) == len(found)
    weights = [weight(features_of(bounds)) for bounds in found]
    assert weights == sorted(weights)


def test_the_full_suite_has_the_quick_one_and_the_large_worlds() -> None:
    assert set(worlds("full")) > {*worlds("quick"), *LARGE}


# --- The command ----------------------------------------------------------------------------------

SMALL = (
    Bounds(operations=1, kinds=KINDS[:1]),
    Bounds(operations=1, kinds=KINDS[1:2]),
    Bounds(operations=1, kinds=KINDS[1:2], give_ups=1),
)


@pytest.fixture(autouse=True)
def _small_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "worlds", lambda _: SMALL)


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, ["explore", "--suite", "quick", *words])


def test_a_suite_is_explored_world_by_world(tmp_path: Path) -> None:
    manifest = tmp_path / "explored.json"
    result = _run("--manifest", str(manifest))
    assert result.exit_code == 0, result.output
    assert result.stdout.count("nothing found") == 3
    assert "3 worlds to the end" in result.stdout
    commands = [world["command"] for world in read_manifest(manifest)]
    assert commands == [
        "python -m oracle explore --operations 1 --kinds get",
        "python -m oracle explore --operations 1 --kinds inc",
        "python -m oracle explore --operations 1 --kinds inc --give-ups 1",
    ]


def test_a_suite_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    manifest = tmp_path / "explored.json"
    stopped = _run("--manifest", str(manifest), "--budget", "5")
    assert stopped.exit_code == 3
    assert "worlds are left" in stopped.stdout
    done = len(read_manifest(manifest))
    assert done < 3
    result = _run("--manifest", str(manifest))
    assert result.exit_code == 0
    assert result.stdout.count("nothing found") == 3 - done
    assert "3 worlds to the end" in result.stdout


def test_worlds_of_another_version_of_the_protocol_are_explored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "explored.json"
    _run("--manifest", str(manifest))
    monkeypatch.setattr(command, "VERSION", VERSION + 1)
    assert _run("--manifest", str(manifest)).stdout.count("nothing found") == 3


def test_a_suite_goes_with_no_bounds_of_its_own() -> None:
    result = _run("--ticks", "1")
    assert result.exit_code == 2
    assert "--suite goes with" in result.output


def test_the_smallest_world_weighs_about_ten_states() -> None:
    """Two instances and one call of one kind; and each instance from the fourth on weighs 1 more,
    because it can act in many more orders."""
    assert weight(()) == pytest.approx(1.0)
    explored = explore(world_of(()))
    assert 3 < explored.states < 300
