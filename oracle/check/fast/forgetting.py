"""Applies the reductions "records" and "requests" of `oracle.check.fast.reductions` to arrays."""

from __future__ import annotations

from oracle.check.fast.parts import CONTEXT, PLACE, SERVER, SLOT, Parts, Worlds
from oracle.check.fast.reductions import (
    Future,
    RequestHorizon,
    future,
    in_flight,
    request_horizon,
    without_record,
    without_spent_requests,
)
from oracle.check.fast.tables import Attribute, Interner, Table
from oracle.check.state import NAMES, RIGHT, Bounds, Protocol

FUTURE, SEQ, HORIZON = 3, 10, 14
"""How many bits each has as the argument of a table."""


class Forgetting:
    """Removes from worlds what can never matter again."""

    def __init__(self, parts: Parts, bounds: Bounds, protocol: Protocol) -> None:
        self._parts, self._bounds = parts, bounds
        # These two reductions rest on how `model.serve` treats records and late copies. Another
        # machine may treat them differently.
        self._applies = protocol.serve is RIGHT.serve
        self._may_lose = bounds.losses > 0 or bounds.rollbacks > 0

        self._futures: Interner[Future] = Interner("kinds of future", FUTURE)
        self._horizons: Interner[RequestHorizon] = Interner(
            "horizons of an instance's requests", HORIZON
        )
        self._future = Attribute(parts.contexts, lambda c: self._futures.number(future(c)))
        self._in_flight = Attribute(parts.slots, in_flight)
        self._server_without_record = Table(
            (SERVER, PLACE, SEQ), self._compute_server_without_record
        )
        self._context_without_record = Table(
            (CONTEXT, PLACE, SEQ), self._compute_context_without_record
        )
        self._horizon = Table((FUTURE, SERVER, PLACE), self._compute_horizon)
        self._slot_without_spent = Table((HORIZON, SLOT), self._compute_slot_without_spent)

    def without_records(self, worlds: Worlds, place: int) -> Worlds:
        """Without the completion records that this instance cannot ask for any more."""
        if not self._applies:
            return worlds
        seqs = self._in_flight.of(worlds.slots[place])
        contexts = worlds.contexts
        servers = self._server_without_record.of(worlds.servers, place, seqs)
        if self._bounds.rollbacks:
            contexts = self._context_without_record.of(contexts, place, seqs)
        return Worlds(contexts, servers, worlds.slots)

    def without_spent_requests(self, worlds: Worlds) -> Worlds:
        """Without the requests that cannot do anything any more."""
        if self._may_lose or not self._applies:
            return worlds
        futures = self._future.of(worlds.contexts)
        slots = []
        for place, slot in enumerate(worlds.slots):
            horizons = self._horizon.of(futures, worlds.servers, place)
            slots.append(self._slot_without_spent.of(horizons, slot))
        return worlds._replace(slots=tuple(slots))

    # --- What is computed once --------------------------------------------------------------------

    def _compute_server_without_record(self, server: int, place: int, seq: int) -> int:
        held = self._parts.servers.values[server]
        return self._parts.servers.number(without_record(held, NAMES[place], seq))

    def _compute_context_without_record(self, context: int, place: int, seq: int) -> int:
        whole = self._parts.contexts.values[context]
        snapshots = tuple(without_record(s, NAMES[place], seq) for s in whole.snapshots)
        return self._parts.contexts.number(whole._replace(snapshots=snapshots))

    def _compute_horizon(self, ahead: int, server: int, place: int) -> int:
        held = self._parts.servers.values[server]
        threshold = self._bounds.threshold
        horizon = request_horizon(held, NAMES[place], self._futures.values[ahead], threshold)
        return self._horizons.number(horizon)

    def _compute_slot_without_spent(self, horizon: int, slot: int) -> int:
        held = self._parts.slots.values[slot]
        after = without_spent_requests(held, self._horizons.values[horizon])
        return self._parts.slots.number(after)
