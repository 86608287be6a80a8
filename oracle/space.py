"""A bounded world's states as numbers: what `oracle.explore` walks through, fast and in little
memory.

* The parts of a world (server, context, each instance's slot) are numbered as they turn up, and a
  world is one int made of its parts' numbers. Nothing is hashed away: no state can be missed.
* The functions that a world's events are made of (`oracle.world`) see few different arguments, so
  that each is computed once: a transition is then a few look-ups of numbers. The machine itself
  runs once for each pair of a server's state and a message.
* The reductions of `oracle.reduce` are applied to the part that has changed.
"""

from __future__ import annotations

from itertools import permutations
from typing import Generic, NamedTuple, TypeVar

from oracle import invariants, reduce
from oracle.model import Message, Server
from oracle.world import (
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
    inspect_rest,
    note,
    own_events,
    react,
    served_events,
)

SLOT_BITS = 18
SERVER_BITS = 24
ENDINGS = frozenset({"gives up", "crashes"})
"""What an instance does to end a request by itself."""

T = TypeVar("T")
ServedMoves = dict[int, tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]]]
OwnMoves = dict[int, tuple[tuple[int, ...], tuple[tuple[int, int], ...]]]


class TooLarge(Exception):
    """The world has more different parts than there are numbers for them."""


class Numbers(Generic[T]):
    """Gives equal things the same number, from 0."""

    def __init__(self, what: str, bits: int) -> None:
        self.what, self.most = what, 2**bits
        self.numbers: dict[T, int] = {}
        self.things: list[T] = []

    def of(self, thing: T) -> int:
        number = self.numbers.get(thing)
        if number is None:
            number = self.numbers[thing] = len(self.things)
            if number >= self.most:
                raise TooLarge(f"more than {self.most} different {self.what}")
            self.things.append(thing)
        return number


class Mode(NamedTuple):
    """What of the context matters to what a request does."""

    lossy: bool
    ahead: reduce.Future


