"""The worlds that are explored: a matrix, in which every pair of features stands in some world.

A feature is something that a world can have: a kind of call, a number of instances, a crash, a
loss. A fault of the protocol needs few of them together, so the worlds are made to have every pair,
in few and small worlds: `matrix` starts from the first pair that is missing, and adds the features
that bring most of the other missing pairs and keep the world small.

`worlds` has the worlds of each suite, smallest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import combinations
from math import log10
from typing import Any, NamedTuple

from oracle.check.call_kinds import AND, KINDS, THEN, CallKind, kinds
from oracle.check.state import Bounds

# --- Features -------------------------------------------------------------------------------------


class Feature(NamedTuple):
    """Something that a world can have.

    Attributes:
        name: what it is called.
        group: what it is a case of. A world has one feature of a group.
        has: whether a world has it.
        change: the bounds of a world that has it.
        weight: about how many powers of ten larger it makes a world, for each call in it.
    """

    name: str
    group: str
    has: Callable[[Bounds], bool]
    change: dict[str, Any]
    weight: float


def _is(bound: str, value: Any, weight: float, **also: Any) -> Feature:
    """The world has this value of a bound."""

    def has(bounds: Bounds) -> bool:
        return bool(getattr(bounds, bound) == value)

    return Feature(f"{bound} {value}", bound, has, {bound: value, **also}, weight)


def _once(bound: str, weight: float, **also: Any) -> Feature:
    """It happens in the world, at least once."""

    def has(bounds: Bounds) -> bool:
        return bool(getattr(bounds, bound))

    return Feature(bound, bound, has, {bound: 1, **also}, weight)


def _called(kind: CallKind) -> Feature:
    def has(bounds: Bounds) -> bool:
        return kind in bounds.kinds

    return Feature(kind.name, kind.name, has, {"kinds": (kind,)}, 0)


def _called_together(name: str, between: str, example: str, **also: Any) -> Feature:
    def has(bounds: Bounds) -> bool:
        return any(between in kind.name for kind in bounds.kinds)

    return Feature(name, name, has, {"kinds": kinds(example), **also}, 0)


def _promised(bounds: Bounds) -> bool:
    return any(bounds.promises)


FEATURES = (
    *(_is("operations", number, 0) for number in (1, 2, 3)),
    *(_is("instances", number, weight) for number, weight in ((2, 0), (1, -0.3), (3, 0.25))),
    *(_is("keys", number, weight) for number, weight in ((1, 0), (2, 0.2))),
    *map(_called, KINDS),
    _called_together("two steps in one call", THEN, "inc_then_set"),
    _called_together("one call on two counters", AND, "inc_and_delete", keys=2),
    *(_is("thresholds", each, 0) for each in ((2,), (1,), (3,), (1, 3))),
    _once("ticks", 0.6),
    _once("crashes", 0.1),
    _once("joins", 0.5),
    _once("reuses", 0.2, crashes=1),
    _once("give_ups", 0.15),
    Feature("promises", "promises", _promised, {}, 0.1),
    _once("losses", 0.6),
    _once("key_losses", 1),
    _once("rollbacks", 0.8),
    _once("key_rollbacks", 0.8),
)
"""Every feature, those that are usual first."""


def _go_together(features: Sequence[Feature]) -> bool:
    """Whether a world can have all of these."""
    names = {feature.name for feature in features}
    groups = {feature.group for feature in features}
    late = {"promises", "thresholds (1,)"}  # who promises to be heard at once is always late
    return (
        len(groups) == len(features)
        and not late <= names
        and not ({"keys 1", "one call on two counters"} <= names)
    )


Pair = frozenset[str]

PAIRS: tuple[tuple[Feature, Feature], ...] = tuple(
    pair for pair in combinations(FEATURES, 2) if _go_together(pair)
)
"""Every pair of features that a world can have."""


def pairs_of(bounds: Bounds) -> set[Pair]:
    """The pairs of features that a world has, by their names."""
    return {frozenset(pair) for pair in combinations([f.name for f in features_of(bounds)], 2)}


# --- The matrix -----------------------------------------------------------------------------------


def world_of(features: Sequence[Feature]) -> Bounds:
    """The smallest world that has these features."""
    values: dict[str, Any] = {"operations": 1}
    called: tuple[CallKind, ...] = ()
    for feature in features:
        values |= {name: value for name, value in feature.change.items() if name != "kinds"}
        called += feature.change.get("kinds", ())
    bounds = Bounds(**values)._replace(kinds=called or kinds("inc"))
    if "promises" in {feature.name for feature in features}:
        bounds = bounds._replace(promises=tuple(int(ms > 1) for ms in bounds.thresholds))
    return bounds


def weight(features: Sequence[Feature]) -> float:
    """About how many powers of ten of states the world has. It is fitted to explorations of random
    small worlds, and good for choosing worlds, no more."""
    bounds = world_of(features)
    each = 0.5 + log10(len(bounds.kinds)) + sum(feature.weight for feature in features)
    crowd = max(0, bounds.instances + bounds.joins - 3)  # many orders to act in
    return 0.5 + bounds.operations * each + 0.3 * bounds.crashes + crowd


def matrix(first: Sequence[Feature], limit: float) -> Iterator[Bounds]:
    """Worlds that have every pair of features.

    Args:
        first: features that every world has.
        limit: the weight up to which a world gets further features. A world that has only `first`
            and one pair may be heavier.
    """
    missing = {frozenset((one.name, other.name)): (one, other) for one, other in PAIRS}
    missing = {names: pair for names, pair in missing.items() if _go_together(_union(first, pair))}
    while missing:
        features = _union(first, min(missing.values(), key=weight))
        while better := _best(features, missing, limit):
            features = (*features, better)
        bounds = world_of(features)
        yield bounds
        for names in pairs_of(bounds):
            missing.pop(names, None)


def features_of(bounds: Bounds) -> tuple[Feature, ...]:
    """The features that a world has."""
    return tuple(feature for feature in FEATURES if feature.has(bounds))


def _union(first: Sequence[Feature], others: Sequence[Feature]) -> tuple[Feature, ...]:
    return (*first, *(feature for feature in others if feature not in first))


def _best(
    features: tuple[Feature, ...], missing: dict[Pair, tuple[Feature, Feature]], limit: float
) -> Feature | None:
    """The feature that brings the most missing pairs to a world, if any does."""
    most, best = 0, None
    for feature in FEATURES:
        larger = (*features, feature)
        if not _go_together(larger) or weight(larger) > limit:
            continue
        brings = sum(frozenset((feature.name, one.name)) in missing for one in features)
        if brings > most:
            most, best = brings, feature
    return best


# --- The suites -----------------------------------------------------------------------------------

CHOSEN = (
    Bounds(kinds=kinds("inc,set,delete_on_instance"), give_ups=1, linear=True),
    Bounds(kinds=kinds("inc_then_set,set_if_then_inc,leave"), ticks=1, give_ups=1, linear=True),
    Bounds(1, operations=3, kinds=kinds("inc,delete_on_instance,heartbeat"), give_ups=1),
    Bounds(1, operations=3, kinds=kinds("inc,get,leave"), losses=1),
    Bounds(kinds=kinds("heartbeat,leave"), promises=(1, 0), ticks=2),
    Bounds(operations=1, kinds=kinds("inc,set"), losses=2),
    Bounds(operations=1, kinds=kinds("inc,delete"), key_losses=2),
    Bounds(operations=1, kinds=kinds("inc"), rollbacks=2),
    Bounds(operations=1, kinds=kinds("inc"), key_rollbacks=2),
)
"""Small worlds of their own: where linearizability is checked, where something happens twice, and
where faults of the protocol were found while it was made."""

LARGE = (
    Bounds(thresholds=(3,), promises=(1,), ticks=2, crashes=1, give_ups=1, linear=True),
    Bounds(operations=3, ticks=1, give_ups=1),
    Bounds(kinds=kinds("inc,set,release,leave"), ticks=2, crashes=1, reuses=1, give_ups=1),
)
"""Large worlds of their own: with calls of every kind, and much that happens twice."""

SUITES = ("quick", "full")


@cache
def worlds(suite: str) -> tuple[Bounds, ...]:
    """The worlds of a suite, smallest first as far as `weight` knows."""
    found = [*CHOSEN, *matrix((), 4.0)]
    if suite == "full":
        two, three = (_feature(f"operations {number}") for number in (2, 3))
        found += [*LARGE, *matrix((two,), 5.5), *matrix((three,), 6.3)]
    return tuple(sorted(dict.fromkeys(found), key=lambda bounds: weight(features_of(bounds))))


def _feature(name: str) -> Feature:
    return next(feature for feature in FEATURES if feature.name == name)
