"""Every interleaving of a bounded world, breadth first, on the oracle's own machine.

A world is a server, some instances, and a network. A request, once sent, stays in the network: it
may arrive never, at once, late, or any number of times. A reply is heard or lost. A caller waits,
sends again, or gives up. The clock moves; an instance crashes, another joins; the server loses
everything, or falls back to an earlier state. `successors` is one list of all that can happen next;
`explore` visits each state once, so that a violation comes with its shortest history.

What must hold is in `oracle.invariants`; the machine is `oracle.model`, not a second one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from oracle import model
from oracle.invariants import Violation, check_quiet, check_step
from oracle.model import Map, Message, Owner, Request, Serve, Server, Step

KEY = "k"
THRESHOLD = 2
NAMES = "ABCDEFGH"


class Bounds(NamedTuple):
    """How much can happen in a world: each is a number of times."""

    instances: int = 2
    operations: int = 2
    kinds: tuple[str, ...] = model.KINDS
    ticks: int = 0
    crashes: int = 0
    joins: int = 0
    give_ups: int = 0
    losses: int = 0
    rollbacks: int = 0


class World(NamedTuple):
    """`network` holds all that may still arrive. `resent` names the instances whose request in
    flight may have arrived without their knowing, `unsure` those that have ever given a call up.
    `saved` is what a rollback falls back to."""

    left: Bounds
    server: Server = Server()
    wall: int = 0
    owners: Map[str, Owner] = Map()
    network: frozenset[Message] = frozenset()
    resent: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    saved: Server | None = None
    born: int = 0
    issued: int = 0
    global_steps: int = 0


class Event(NamedTuple):
    """What happened, for the story: who and what."""

    who: str
    what: str


def start(bounds: Bounds) -> World:
    """Nobody has said anything yet."""
    world = World(bounds)
    for _ in range(bounds.instances):
        world = _join(world)
    return world


def _join(world: World) -> World:
    name = NAMES[world.born]
    owners = world.owners.put(name, Owner(name, THRESHOLD))
    return world._replace(owners=owners, born=world.born + 1)


def successors(world: World, serve: Serve) -> Iterator[tuple[Event, World]]:
    """All that can happen next, in an order that does not depend on hashes."""
    for name in sorted(world.owners):
        owner = world.owners[name]
        if owner.call is None:
            yield from _calls(world, owner)
        else:
            yield from _waiting(world, owner, serve)
        if world.left.crashes:
            yield Event(name, "crashes"), _crash(world, name)
    for message in sorted(world.network, key=_order):
        yield _arrive(world, message, serve)
    yield from _surroundings(world)


def _order(message: Message) -> tuple[str, int]:
    return message.instance, message.seq


def _spend(world: World, what: str) -> World:
    left = world.left._replace(**{what: getattr(world.left, what) - 1})
    return world._replace(left=left)


# --- An instance ---------------------------------------------------------------------------------


def _calls(world: World, owner: Owner) -> Iterator[tuple[Event, World]]:
    if not world.left.operations:
        return
    for kind in world.left.kinds:
        step = Step(kind, number_of(world.issued, kind))
        after = _spend(world, "operations")
        after = after._replace(
            issued=world.issued + 1,
            global_steps=world.global_steps + (kind in model.GLOBAL),
        )
        begun = model.begin(owner, ((KEY, step),))
        yield Event(owner.instance, f"calls {kind}({step.n or ''})"), _send(after, begun)


def number_of(issued: int, kind: str) -> int:
    """Each operation leaves its own mark: a digit at its own place, so that none can count twice
    unseen."""
    mark: int = {"inc": 1, "set_on_instance": 3, "set": 5}.get(kind, 0) * 10**issued
    return mark


def _send(world: World, owner: Owner) -> World:
    """The next request of the call goes into the network; or the call is over."""
    assert owner.call is not None
    resent = world.resent - {owner.instance}
    if owner.call.done:
        owner, _ = model.finish(owner)
        return world._replace(owners=world.owners.put(owner.instance, owner), resent=resent)
    owner = model.speak(owner)
    assert owner.sent is not None
    return world._replace(
        owners=world.owners.put(owner.instance, owner),
        network=world.network | {owner.sent},
        resent=resent,
    )


def _waiting(world: World, owner: Owner, serve: Serve) -> Iterator[tuple[Event, World]]:
    name, sent = owner.instance, owner.sent
    assert sent is not None
    server, reply = serve(world.server, sent, world.wall)
    check_step(world.server, server)
    heard = model.hear(owner, reply, resent=name in world.resent)
    yield (
        Event(name, f"is answered {type(reply).__name__} to request {sent.seq}"),
        _send(world._replace(server=server), heard),
    )
    if world.left.give_ups:
        after = _spend(world, "give_ups")._replace(unsure=world.unsure | {name})
        given_up = model.give_up(owner, arrived=True)
        yield Event(name, f"gives up request {sent.seq}"), _send(after, given_up)


def _crash(world: World, name: str) -> World:
    after = _spend(world, "crashes")
    return after._replace(owners=world.owners.without(name), resent=world.resent - {name})


# --- The network and the world -------------------------------------------------------------------


def _arrive(world: World, message: Message, serve: Serve) -> tuple[Event, World]:
    """A copy arrives and its reply is lost. Its sender, if it still waits, will send again."""
    server, _ = serve(world.server, message, world.wall)
    check_step(world.server, server)
    owner = world.owners.get(message.instance)
    resent = world.resent
    if owner is not None and owner.sent == message:
        resent |= {message.instance}
    event = Event("network", f"delivers {message.instance}'s request {message.seq}; reply lost")
    return event, world._replace(server=server, resent=resent)


def _surroundings(world: World) -> Iterator[tuple[Event, World]]:
    left = world.left
    if left.ticks:
        for ms in (1, THRESHOLD - 1, THRESHOLD, -1):
            after = _spend(world, "ticks")
            yield Event("clock", f"moves {ms}"), after._replace(wall=world.wall + ms)
    if left.joins:
        yield Event("world", f"{NAMES[world.born]} joins"), _join(_spend(world, "joins"))
    if left.losses:
        yield Event("server", "loses everything"), _spend(world, "losses")._replace(server=Server())
    if left.rollbacks and world.saved is None:
        yield Event("server", "is copied"), world._replace(saved=world.server)
    if left.rollbacks and world.saved is not None:
        after = _spend(world, "rollbacks")._replace(server=world.saved, saved=None)
        yield Event("server", "falls back to the copy"), after


def without_inert(world: World) -> World:
    """Drop what can do nothing any more: a request older than its session's last.

    Sound while nothing is rolled back: the entry's seq only grows, and an instance opens its next
    session with a newer seq, whatever the server has lost. And while time stands still: such a copy
    moves the server's clock, as any request does.
    """
    still = not world.left.ticks and world.wall == world.server.wall
    if not still or world.left.rollbacks or world.saved is not None:
        return world
    kept = frozenset(m for m in world.network if not _inert(world, m))
    return world if len(kept) == len(world.network) else world._replace(network=kept)


def _inert(world: World, message: Message) -> bool:
    owner = world.owners.get(message.instance)
    session = world.server.sessions.get(message.instance)
    return (
        session is not None
        and session.seq > message.seq
        and isinstance(message, Request)
        and (owner is None or owner.sent != message)
    )


# --- The search ----------------------------------------------------------------------------------


class Found(NamedTuple):
    states: int
    depth: int
    seconds: float
    complete: bool
    story: tuple[Event, ...] = ()
    violation: str = ""


def explore(
    bounds: Bounds,
    serve: Serve = model.serve,
    *,
    most_states: int = 10**9,
    progress: Callable[[int, int, int], None] = lambda *_: None,
) -> Found:
    """Visit every state that can be reached; stop at the first violation, or at `most_states`."""
    began = time.perf_counter()
    first = start(bounds)
    parents: dict[World, tuple[World, Event] | None] = {first: None}
    frontier, depth = [first], 0
    while frontier:
        following = []
        for world in frontier:
            events = successors(world, serve)
            try:
                if all(owner.call is None for owner in world.owners.values()):
                    check_quiet(world.server, world.owners, world.unsure, world.wall, serve)
                for event, after in events:
                    after = without_inert(after)
                    if after not in parents:
                        parents[after] = (world, event)
                        following.append(after)
            except Violation as violation:
                story = _story(parents, world)
                seconds = time.perf_counter() - began
                return Found(len(parents), depth, seconds, False, story, str(violation))
        if len(parents) > most_states:
            return Found(len(parents), depth, time.perf_counter() - began, False)
        frontier, depth = following, depth + 1
        progress(len(parents), len(frontier), depth)
    return Found(len(parents), depth, time.perf_counter() - began, True)


def _story(parents: dict[World, tuple[World, Event] | None], world: World) -> tuple[Event, ...]:
    events: list[Event] = []
    step = parents[world]
    while step is not None:
        world, event = step
        events.append(event)
        step = parents[world]
    return tuple(reversed(events))
