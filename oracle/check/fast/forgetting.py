"""Applies the reductions "past", "records" and "requests" of `oracle.check.fast.reductions` to
arrays."""

from __future__ import annotations

from oracle.check.fast.parts import CONTEXT, PLACE, SERVER, SLOT, Parts, Worlds
from oracle.check.fast.reductions import (
    Future,
    RequestHorizon,
    future,
    in_flight,
    request_horizon,
    with_snapshots,
    without_past,
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
        self.parts, self.bounds = parts, bounds
        # Two of the reductions rest on how `model.serve` treats records and late copies. Another
        # machine may treat them differently.
        self.applies = protocol.serve is RIGHT.serve
        self.futures: Interner[Future] = Interner("kinds of future", FUTURE)
        self.horizons: Interner[RequestHorizon] = Interner(
            "horizons of an instance's requests", HORIZON
        )
        self.future = Attribute(parts.contexts, lambda c: self.futures.number(future(c)))
        self.in_flight = Attribute(parts.slots, in_flight)
        self.server_without_record = Table((SERVER, PLACE, SEQ), self._server_without_record)
        self.context_without_record = Table((CONTEXT, PLACE, SEQ), self._context_without_record)
        self.horizon = Table((FUTURE, SERVER, PLACE), self._horizon)
        self.slot_without_spent = Table((HORIZON, SLOT), self._slot_without_spent)
        self.rolled_back = Attribute(parts.contexts, lambda context: context.rolled_back)
        self.slot_without_past = Table((SLOT, 2), self._slot_without_past)

    def without_records(self, worlds: Worlds, place: int) -> Worlds:
        """Without the completion records that this instance cannot ask for any more."""
        if not self.applies:
            return worlds
        seqs = self.in_flight.of(worlds.slots[place])
        contexts = worlds.contexts
        servers = self.server_without_record.of(worlds.servers, place, seqs)
        if self.bounds.may_roll_back:
            contexts = self.context_without_record.of(contexts, place, seqs)
        return Worlds(contexts, servers, worlds.slots)

    def without_past(self, worlds: Worlds) -> Worlds:
        """Without what earlier answers told, where Redis has fallen back to an earlier state."""
        rolled_back = self.rolled_back.of(worlds.contexts)
        (places,) = rolled_back.nonzero()
        if not len(places):
            return worlds
        slots = [slot.copy() for slot in worlds.slots]
        for slot in slots:
            slot[places] = self.slot_without_past.of(slot[places], rolled_back[places])
        return worlds._replace(slots=tuple(slots))

    def without_spent_requests(self, worlds: Worlds) -> Worlds:
        """Without the requests that cannot do anything any more."""
        if not self.applies:
            return worlds
        futures = self.future.of(worlds.contexts)
        slots = []
        for place, slot in enumerate(worlds.slots):
            horizons = self.horizon.of(futures, worlds.servers, place)
            slots.append(self.slot_without_spent.of(horizons, slot))
        return worlds._replace(slots=tuple(slots))

    # --- What is computed once --------------------------------------------------------------------

    def _server_without_record(self, server: int, place: int, seq: int) -> int:
        held = self.parts.servers.values[server]
        return self.parts.servers.number(without_record(held, NAMES[place], seq))

    def _context_without_record(self, context: int, place: int, seq: int) -> int:
        whole, name = self.parts.contexts.values[context], NAMES[place]
        after = with_snapshots(whole, lambda held: without_record(held, name, seq))
        return self.parts.contexts.number(after)

    def _slot_without_past(self, slot: int, rolled_back: int) -> int:
        return self.parts.slots.number(without_past(self.parts.slots.values[slot], rolled_back))

    def _horizon(self, ahead: int, server: int, place: int) -> int:
        held = self.parts.servers.values[server]
        horizon = request_horizon(held, NAMES[place], self.futures.values[ahead])
        return self.horizons.number(horizon)

    def _slot_without_spent(self, horizon: int, slot: int) -> int:
        held = self.parts.slots.values[slot]
        after = without_spent_requests(held, self.horizons.values[horizon])
        return self.parts.slots.number(after)
