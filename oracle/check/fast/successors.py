"""What can happen next in many worlds at once, and what it leads to.

`oracle.check.transitions` divides an event into functions of a few parts of a world. Each of them
is a table here: the machine itself runs once for each pair of a server's state and a request.
"""

from __future__ import annotations

from collections.abc import Iterator

from oracle.check.events import CommonEvent, InstanceEvent
from oracle.check.fast.parts import CONTEXT, PLACE, SERVER, SLOT, Parts, Worlds
from oracle.check.fast.reductions import relative_time
from oracle.check.fast.tables import Array, Attribute, Interner, MultiTable, Table
from oracle.check.state import HERE, NAMES, Bounds, Protocol
from oracle.check.transitions import NO_ANSWER, Answer, Effect, ask, befall, note, react
from oracle.check.world import check_epochs, common_events, own_events, request_events
from oracle.model import Message, Server

LOSSY, EVENT, MESSAGE, ANSWER, EFFECT = 1, 14, 14, 14, 14
"""How many bits each has as the argument of a table."""


class Successors:
    """The successors of worlds, before the reductions that depend on whole worlds."""

    def __init__(self, parts: Parts, bounds: Bounds, protocol: Protocol) -> None:
        self._parts, self._bounds, self._protocol = parts, bounds, protocol
        self._events: Interner[InstanceEvent] = Interner("events", EVENT)
        self._messages: Interner[Message] = Interner("messages", MESSAGE)
        self._answers: Interner[Answer] = Interner("answers", ANSWER)
        self._effects: Interner[Effect] = Interner("effects", EFFECT)
        self._no_answer = self._answers.number(NO_ANSWER)
        self._noted_by_orders = Attribute(
            self._effects, lambda effect: bounds.linear and bool(effect.closed or effect.outcomes)
        )

        self._common = MultiTable((CONTEXT, SERVER), self._compute_common)
        self._own = MultiTable((CONTEXT, SLOT, PLACE), self._compute_own)
        self._requests = MultiTable((SLOT,), self._compute_requests)
        self._asked = Table((SERVER, MESSAGE, PLACE), self._compute_ask)
        self._reacted = Table((SLOT, EVENT, ANSWER, LOSSY), self._compute_react)
        self._noted = Table((CONTEXT, PLACE, EFFECT), self._compute_note)
        self._befallen_contexts: dict[tuple[int, CommonEvent], int] = {}
        self._befallen_servers: dict[tuple[int, CommonEvent], int] = {}

    def of_common_events(self, worlds: Worlds) -> tuple[Array, Worlds]:
        """What leads on without an instance: the places of the worlds that it leads on from, and
        where it leads. Raises Violation."""
        origins, states = self._common.of(worlds.contexts, worlds.servers)
        contexts, servers = states >> SERVER, states & 2**SERVER - 1
        return origins, worlds.at(origins)._replace(contexts=contexts, servers=servers)

    def of_instance(self, worlds: Worlds, place: int) -> Iterator[tuple[Array, Worlds]]:
        """What the events of one instance lead to, in the same form. Raises Violation."""
        yield self._of_requests(worlds, place)
        yield self._of_own_events(worlds, place)

    def served(self) -> Iterator[tuple[Server, Message]]:
        """Every pair of a state of the server and a request that it was asked in that state."""
        for server, message, place in self._asked.arguments():
            request = self._messages.values[message]._replace(instance=NAMES[place])
            yield self._parts.servers.values[server], request

    def _of_own_events(self, worlds: Worlds, place: int) -> tuple[Array, Worlds]:
        origins, states = self._own.of(worlds.contexts, worlds.slots[place], place)
        worlds = worlds.at(origins)._replace(contexts=states >> SLOT)
        return origins, worlds.with_slot(place, states & 2**SLOT - 1)

    def _of_requests(self, worlds: Worlds, place: int) -> tuple[Array, Worlds]:
        origins, requests = self._requests.of(worlds.slots[place])
        events, messages = requests >> MESSAGE, requests & 2**MESSAGE - 1
        worlds = worlds.at(origins)
        answered = self._asked.of(worlds.servers, messages, place)
        servers, answers = answered >> ANSWER, answered & 2**ANSWER - 1
        lossy = self._parts.lossy.of(worlds.contexts)
        reacted = self._reacted.of(worlds.slots[place], events, answers, lossy)
        slots, effects = reacted >> EFFECT, reacted & 2**EFFECT - 1
        contexts = worlds.contexts
        (noted,) = self._noted_by_orders.of(effects).nonzero()
        if len(noted):
            contexts = contexts.copy()
            contexts[noted] = self._noted.of(contexts[noted], place, effects[noted])
        return origins, Worlds(contexts, servers, worlds.slots).with_slot(place, slots)

    # --- What is computed once --------------------------------------------------------------------

    def _compute_ask(self, server: int, message: int, place: int) -> int:
        """The server afterwards, and the answer."""
        named = self._messages.values[message]._replace(instance=NAMES[place])
        after, answer = ask(self._parts.servers.values[server], named, 0, self._protocol)
        after = relative_time(after, 0, self._bounds.threshold)
        return self._parts.servers.number(after) << ANSWER | self._answers.number(answer)

    def _compute_react(self, slot: int, event: int, answer: int, lossy: int) -> int:
        """The slot afterwards, and the effect."""
        after, effect = react(
            self._parts.slots.values[slot],
            self._events.values[event],
            self._answers.values[answer],
            self._protocol,
            bool(lossy),
        )
        if after.instance is not None and after.instance.sent is not None:
            self._messages.number(after.instance.sent)  # checks that it is equal to no other kind
        return self._parts.slots.number(after) << EFFECT | self._effects.number(effect)

    def _compute_note(self, context: int, place: int, effect: int) -> int:
        after = note(
            self._parts.contexts.values[context], NAMES[place], self._effects.values[effect]
        )
        return self._parts.contexts.number(after)

    def _compute_requests(self, slot: int) -> list[int]:
        """What can happen to the requests of an instance: events and messages."""
        return [
            self._events.number(event) << MESSAGE | self._messages.number(event.message)
            for event in request_events(self._parts.slots.values[slot], HERE)
        ]

    def _compute_own(self, context: int, slot: int, place: int) -> list[int]:
        """What an instance can do by itself: contexts and slots."""
        found, whole = [], self._parts.contexts.values[context]
        for event in own_events(whole, self._parts.slots.values[slot], HERE):
            reacted = self._compute_react(
                slot, self._events.number(event), self._no_answer, whole.lossy
            )
            after = self._compute_note(context, place, reacted & 2**EFFECT - 1)
            found.append(after << SLOT | reacted >> EFFECT)
        return found

    def _compute_common(self, context: int, server: int) -> list[int]:
        """What can happen that no instance does: contexts and servers. Every pair of them comes
        past here once, so what must hold of a pair is checked here, too. Raises Violation."""
        whole, held = self._parts.contexts.values[context], self._parts.servers.values[server]
        check_epochs(whole, held)
        return [self._befall(context, server, event) for event in common_events(whole, held, 0)]

    def _befall(self, context: int, server: int, event: CommonEvent) -> int:
        if self._bounds.rollbacks:
            new_context, new_server = self._compute_befall(context, server, event)
            return new_context << SERVER | new_server
        # Without snapshots, what becomes of the context does not depend on the server, nor the
        # other way round.
        contexts, servers = self._befallen_contexts, self._befallen_servers
        if (context, event) not in contexts or (server, event) not in servers:
            after = self._compute_befall(context, server, event)
            contexts[context, event], servers[server, event] = after
        return contexts[context, event] << SERVER | servers[server, event]

    def _compute_befall(self, context: int, server: int, event: CommonEvent) -> tuple[int, int]:
        parts, threshold = self._parts, self._bounds.threshold
        wall, after, whole = befall(
            0, parts.servers.values[server], parts.contexts.values[context], event
        )
        snapshots = tuple(relative_time(s, wall, threshold) for s in whole.snapshots)
        return (
            parts.contexts.number(whole._replace(snapshots=snapshots)),
            parts.servers.number(relative_time(after, wall, threshold)),
        )
