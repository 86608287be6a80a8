"""Numbers for worlds: each part of a world is interned, and a world is one number made of theirs.

The parts are the context, the server and the slots. The number of a world has 63 bits and holds the
exact numbers of its parts. It is not a hash, so no state can be missed by a collision.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from oracle.check.fast.tables import Array, Attribute, Interner, Table, TooLarge
from oracle.check.state import MORE, ONE_KEY, Bounds, Context, Slot, World
from oracle.check.transitions import Past
from oracle.model import Server

CONTEXT, SERVER, SLOT, PLACE = 22, 24, 20, 3
"""How many bits the number of a part has as the argument of a table; PLACE is that of a slot's
place in the world."""

PASTS = [Past(*both) for both in product((0, ONE_KEY, MORE), (False, True))]
"""Every past, by its number."""

ROOM = 63
"""How many bits there are for the number of a world."""


class Worlds(NamedTuple):
    """Many worlds: the numbers of their contexts, of their servers, and of the slot in each
    place."""

    contexts: Array
    servers: Array
    slots: tuple[Array, ...]

    def at(self, places: Array) -> Worlds:
        slots = tuple(slot[places] for slot in self.slots)
        return Worlds(self.contexts[places], self.servers[places], slots)

    def with_slot(self, place: int, slot: Array) -> Worlds:
        return self._replace(slots=(*self.slots[:place], slot, *self.slots[place + 1 :]))


def concatenate(worlds: Sequence[Worlds]) -> Worlds:
    return Worlds(
        np.concatenate([each.contexts for each in worlds]),
        np.concatenate([each.servers for each in worlds]),
        tuple(map(np.concatenate, zip(*(each.slots for each in worlds), strict=True))),
    )


class Layout(NamedTuple):
    """How a world is packed into one number: `common` bits for the context and the server, then
    `slot` bits for each of the `places`. A wider layout keeps the order of the numbers."""

    common: int
    slot: int
    places: int

    @property
    def size(self) -> int:
        return self.common + self.slot * self.places

    def covers(self, other: Layout) -> bool:
        return all(mine >= its for mine, its in zip(self, other, strict=True))

    def roomy(self) -> Layout:
        """One with a bit more for each part, where there is room. Raises TooLarge."""
        if self.size > ROOM:
            raise TooLarge(f"a world of so many different parts takes {self.size} bits, not {ROOM}")
        layout = self
        for field in self._fields[:2]:
            wider = layout._replace(**{field: getattr(layout, field) + 1})
            layout = wider if wider.size <= ROOM else layout
        return layout

    def pack(self, parts: Sequence[Array]) -> Array:
        numbers, *slots = parts
        for slot in slots:
            numbers = numbers << self.slot | slot
        return numbers

    def unpack(self, numbers: Array) -> tuple[Array, ...]:
        slots = []
        for _ in range(self.places):
            slots.append(numbers & 2**self.slot - 1)
            numbers = numbers >> self.slot
        return (numbers, *reversed(slots))


class Parts:
    """The parts of the worlds that were met so far."""

    def __init__(self, bounds: Bounds) -> None:
        self.places = bounds.instances + bounds.joins
        self.servers: Interner[Server] = Interner("states of the server", SERVER)
        self.slots: Interner[Slot] = Interner("states of an instance", SLOT)
        self.contexts: Interner[Context] = Interner("contexts", CONTEXT)
        self.past = Attribute(self.contexts, lambda context: PASTS.index(Past.of(context)))

        # Few contexts go with a server: numbering the two together leaves more bits for slots.
        self.commons: Interner[tuple[int, int]] = Interner("contexts with a server", 62)
        self.context_of = Attribute(self.commons, lambda common: common[0])
        self.server_of = Attribute(self.commons, lambda common: common[1])
        self.common = Table((CONTEXT, SERVER), lambda *common: self.commons.number(common))

    def intern(self, world: World) -> Worlds:
        """One world as numbers. Its wall clock has to be 0: reduced worlds are in relative time."""
        assert world.wall == 0
        return Worlds(
            np.array([self.contexts.number(world.context)]),
            np.array([self.servers.number(world.server)]),
            tuple(np.array([self.slots.number(slot)]) for slot in world.slots),
        )

    def world(self, worlds: Worlds, index: int) -> World:
        """One of the worlds, as a value."""
        return World(
            0,
            self.servers.values[worlds.servers[index]],
            self.contexts.values[worlds.contexts[index]],
            tuple(self.slots.values[slot[index]] for slot in worlds.slots),
        )

    def layout(self) -> Layout:
        """The narrowest layout for the parts that were met so far."""
        commons, slots = self.commons.values, self.slots.values
        return Layout(len(commons).bit_length(), len(slots).bit_length(), self.places)

    def split(self, worlds: Worlds) -> tuple[Array, ...]:
        """What a layout packs: the number of the context with the server, and those of the
        slots."""
        return self.common.of(worlds.contexts, worlds.servers), *worlds.slots

    def join(self, parts: Sequence[Array]) -> Worlds:
        common, *slots = parts
        return Worlds(self.context_of.of(common), self.server_of.of(common), tuple(slots))
