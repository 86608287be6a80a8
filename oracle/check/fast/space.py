"""A bounded world's states as numbers, many at a time: what `oracle.check.fast.search` walks through, fast
and in little memory.

* The parts of a world (context, server, each instance's slot) are numbered as they turn up, and a
  world is one number of 63 bits made of its parts' numbers. Nothing is hashed away: no state can be
  missed.
* The functions that a world's events are made of (`oracle.check.world`) see few different arguments, so
  that each is computed once, and looked up for many worlds at a time (`oracle.check.fast.tables`). The machine
  itself runs once for each pair of a server's state and a message.
* The reductions of `oracle.check.fast.reductions` are applied to each world that is reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations
from math import factorial
from typing import NamedTuple

import numpy as np

from oracle.check import properties as invariants
from oracle.check.fast import reductions as reduce
from oracle.check.fast.tables import Array, Fans, Numbers, Table, TooLarge, Trait
from oracle.check.world import (
    NAMES,
    NOTHING,
    RIGHT,
    SURROUNDINGS,
    Answer,
    Bounds,
    Context,
    Effect,
    Event,
    Protocol,
    Slot,
    World,
    ask,
    common_events,
    inspect_quiescent,
    note,
    own_events,
    react,
    served_events,
)
from oracle.model import Message, Server

# How many bits a number has, as an argument of a table.
PLACE, MODE, LOSSY, SEQ, ORDER = 3, 3, 1, 10, 16
CONTEXT, SERVER, SLOT = 20, 24, 20
EVENT, MESSAGE, ANSWER, EFFECT, HORIZON = 14, 14, 14, 14, 14

Epochs = tuple[tuple[str, int], ...]

ROOM = 63
"""How many bits there are for a world."""


class Worlds(NamedTuple):
    """Many worlds by their parts: the numbers of their contexts, their servers, and of the slot in
    each place."""

    contexts: Array
    servers: Array
    slots: tuple[Array, ...]

    def at(self, places: Array) -> Worlds:
        slots = tuple(slot[places] for slot in self.slots)
        return Worlds(self.contexts[places], self.servers[places], slots)

    def with_slot(self, place: int, slot: Array) -> Worlds:
        return self._replace(slots=(*self.slots[:place], slot, *self.slots[place + 1 :]))


class Layout(NamedTuple):
    """How a world is laid out in one number: what is common | slot of A | slot of B..., from high
    to low, of so many bits each. To lay it out otherwise keeps the numbers' order."""

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


