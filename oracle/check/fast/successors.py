"""What can happen next in many worlds at once, and what it leads to.

`oracle.check.transitions` divides an event into functions of a few parts of a world. Each of them
is a table here: the machine itself runs once for each pair of a server's state and a request.
"""

from __future__ import annotations

from collections.abc import Iterator

from oracle.check.events import CommonEvent, InstanceEvent
from oracle.check.fast.parts import CONTEXT, PASTS, PLACE, SERVER, SLOT, Parts, Worlds
from oracle.check.fast.reductions import relative_time, with_snapshots
from oracle.check.fast.tables import Array, Attribute, Interner, MultiTable, Table
from oracle.check.state import HERE, NAMES, Bounds, Protocol
from oracle.check.transitions import NO_ANSWER, Answer, Effect, Past, ask, befall, note, react
from oracle.check.world import check_stored, common_events, own_events, request_events
from oracle.model import Message, Server

PAST, EVENT, MESSAGE, ANSWER, EFFECT = 3, 14, 14, 14, 14
"""How many bits each has as the argument of a table."""


class Successors:
    """The successors of worlds, before the reductions that depend on whole worlds."""

    def __init__(self, parts: Parts, bounds: Bounds, protocol: Protocol) -> None:
        self.parts, self.bounds, self.protocol = parts, bounds, protocol
        self.events: Interner[InstanceEvent] = Interner("events", EVENT)
        self.messages: Interner[Message] = Interner("messages", MESSAGE)
        self.answers: Interner[Answer] = Interner("answers", ANSWER)
        self.effects: Interner[Effect] = Interner("effects", EFFECT)
        self.no_answer = self.answers.number(NO_ANSWER)
        self.is_noted = Attribute(
            self.effects,
            lambda effect: (
                effect.found or (bounds.linear and bool(effect.closed or effect.outcomes))
            ),
        )

        self.common = MultiTable((CONTEXT, SERVER), self._common)
        self.own = MultiTable((CONTEXT, SLOT, PLACE), self._own)
        self.requests = MultiTable((SLOT,), self._requests)
        self.asked = Table((SERVER, MESSAGE, PLACE), self._ask)
        self.reacted = Table((SLOT, EVENT, ANSWER, PAST), self._react)
        self.noted = Table((CONTEXT, PLACE, EFFECT), self._note)
        self.befallen_contexts: dict[tuple[int, CommonEvent], int] = {}
        self.befallen_servers: dict[tuple[int, CommonEvent], int] = {}

    def of_common_events(self, worlds: Worlds) -> tuple[Array, Worlds]:
        """What leads on without an instance: the places of the worlds that it leads on from, and
        where it leads. Raises Violation."""
        origins, states = self.common.of(worlds.contexts, worlds.servers)
        contexts, servers = states >> SERVER, states & 2**SERVER - 1
        return origins, worlds.at(origins)._replace(contexts=contexts, servers=servers)

    def of_instance(self, worlds: Worlds, place: int) -> Iterator[tuple[Array, Worlds]]:
        """What the events of one instance lead to, in the same form. Raises Violation."""
        yield self._of_requests(worlds, place)
        yield self._of_own_events(worlds, place)

    def served(self) -> Iterator[tuple[Server, Message]]:
        """Every pair of a state of the server and a request that it was asked in that state."""
        for server, message, place in self.asked.arguments():
            request = self.messages.values[message]._replace(instance=NAMES[place])
            yield self.parts.servers.values[server], request

    def _of_own_events(self, worlds: Worlds, place: int) -> tuple[Array, Worlds]:
        origins, states = self.own.of(worlds.contexts, worlds.slots[place], place)
        worlds = worlds.at(origins)._replace(contexts=states >> SLOT)
        return origins, worlds.with_slot(place, states & 2**SLOT - 1)

    def _of_requests(self, worlds: Worlds, place: int) -> tuple[Array, Worlds]:
        origins, requests = self.requests.of(worlds.slots[place])
        events, messages = requests >> MESSAGE, requests & 2**MESSAGE - 1
        worlds = worlds.at(origins)
        answered = self.asked.of(worlds.servers, messages, place)
        servers, answers = answered >> ANSWER, answered & 2**ANSWER - 1
        pasts = self.parts.past.of(worlds.contexts)
        reacted = self.reacted.of(worlds.slots[place], events, answers, pasts)
        slots, effects = reacted >> EFFECT, reacted & 2**EFFECT - 1
        contexts = worlds.contexts
        (noted,) = self.is_noted.of(effects).nonzero()
        if len(noted):
            contexts = contexts.copy()
            contexts[noted] = self.noted.of(contexts[noted], place, effects[noted])
        return origins, Worlds(contexts, servers, worlds.slots).with_slot(place, slots)

    # --- What is computed once --------------------------------------------------------------------

    def _ask(self, server: int, message: int, place: int) -> int:
        """The server afterwards, and the answer."""
        named = self.messages.values[message]._replace(instance=NAMES[place])
        after, answer = ask(self.parts.servers.values[server], named, 0, self.protocol)
        after = relative_time(after, 0)
        return self.parts.servers.number(after) << ANSWER | self.answers.number(answer)

    def _react(self, slot: int, event: int, answer: int, past: int) -> int:
        """The slot afterwards, and the effect."""
        after, effect = react(
            self.parts.slots.values[slot],
            self.events.values[event],
            self.answers.values[answer],
            self.protocol,
            PASTS[past],
        )
        if after.instance is not None and after.instance.sent is not None:
            self.messages.number(after.instance.sent)  # checks that it is equal to no other kind
        return self.parts.slots.number(after) << EFFECT | self.effects.number(effect)

    def _note(self, context: int, place: int, effect: int) -> int:
        after = note(self.parts.contexts.values[context], NAMES[place], self.effects.values[effect])
        return self.parts.contexts.number(after)

    def _requests(self, slot: int) -> list[int]:
        """What can happen to the requests of an instance: events and messages."""
        return [
            self.events.number(event) << MESSAGE | self.messages.number(event.message)
            for event in request_events(self.parts.slots.values[slot], HERE)
        ]

    def _own(self, context: int, slot: int, place: int) -> list[int]:
        """What an instance can do by itself: contexts and slots."""
        found, whole = [], self.parts.contexts.values[context]
        past = PASTS.index(Past.of(whole))
        for event in own_events(whole, self.parts.slots.values[slot], HERE):
            reacted = self._react(slot, self.events.number(event), self.no_answer, past)
            after = self._note(context, place, reacted & 2**EFFECT - 1)
            found.append(after << SLOT | reacted >> EFFECT)
        return found

    def _common(self, context: int, server: int) -> list[int]:
        """What can happen that no instance does: contexts and servers. Every pair of them comes
        past here once, so what must hold of a pair is checked here, too. Raises Violation."""
        whole, held = self.parts.contexts.values[context], self.parts.servers.values[server]
        check_stored(whole, held)
        return [self._befall(context, server, event) for event in common_events(whole, held, 0)]

    def _befall(self, context: int, server: int, event: CommonEvent) -> int:
        if self.bounds.may_roll_back:
            new_context, new_server = self._compute_befall(context, server, event)
            return new_context << SERVER | new_server
        # Without snapshots, what becomes of the context does not depend on the server, nor the
        # other way round.
        contexts, servers = self.befallen_contexts, self.befallen_servers
        if (context, event) not in contexts or (server, event) not in servers:
            after = self._compute_befall(context, server, event)
            contexts[context, event], servers[server, event] = after
        return contexts[context, event] << SERVER | servers[server, event]

    def _compute_befall(self, context: int, server: int, event: CommonEvent) -> tuple[int, int]:
        parts = self.parts
        wall, after, whole = befall(
            0, parts.servers.values[server], parts.contexts.values[context], event
        )
        whole = with_snapshots(whole, lambda held: relative_time(held, wall))
        return parts.contexts.number(whole), parts.servers.number(relative_time(after, wall))
