"""The states of a bounded world as arrays of numbers, and the successors of each.

`oracle.check.fast.search` walks through it. This file only puts the pieces together: which of them
is applied to which worlds, and when.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from oracle.check.fast.forgetting import Forgetting
from oracle.check.fast.parts import Parts, Worlds, concatenate
from oracle.check.fast.quiescence import QuiescenceCheck
from oracle.check.fast.reductions import relative_world
from oracle.check.fast.successors import Successors
from oracle.check.fast.symmetry import Symmetry
from oracle.check.fast.tables import Array
from oracle.check.state import RIGHT, Bounds, Protocol, World


class Space:
    """A bounded world's states by their numbers, after the reductions."""

    def __init__(
        self, bounds: Bounds, protocol: Protocol = RIGHT, *, symmetry: bool = True
    ) -> None:
        self.parts = Parts(bounds)
        self.next = Successors(self.parts, bounds, protocol)
        self.forgetting = Forgetting(self.parts, bounds, protocol)
        self.symmetry = Symmetry(self.parts, applies=symmetry)
        self.quiescence = QuiescenceCheck(self.parts, protocol)

    def reduced(self, world: World) -> Worlds:
        """One world after the reductions."""
        worlds = self.parts.intern(relative_world(world))
        for place in range(self.parts.places):
            worlds = self.forgetting.without_records(worlds, place)
        return self._reduced(worlds)

    def successors(self, worlds: Worlds) -> tuple[Array, Worlds]:
        """What can come next, after the reductions. What leaves a world as it is, is left out.

        Returns:
            For each successor the place of the world that it comes after; and the successors.

        Raises:
            Violation: something that can happen breaks a property.
        """
        found = list(self._moves(worlds))
        origins = np.concatenate([places for places, _ in found])
        after = self._reduced(concatenate([each for _, each in found]))
        moved = (after.contexts != worlds.contexts[origins]) | (
            after.servers != worlds.servers[origins]
        )
        for now, before in zip(after.slots, worlds.slots, strict=True):
            moved |= now != before[origins]
        (places,) = moved.nonzero()
        return origins[places], after.at(places)

    def _moves(self, worlds: Worlds) -> Iterator[tuple[Array, Worlds]]:
        yield self.next.of_common_events(worlds)
        for place in range(self.parts.places):
            for origins, after in self.next.of_instance(worlds, place):
                yield origins, self.forgetting.without_records(after, place)

    def _reduced(self, worlds: Worlds) -> Worlds:
        worlds = self.forgetting.without_past(worlds)
        return self.symmetry.representatives(self.forgetting.without_spent_requests(worlds))
