"""Applies the reduction "names" of `oracle.check.fast.reductions` to arrays.

Worlds that differ only in the names of the instances form an orbit. One world stands for each
orbit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, permutations
from math import factorial

import numpy as np

from oracle.check.fast.parts import CONTEXT, SERVER, Parts, Worlds
from oracle.check.fast.reductions import rename_context, rename_server
from oracle.check.fast.tables import Array, Table
from oracle.check.state import NAMES

ORDER = 16
"""How many bits the number of an order has as the argument of a table: 8! orders at most."""


class Symmetry:
    """The orbits of worlds. Without `applies`, every world is an orbit of its own."""

    def __init__(self, parts: Parts, applies: bool) -> None:
        self._parts, self._applies = parts, applies
        self._orders = list(permutations(range(parts.places))) if applies else []
        self._renamed_contexts = Table((CONTEXT, ORDER), self._compute_rename_context)
        self._renamed_servers = Table((SERVER, ORDER), self._compute_rename_server)

    def representatives(self, worlds: Worlds) -> Worlds:
        """The world that stands for the orbit of each: one whose slots' numbers are in order, and
        of these the one with the least context and server."""
        if not self._applies or self._parts.places == 1:
            return worlds
        best = np.full(len(worlds.servers), 2**62)
        for number, order in enumerate(self._orders):
            (places,) = _in_order([worlds.slots[old] for old in order]).nonzero()
            contexts, servers = worlds.contexts[places], worlds.servers[places]
            if number:
                contexts = self._renamed_contexts.of(contexts, number)
                servers = self._renamed_servers.of(servers, number)
            best[places] = np.minimum(best[places], contexts << SERVER | servers)
        slots = tuple(np.sort(np.stack(worlds.slots), axis=0))
        return Worlds(best >> SERVER, best & 2**SERVER - 1, slots)

    def orbit_sizes(self, worlds: Worlds) -> int:
        """How many worlds the orbits of these have in all."""
        if not self._applies:
            return len(worlds.servers)
        same = np.ones(len(worlds.servers), np.int64)
        for number, order in enumerate(self._orders[1:], start=1):
            alike = [worlds.slots[old] == worlds.slots[new] for new, old in enumerate(order)]
            (places,) = np.logical_and.reduce(alike).nonzero()
            contexts, servers = worlds.contexts[places], worlds.servers[places]
            same[places] += (self._renamed_contexts.of(contexts, number) == contexts) & (
                self._renamed_servers.of(servers, number) == servers
            )
        return int((factorial(self._parts.places) // same).sum())

    # --- What is computed once --------------------------------------------------------------------

    def _compute_rename_context(self, context: int, order: int) -> int:
        whole = self._parts.contexts.values[context]
        return self._parts.contexts.number(rename_context(whole, self._names(order)))

    def _compute_rename_server(self, server: int, order: int) -> int:
        held = self._parts.servers.values[server]
        return self._parts.servers.number(rename_server(held, self._names(order)))

    def _names(self, order: int) -> dict[str, str]:
        return {NAMES[old]: NAMES[new] for new, old in enumerate(self._orders[order])}


def _in_order(slots: Sequence[Array]) -> Array:
    """Where each slot's number is at most the next one's."""
    found: Array = np.logical_and.reduce([one <= other for one, other in pairwise(slots)])
    return found