class Space:
    """A bounded world's states by their parts' numbers, and the successors of each."""

    def __init__(
        self, bounds: Bounds, protocol: Protocol = RIGHT, *, symmetry: bool = True
    ) -> None:
        self.bounds, self.protocol, self.symmetry = bounds, protocol, symmetry
        self.places = bounds.instances + bounds.joins
        # Other machines may do just what the argument for these two says that ours never does.
        self.forgets = protocol.serve is RIGHT.serve
        self.may_lose = bounds.losses > 0 or bounds.rollbacks > 0

        self.servers: Numbers[Server] = Numbers("states of the server", SERVER)
        self.slots: Numbers[Slot] = Numbers("states of an instance", SLOT)
        self.contexts: Numbers[Context] = Numbers("contexts", CONTEXT)
        self.modes: Numbers[reduce.Future] = Numbers("kinds of future", MODE)
        self.effects: Numbers[Effect] = Numbers("effects", EFFECT)
        self.effects.of(Effect())
        self.messages: Numbers[Message] = Numbers("messages", MESSAGE)
        self.answers: Numbers[Answer] = Numbers("answers", ANSWER)
        self.answers.of(NOTHING)
        self.events: Numbers[Event] = Numbers("events", EVENT)
        self.horizons: Numbers[reduce.RequestHorizon] = Numbers(
            "horizons of an instance's requests", HORIZON
        )
        self.columns: Numbers[reduce.Column] = Numbers("instances quiescent", 62)
        self.epochs: Numbers[Epochs] = Numbers("epochs quiescent", 62)

        self.lossy = Trait(self.contexts, lambda context: context.lossy)
        self.mode = Trait(self.contexts, lambda context: self.modes.of(reduce.future(context)))
        self.waits_for = Trait(self.slots, reduce.in_flight)
        self.is_quiescent = Trait(self.slots, lambda slot: slot.is_quiescent)
        self.noticed = Trait(
            self.effects, lambda effect: bounds.linear and bool(effect.closed or effect.outcomes)
        )
        self.epochs_of = Trait(self.servers, lambda held: self.epochs.of(reduce.epochs(held)))

        # Few contexts go with a server: the two together are numbered, which leaves more bits.
        self.commons: Numbers[tuple[int, int]] = Numbers("contexts with a server", 62)
        self.context_of = Trait(self.commons, lambda common: common[0])
        self.server_of = Trait(self.commons, lambda common: common[1])
        self.common = Table((CONTEXT, SERVER), lambda *common: self.commons.of(common))

        self.happening = Fans((CONTEXT, SERVER), self._happens_to_all)
        self.own = Fans((CONTEXT, SLOT, PLACE), self._happens_to_one)
        self.requests = Fans((SLOT,), self._requests)
        self.asked = Table((SERVER, MESSAGE, PLACE), self._ask)
        self.reacted = Table((SLOT, EVENT, ANSWER, LOSSY), self._react)
        self.noted = Table((CONTEXT, PLACE, EFFECT), self._note)
        self.unrecorded = Table((SERVER, PLACE, SEQ), self._unrecord)
        self.saved_unrecorded = Table((CONTEXT, PLACE, SEQ), self._unrecord_saved)
        self.horizon = Table((MODE, SERVER, PLACE), self._horizon)
        self.settled = Table((HORIZON, SLOT), self._settle)
        self.column = Table((SERVER, SLOT, PLACE), self._column)
        self.orders = list(permutations(range(self.places))) if symmetry else []
        self.renamed_contexts = Table((CONTEXT, ORDER), self._rename_context)
        self.renamed_servers = Table((SERVER, ORDER), self._rename_server)

        self.common_contexts: dict[tuple[int, Event], int] = {}
        self.common_servers: dict[tuple[int, Event], int] = {}
        self.rested: set[tuple[int, ...]] = set()

    # --- Worlds and their parts ------------------------------------------------------------------

    def layout(self) -> Layout:
        """The least that a world takes, of the parts that there are by now."""
        common, slots = self.commons.things, self.slots.things
        return Layout(len(common).bit_length(), len(slots).bit_length(), self.places)

    def split(self, worlds: Worlds) -> tuple[Array, ...]:
        """What a layout packs: the number of what is common, and those of the slots."""
        return self.common.of(worlds.contexts, worlds.servers), *worlds.slots

    def join(self, parts: Sequence[Array]) -> Worlds:
        common, *slots = parts
        return Worlds(self.context_of.of(common), self.server_of.of(common), tuple(slots))

    def reduced(self, world: World) -> Worlds:
        """One world, after the reductions."""
        wall, server, context, slots = world
        threshold = self.bounds.threshold
        saved = tuple(reduce.relative_time(copy, wall, threshold) for copy in context.saved)
        worlds = Worlds(
            np.array([self.contexts.of(context._replace(saved=saved))]),
            np.array([self.servers.of(reduce.relative_time(server, wall, threshold))]),
            tuple(np.array([self.slots.of(slot)]) for slot in slots),
        )
        for place in range(self.places):
            worlds = self._without_records(worlds, place)
        return self._canonical(self._without_spent_requests(worlds))

    def world(self, worlds: Worlds, place: int) -> World:
        """One of the worlds."""
        return World(
            0,
            self.servers.things[worlds.servers[place]],
            self.contexts.things[worlds.contexts[place]],
            tuple(self.slots.things[slot[place]] for slot in worlds.slots),
        )

    # --- Successors ------------------------------------------------------------------------------

    def successors(self, worlds: Worlds) -> tuple[Array, Worlds]:
        """What can come next, and beside each the place of the world that it comes after; without
        what leaves a world as it is. Raises Violation."""
        found = list(self._moves(worlds))
        origins = np.concatenate([places for places, _ in found])
        after = _together([each for _, each in found])
        after = self._canonical(self._without_spent_requests(after))
        moved = (after.contexts != worlds.contexts[origins]) | (
            after.servers != worlds.servers[origins]
        )
        for now, before in zip(after.slots, worlds.slots, strict=True):
            moved |= now != before[origins]
        (places,) = moved.nonzero()
        return origins[places], after.at(places)

    def _moves(self, worlds: Worlds) -> Iterator[tuple[Array, Worlds]]:
        origins, states = self.happening.of(worlds.contexts, worlds.servers)
        contexts, servers = states >> SERVER, states & 2**SERVER - 1
        yield origins, worlds.at(origins)._replace(contexts=contexts, servers=servers)
        for place in range(self.places):
            for origins, after in (self._serve(worlds, place), self._act(worlds, place)):
                yield origins, self._without_records(after, place)

    def _act(self, worlds: Worlds, place: int) -> tuple[Array, Worlds]:
        """What an instance can do by itself."""
        origins, states = self.own.of(worlds.contexts, worlds.slots[place], place)
        worlds = worlds.at(origins)._replace(contexts=states >> SLOT)
        return origins, worlds.with_slot(place, states & 2**SLOT - 1)

    def _serve(self, worlds: Worlds, place: int) -> tuple[Array, Worlds]:
        """What can happen to an instance's requests."""
        origins, requests = self.requests.of(worlds.slots[place])
        events, messages = requests >> MESSAGE, requests & 2**MESSAGE - 1
        worlds = worlds.at(origins)
        answered = self.asked.of(worlds.servers, messages, place)
        servers, answers = answered >> ANSWER, answered & 2**ANSWER - 1
        lossy = self.lossy.of(worlds.contexts)
        reacted = self.reacted.of(worlds.slots[place], events, answers, lossy)
        slots, effects = reacted >> EFFECT, reacted & 2**EFFECT - 1
        contexts = worlds.contexts
        (noticed,) = self.noticed.of(effects).nonzero()
        if len(noticed):
            contexts = contexts.copy()
            contexts[noticed] = self.noted.of(contexts[noticed], place, effects[noticed])
        return origins, Worlds(contexts, servers, worlds.slots).with_slot(place, slots)

    # --- Reductions ------------------------------------------------------------------------------

    def _without_records(self, worlds: Worlds, place: int) -> Worlds:
        """Without the completion records that this instance cannot ask for any more."""
        if not self.forgets:
            return worlds
        seqs = self.waits_for.of(worlds.slots[place])
        contexts, servers = worlds.contexts, self.unrecorded.of(worlds.servers, place, seqs)
        if self.bounds.rollbacks:
            contexts = self.saved_unrecorded.of(contexts, place, seqs)
        return Worlds(contexts, servers, worlds.slots)

    def _without_spent_requests(self, worlds: Worlds) -> Worlds:
        """Without the requests that can do nothing any more."""
        if self.may_lose or not self.forgets:
            return worlds
        modes = self.mode.of(worlds.contexts)
        slots = []
        for place, slot in enumerate(worlds.slots):
            horizons = self.horizon.of(modes, worlds.servers, place)
            slots.append(self.settled.of(horizons, slot))
        return worlds._replace(slots=tuple(slots))

    def _canonical(self, worlds: Worlds) -> Worlds:
        """Of the worlds that each can be renamed to, the one whose slots' numbers are in order; of
        several, the least."""
        if not self.symmetry or self.places == 1:
            return worlds
        best = np.full(len(worlds.servers), 2**62)
        for number, order in enumerate(self.orders):
            (places,) = _in_order([worlds.slots[old] for old in order]).nonzero()
            contexts, servers = worlds.contexts[places], worlds.servers[places]
            if number:
                contexts = self.renamed_contexts.of(contexts, number)
                servers = self.renamed_servers.of(servers, number)
            best[places] = np.minimum(best[places], contexts << SERVER | servers)
        slots = tuple(np.sort(np.stack(worlds.slots), axis=0))
        return Worlds(best >> SERVER, best & 2**SERVER - 1, slots)

    def orbit_size(self, worlds: Worlds) -> int:
        """How many worlds can these be renamed to?"""
        if not self.symmetry:
            return len(worlds.servers)
        same = np.ones(len(worlds.servers), np.int64)
        for number, order in enumerate(self.orders[1:], start=1):
            alike = [worlds.slots[old] == worlds.slots[new] for new, old in enumerate(order)]
            (places,) = np.logical_and.reduce(alike).nonzero()
            contexts, servers = worlds.contexts[places], worlds.servers[places]
            same[places] += (self.renamed_contexts.of(contexts, number) == contexts) & (
                self.renamed_servers.of(servers, number) == servers
            )
        return int((factorial(self.places) // same).sum())

    # --- What must be so quiescent -----------------------------------------------------------------

    def inspect_quiescent(self, worlds: Worlds) -> None:
        """What must be so quiescent, once for each case that differs. Raises Violation."""
        (resting,) = np.logical_and.reduce(
            [self.is_quiescent.of(s) for s in worlds.slots]
        ).nonzero()
        worlds = worlds.at(resting)
        columns = [self.column.of(worlds.servers, s, place) for place, s in enumerate(worlds.slots)]
        columns = list(np.sort(np.stack(columns), axis=0))
        cases = np.stack([self.epochs_of.of(worlds.servers), *columns], axis=1)
        for case in set(map(tuple, cases.tolist())) - self.rested:
            epochs, things = case[0], [self.columns.things[column] for column in case[1:]]
            threshold = self.bounds.threshold
            server, slots = reduce.quiescent(self.epochs.things[epochs], things, threshold)
            inspect_quiescent(server, 0, slots, self.protocol)
            self.rested.add(case)

    # --- What is computed once -------------------------------------------------------------------

    def _ask(self, server: int, message: int, place: int) -> int:
        """The server after it, and the answer."""
        named = self.messages.things[message]._replace(instance=NAMES[place])
        after, answer = ask(self.servers.things[server], named, 0, self.protocol)
        after = reduce.relative_time(after, 0, self.bounds.threshold)
        return self.servers.of(after) << ANSWER | self.answers.of(answer)

    def _react(self, slot: int, event: int, answer: int, lossy: int) -> int:
        """The slot after it, and the effect."""
        after, effect = react(
            self.slots.things[slot],
            self.events.things[event],
            self.answers.things[answer],
            self.protocol,
            bool(lossy),
        )
        return self.slots.of(after) << EFFECT | self.effects.of(effect)

    def _note(self, context: int, place: int, effect: int) -> int:
        held = self.contexts.things[context]
        return self.contexts.of(note(held, NAMES[place], self.effects.things[effect]))

    def _requests(self, slot: int) -> list[int]:
        """What can happen to an instance's requests: events and messages."""
        return [
            self.events.of(event) << MESSAGE | self.messages.of(event.message)
            for event in served_events(self.slots.things[slot])
            if event.message is not None
        ]

    def _happens_to_one(self, context: int, slot: int, place: int) -> list[int]:
        """What an instance can do by itself: contexts and slots."""
        found, held = [], self.contexts.things[context]
        for event in own_events(held, self.slots.things[slot]):
            reacted = self._react(slot, self.events.of(event), 0, held.lossy)
            after = self._note(context, place, reacted & 2**EFFECT - 1)
            found.append(after << SLOT | reacted >> EFFECT)
        return found

    def _happens_to_all(self, context: int, server: int) -> list[int]:
        """What is nobody's doing: contexts and servers.

        Also the place to check what must be so of a context and a server. Raises Violation."""
        whole, held = self.contexts.things[context], self.servers.things[server]
        if not whole.lossy:
            invariants.check(invariants.Counted(held, whole.moves_of_epoch))
        return [self._happen(context, server, event) for event in common_events(whole, held, 0)]

    def _happen(self, context: int, server: int, event: Event) -> int:
        if self.bounds.rollbacks:
            new_context, new_server = self._happen_now(context, server, event)
            return new_context << SERVER | new_server
        # Then what becomes of the one does not depend on the other.
        contexts, servers = self.common_contexts, self.common_servers
        if (context, event) not in contexts or (server, event) not in servers:
            after = self._happen_now(context, server, event)
            contexts[context, event], servers[server, event] = after
        return contexts[context, event] << SERVER | servers[server, event]

    def _happen_now(self, context: int, server: int, event: Event) -> tuple[int, int]:
        held = self.contexts.things[context]
        after = SURROUNDINGS[event.what](World(0, self.servers.things[server], held, ()), event)
        threshold = self.bounds.threshold
        saved = tuple(reduce.relative_time(s, after.wall, threshold) for s in after.context.saved)
        return (
            self.contexts.of(after.context._replace(saved=saved)),
            self.servers.of(reduce.relative_time(after.server, after.wall, threshold)),
        )

    def _unrecord(self, server: int, place: int, seq: int) -> int:
        held = self.servers.things[server]
        return self.servers.of(reduce.without_record(held, NAMES[place], seq))

    def _unrecord_saved(self, context: int, place: int, seq: int) -> int:
        held = self.contexts.things[context]
        kept = tuple(reduce.without_record(copy, NAMES[place], seq) for copy in held.saved)
        return self.contexts.of(held._replace(saved=kept))

    def _horizon(self, mode: int, server: int, place: int) -> int:
        ahead, threshold = self.modes.things[mode], self.bounds.threshold
        held = self.servers.things[server]
        return self.horizons.of(reduce.horizon(held, NAMES[place], ahead, threshold))

    def _settle(self, horizon: int, slot: int) -> int:
        held = self.slots.things[slot]
        return self.slots.of(reduce.spent_requests(held, self.horizons.things[horizon]))

    def _rename_context(self, context: int, order: int) -> int:
        held = self.contexts.things[context]
        return self.contexts.of(reduce.rename_context(held, self._names(order)))

    def _rename_server(self, server: int, order: int) -> int:
        held = self.servers.things[server]
        return self.servers.of(reduce.rename_server(held, self._names(order)))

    def _names(self, order: int) -> dict[str, str]:
        return {NAMES[old]: NAMES[new] for new, old in enumerate(self.orders[order])}

    def _column(self, server: int, slot: int, place: int) -> int:
        held, one = self.servers.things[server], self.slots.things[slot]
        return self.columns.of(reduce.column(held, NAMES[place], one, self.bounds.threshold))


def _together(worlds: Sequence[Worlds]) -> Worlds:
    return Worlds(
        np.concatenate([each.contexts for each in worlds]),
        np.concatenate([each.servers for each in worlds]),
        tuple(map(np.concatenate, zip(*(each.slots for each in worlds), strict=True))),
    )


def _in_order(slots: Sequence[Array]) -> Array:
    """Where each slot's number is at most the next one's."""
    found: Array = np.logical_and.reduce([one <= other for one, other in pairwise(slots)])
    return found