class Space:
    """A bounded world's states as ints, and the successors of each.

    The int of a world is context | server | slot of A | slot of B..., from high to low.
    """

    def __init__(
        self, bounds: Bounds, protocol: Protocol = RIGHT, *, symmetry: bool = True
    ) -> None:
        self.bounds, self.protocol, self.symmetry = bounds, protocol, symmetry
        self.places = bounds.instances + bounds.joins
        self.servers: Numbers[Server] = Numbers("states of the server", SERVER_BITS)
        self.slots: Numbers[Slot] = Numbers("states of an instance", SLOT_BITS)
        self.contexts: Numbers[Context] = Numbers("contexts", 40)
        self.modes: Numbers[Mode] = Numbers("modes", 3)
        self.effects: Numbers[Effect] = Numbers("effects", 40)
        self.effects.of(Effect())
        self.messages: Numbers[Message] = Numbers("messages", 40)
        self.answers: Numbers[Answer] = Numbers("answers", 40)
        self.answers.of(NOTHING)
        self.events: Numbers[Event] = Numbers("events", 40)
        self.resting: Numbers[object] = Numbers("parts of a state at rest", 40)

        self.all_slots = self.places * SLOT_BITS
        self.shifts = [SLOT_BITS * (self.places - 1 - place) for place in range(self.places)]
        self.slot_mask = 2**SLOT_BITS - 1
        self.all_slots_mask = 2**self.all_slots - 1
        self.server_mask = 2**SERVER_BITS - 1
        self.context_shift = self.all_slots + SERVER_BITS

        self.asked: dict[tuple[int, int, int], tuple[int, int]] = {}
        self.reacted: dict[tuple[int, int, int, bool], tuple[int, int]] = {}
        self.by_place: list[tuple[int, int, ServedMoves, OwnMoves]]
        self.by_place = [(place, shift, {}, {}) for place, shift in enumerate(self.shifts)]
        self.common: dict[int, tuple[tuple[int, ...], tuple[tuple[int, int], ...]]] = {}
        self.common_servers: dict[tuple[int, Event], int] = {}
        self.common_contexts: dict[tuple[int, Event], int] = {}
        self.requests: dict[int, tuple[tuple[int, int], ...]] = {}
        self.ended: dict[tuple[int, int, int, int], int] = {}
        self.noted: dict[tuple[int, int, int], int] = {}
        self.waited_for: dict[int, int] = {}
        self.unrecorded: dict[tuple[int, int, int], int] = {}
        self.settled: dict[tuple[int, int, int, int], int] = {}
        self.mode_of: list[int] = []
        self.rest_server: dict[int, int] = {}
        self.rest_slot: dict[int, int] = {}
        self.rested: set[tuple[int, ...]] = set()
        self.busy: set[int] = set()
        self.swapped: dict[int, int] = {}
        """The renaming of two instances, for contexts and servers as one int."""
        self.renaming: dict[tuple[int, ...], tuple[dict[str, str], dict[int, int], dict[int, int]]]
        self.renaming = {
            order: ({NAMES[old]: NAMES[new] for new, old in enumerate(order)}, {}, {})
            for order in permutations(range(self.places))
        }

    # --- Worlds and ints -------------------------------------------------------------------------

    def number(self, world: World) -> int:
        """The int of a world, after the reductions."""
        wall, server, context, slots = world
        threshold = self.bounds.threshold
        server = reduce.relative_time(server, wall, threshold)
        saved = tuple(reduce.relative_time(copy, wall, threshold) for copy in context.saved)
        numbers = [self.slots.of(slot) for slot in slots]
        found_context = self._context(context._replace(saved=saved))
        found_server = self.servers.of(server)
        for place in range(self.places):
            found_context, found_server = self._forget(
                found_context, found_server, numbers[place], place
            )
            numbers[place] = self._settle(
                self.mode_of[found_context], found_server, numbers[place], place
            )
        return self._pack(found_context, found_server, numbers)

    def world(self, number: int) -> World:
        context, server, slots = self._unpack(number)
        return World(
            0,
            self.servers.things[server],
            self.contexts.things[context],
            tuple(self.slots.things[slot] for slot in slots),
        )

    def _unpack(self, number: int) -> tuple[int, int, list[int]]:
        slots = [number >> shift & self.slot_mask for shift in self.shifts]
        return number >> self.context_shift, number >> self.all_slots & self.server_mask, slots

    def _pack(self, context: int, server: int, slots: list[int]) -> int:
        number = context << SERVER_BITS | server
        for slot in slots:
            number = number << SLOT_BITS | slot
        return self.canonical(number)

    def canonical(self, number: int) -> int:
        """Of the worlds that this one can be renamed to, the one whose slots' numbers are in order;
        of several, the least."""
        if not self.symmetry:
            return number
        slot_mask = self.slot_mask
        slots = [number >> shift & slot_mask for shift in self.shifts]
        order = tuple(sorted(range(len(slots)), key=slots.__getitem__))
        state = number >> self.all_slots
        best = min([self._rename(state, same) for same in self._same_orders(slots, order)])
        for place in order:
            best = best << SLOT_BITS | slots[place]
        return best

    def _same_orders(self, slots: list[int], order: tuple[int, ...]) -> list[tuple[int, ...]]:
        """All the orders that put the slots in the same row."""
        if len(set(slots)) == len(slots):
            return [order]
        row = [slots[place] for place in order]
        return [same for same in self.renaming if [slots[place] for place in same] == row]

    def _rename(self, state: int, order: tuple[int, ...]) -> int:
        """A context and a server, as one int, after the instances were put in this order."""
        if order == (1, 0):
            known = self.swapped.get(state)
            if known is None:
                known = self.swapped[state] = self._rename_parts(state, order)
            return known
        return self._rename_parts(state, order)

    def _rename_parts(self, state: int, order: tuple[int, ...]) -> int:
        names, servers, contexts = self.renaming[order]
        context, server = state >> SERVER_BITS, state & self.server_mask
        new_server = servers.get(server)
        if new_server is None:
            renamed = reduce.rename_server(self.servers.things[server], names)
            new_server = servers[server] = self.servers.of(renamed)
        new_context = contexts.get(context)
        if new_context is None:
            other = reduce.rename_context(self.contexts.things[context], names)
            new_context = contexts[context] = self._context(other)
        return new_context << SERVER_BITS | new_server

    def twins(self, number: int) -> int:
        """How many worlds can this one be renamed to?"""
        slots = self._unpack(number)[2]
        if len(set(slots)) == len(slots):
            return len(self.renaming)
        state = number >> self.all_slots
        return len(
            {(self._rename(state, o), *(slots[place] for place in o)) for o in self.renaming}
        )

    def _context(self, context: Context) -> int:
        number = self.contexts.of(context)
        if number == len(self.mode_of):
            self.mode_of.append(self.modes.of(Mode(context.lossy, reduce.future(context))))
        return number

    # --- Reductions, one part at a time ----------------------------------------------------------

    def _forget(self, context: int, server: int, slot: int, place: int) -> tuple[int, int]:
        """Drop the completion records that this instance cannot ask for any more."""
        seq = self.waited_for.get(slot)
        if seq is None:
            seq = self.waited_for[slot] = reduce.in_flight(self.slots.things[slot])
        key = server, place, seq
        found = self.unrecorded.get(key)
        if found is None:
            found = self.unrecorded[key] = self.servers.of(
                reduce.without_record(self.servers.things[server], NAMES[place], seq)
            )
        saved = self.contexts.things[context].saved
        if saved:
            kept = tuple(reduce.without_record(copy, NAMES[place], seq) for copy in saved)
            context = self._context(self.contexts.things[context]._replace(saved=kept))
        return context, found

    def _settle(self, mode: int, server: int, slot: int, place: int) -> int:
        """Drop the requests that can do nothing any more."""
        key = mode, server, slot, place
        found = self.settled.get(key)
        if found is None:
            found = self.settled[key] = self.slots.of(
                reduce.spent_requests(
                    self.servers.things[server],
                    self.slots.things[slot],
                    NAMES[place],
                    self.modes.things[mode].ahead,
                    self.bounds.threshold,
                )
            )
        return found

    # --- What an event is made of, each computed once --------------------------------------------

    def _ask(self, server: int, message: int, place: int) -> tuple[int, int]:
        key = server, message, place
        found = self.asked.get(key)
        if found is None:
            named = self.messages.things[message]._replace(instance=NAMES[place])
            after, answer = ask(self.servers.things[server], named, 0, self.protocol)
            after = reduce.relative_time(after, 0, self.bounds.threshold)
            found = self.asked[key] = self.servers.of(after), self.answers.of(answer)
        return found

    def _react(self, slot: int, event: int, answer: int, lossy: bool) -> tuple[int, int]:
        key = slot, event, answer, lossy
        found = self.reacted.get(key)
        if found is None:
            after, effect = react(
                self.slots.things[slot],
                self.events.things[event],
                self.answers.things[answer],
                self.protocol,
                lossy,
            )
            found = self.reacted[key] = self.slots.of(after), self.effects.of(effect)
        return found

    def _requests(self, slot: int) -> tuple[tuple[int, int], ...]:
        """What can happen to an instance's requests: (event, message)."""
        found = self.requests.get(slot)
        if found is None:
            found = self.requests[slot] = tuple(
                (self.events.of(event), self.messages.of(event.message))
                for event in served_events(self.slots.things[slot])
                if event.message is not None
            )
        return found

    def _note(self, context: int, place: int, effect: int) -> int:
        key = context, place, effect
        found = self.noted.get(key)
        if found is None:
            after = note(self.contexts.things[context], NAMES[place], self.effects.things[effect])
            found = self.noted[key] = self._context(after)
        return found

    # --- Successors ------------------------------------------------------------------------------

    def _serve_slot(
        self, mode: int, server: int, slot: int, place: int
    ) -> tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]]:
        """What can happen to an instance's requests: first what changes the server and the slot
        alone, as ready parts of a world's int; then what the context or other slots take note of,
        as (server, slot, effect)."""
        lossy = self.modes.things[mode].lossy
        simple: dict[int, None] = {}
        other: dict[tuple[int, int, int], None] = {}
        # Looked up here, and not in the functions that know how to compute them: this is where the
        # time goes.
        asked, reactions, unrecorded = self.asked, self.reacted, self.unrecorded
        settled, waited_for = self.settled, self.waited_for
        for event, message in self._requests(slot):
            after, answer = asked.get((server, message, place)) or self._ask(server, message, place)
            reacted, effect = reactions.get((slot, event, answer, lossy)) or self._react(
                slot, event, answer, lossy
            )
            kept = unrecorded.get((after, place, waited_for.get(reacted, -1)))
            after = self._forget(0, after, reacted, place)[1] if kept is None else kept
            kept = settled.get((mode, after, reacted, place))
            reacted = self._settle(mode, after, reacted, place) if kept is None else kept
            if (effect and self._is_noted(effect)) or self.bounds.rollbacks:
                other[after, reacted, effect] = None
            elif after != server or reacted != slot:
                simple[after << self.all_slots | reacted << self.shifts[place]] = None
        return tuple(simple), tuple(other)

    def _is_noted(self, effect: int) -> bool:
        """Whether the context or other slots change with it."""
        what = self.effects.things[effect]
        return (
            what.closed or bool(what.outcomes and self.bounds.linear) or self.bounds.rollbacks > 0
        )

    def _move_slot(
        self, context: int, slot: int, place: int
    ) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """What an instance can do by itself: first what only begins something, as ready parts of a
        world's int; then what ends a request, as (context, slot)."""
        begun, ended = [], []
        lossy = self.contexts.things[context].lossy
        for event in own_events(self.contexts.things[context], self.slots.things[slot]):
            reacted, effect = self._react(slot, self.events.of(event), 0, lossy)
            after = self._note(context, place, effect)
            if event.what in ENDINGS:
                ended.append((after, reacted))
            else:
                begun.append(after << self.context_shift | reacted << self.shifts[place])
        return tuple(begun), tuple(ended)

    def _surround(
        self, context: int, server: int
    ) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """What happens to everybody: first what leaves the slots as they are, as ready parts of a
        world's int; then that after which requests may be spent, as (context, server).

        Also the place to check what must be so of a context and a server. Raises Violation."""
        whole, held = self.contexts.things[context], self.servers.things[server]
        if not whole.lossy:
            invariants.check(invariants.Counted(held, whole.moves_of_epoch))
        simple, other = [], []
        for event in common_events(whole, held, 0):
            after = self._happen(context, server, event)
            if self.mode_of[after[0]] != self.mode_of[context]:
                other.append(after)
            else:
                simple.append((after[0] << SERVER_BITS | after[1]) << self.all_slots)
        return tuple(simple), tuple(other)

    def _happen(self, context: int, server: int, event: Event) -> tuple[int, int]:
        if self.bounds.rollbacks:
            return self._happen_now(context, server, event)
        # Then what becomes of the one does not depend on the other.
        new_context = self.common_contexts.get((context, event))
        new_server = self.common_servers.get((server, event))
        if new_context is None or new_server is None:
            new_context, new_server = self._happen_now(context, server, event)
            self.common_contexts[context, event] = new_context
            self.common_servers[server, event] = new_server
        return new_context, new_server

    def _happen_now(self, context: int, server: int, event: Event) -> tuple[int, int]:
        held = self.contexts.things[context]
        after = SURROUNDINGS[event.what](World(0, self.servers.things[server], held, ()), event)
        threshold = self.bounds.threshold
        saved = tuple(reduce.relative_time(s, after.wall, threshold) for s in after.context.saved)
        return (
            self._context(after.context._replace(saved=saved)),
            self.servers.of(reduce.relative_time(after.server, after.wall, threshold)),
        )

    def successors(self, number: int) -> list[int]:
        """The worlds that can come next, not yet canonical. Raises Violation."""
        slot_mask, all_slots = self.slot_mask, self.all_slots
        context = number >> self.context_shift
        state = number >> all_slots
        server = state & self.server_mask
        around = self.common.get(state)
        if around is None:
            around = self.common[state] = self._surround(context, server)
        slot_part = number & self.all_slots_mask
        found = [move | slot_part for move in around[0]]
        if around[1]:
            slots = self._unpack(number)[2]
            found += [self._settle_all(*move, slots) for move in around[1]]
        mode_part = (self.mode_of[context] << SERVER_BITS | server) << SLOT_BITS
        context_part = context << self.context_shift
        server_part = server << all_slots
        own_part = context << SLOT_BITS
        for place, shift, served, own in self.by_place:
            slot = number >> shift & slot_mask
            others = slot_part ^ (slot << shift)
            moves = served.get(mode_part | slot)
            if moves is None:
                moves = served[mode_part | slot] = self._serve_slot(
                    mode_part >> SLOT_BITS + SERVER_BITS, server, slot, place
                )
            rest_part = context_part | others
            found += [rest_part | move for move in moves[0]]
            if moves[1]:
                slots = self._unpack(number)[2]
                found += [self._with_effect(context, slots, place, *move) for move in moves[1]]
            acts = own.get(own_part | slot)
            if acts is None:
                acts = own[own_part | slot] = self._move_slot(context, slot, place)
            rest_part = server_part | others
            found += [rest_part | move for move in acts[0]]
            for new_context, after_slot in acts[1]:
                found.append(self._after_end(new_context, server, after_slot, place) | others)
        return found

    def _after_end(self, context: int, server: int, slot: int, place: int) -> int:
        """An instance waits no longer: its record and its request are of no use any more. Without
        the other slots."""
        if self.bounds.rollbacks:
            context, server = self._forget(context, server, slot, place)
            slot = self._settle(self.mode_of[context], server, slot, place)
            rest = server << self.all_slots | slot << self.shifts[place]
            return context << self.context_shift | rest
        mode = self.mode_of[context]
        key = mode, server, slot, place
        found = self.ended.get(key)
        if found is None:
            _, after = self._forget(0, server, slot, place)
            settled = self._settle(mode, after, slot, place)
            found = after << self.all_slots | settled << self.shifts[place]
            self.ended[key] = found
        return context << self.context_shift | found

    def _with_effect(
        self, context: int, slots: list[int], place: int, server: int, slot: int, effect: int
    ) -> int:
        context = self._note(context, place, effect)
        if self.contexts.things[context].saved:
            context, server = self._forget(context, server, slot, place)
        slots = [*slots[:place], slot, *slots[place + 1 :]]
        if self.effects.things[effect].closed:
            return self._settle_all(context, server, slots)
        return self._join(context, server, slots)

    def _settle_all(self, context: int, server: int, slots: list[int]) -> int:
        mode = self.mode_of[context]
        settled = [self._settle(mode, server, slot, place) for place, slot in enumerate(slots)]
        return self._join(context, server, settled)

    def _join(self, context: int, server: int, slots: list[int]) -> int:
        number = context << SERVER_BITS | server
        for slot in slots:
            number = number << SLOT_BITS | slot
        return number

    # --- What must be so in a state --------------------------------------------------------------

    def inspect_rest(self, number: int) -> None:
        """What must be so at rest, once for each case that differs. Raises Violation."""
        _, server, slots = self._unpack(number)
        case = (self._rest_server(server), *map(self._rest_slot, slots))
        if case not in self.rested:
            self.rested.add(case)
            things = tuple(self.slots.things[slot] for slot in slots)
            still = reduce.time_stands_still(self.servers.things[server], self.bounds.threshold)
            inspect_rest(still, 0, things, self.protocol)

    def rests(self, number: int) -> bool:
        """Whether no call is under way."""
        return all(self._rest_slot(slot) >= 0 for slot in self._unpack(number)[2])

    def _rest_server(self, server: int) -> int:
        found = self.rest_server.get(server)
        if found is None:
            still = reduce.time_stands_still(self.servers.things[server], self.bounds.threshold)
            found = self.rest_server[server] = self.resting.of(still)
        return found

    def _rest_slot(self, slot: int) -> int:
        found = self.rest_slot.get(slot)
        if found is None:
            thing = self.slots.things[slot]
            parts = thing.owner, thing.unsure
            found = self.rest_slot[slot] = self.resting.of(parts) if thing.rests else -1
            if found < 0:
                self.busy.add(slot)
        return found
