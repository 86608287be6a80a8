"""The plain search, in worlds that are small enough to count by hand."""

from __future__ import annotations

from oracle.check.broken import BROKEN
from oracle.check.call_kinds import kinds
from oracle.check.events import Calls, GivesUp, HearsReply, StrangerCalls
from oracle.check.search import explore
from oracle.check.state import Bounds, start
from oracle.check.world import events, perform
from oracle.model import Open, Request


def test_a_world_of_one_heartbeat_is_counted_by_hand() -> None:
    """One instance makes one heartbeat: it sends an open and then a request. The states:

    1. nothing was sent;
    2. the open is in flight;
    3. a copy of it has arrived, and its reply was lost;
    4. its reply was heard, and the request is in flight;
    5. a copy of that has arrived, and its reply was lost;
    6. its reply was heard, and the call is over.

    A copy of the open that arrives late changes nothing: before the request has arrived it is a
    retry, and afterwards it is late. States 1 and 2 exist once more, with a server whose clock a
    stranger's request has started.
    """
    result = explore(Bounds(1, operations=1, kinds=kinds("heartbeat")))
    assert result.states == 6 + 2
    assert result.depth == 3, "1, 2, 4, 6"
    assert not result.violation
    assert not result.trace
    # 1-2, 2-3, 2-4 by the first reply, 3-4 by a later one, 4-5, 4-6 and 5-6. A reply to a request
    # that was sent twice leads to the same state as a reply to one that was sent once: 2-4 and 4-6
    # count twice. With the stranger's clock, 1-2, 2-3 and twice 2-4 again, and the two events that
    # start it.
    assert result.transitions == 9 + 4 + 2


def test_an_event_leads_where_the_machine_goes() -> None:
    world = start(Bounds(1, operations=1, kinds=kinds("inc"), give_ups=1))
    call, stranger = events(world)
    assert isinstance(call, Calls)
    assert isinstance(stranger, StrangerCalls)
    world = perform(world, call)
    (opening,) = world.slots[0].network
    assert isinstance(opening, Open)
    assert [type(event) for event in events(world)][:1] == [GivesUp]
    world = perform(world, HearsReply("A", opening, resent=False))
    instance = world.slots[0].instance
    assert instance is not None
    assert isinstance(instance.sent, Request)
    assert world.server.sessions["A"].number == instance.session


def test_a_trace_leads_to_its_violation() -> None:
    """Each event of a trace can happen where the ones before it lead."""
    broken = BROKEN["a leave does not close the session"]
    result = explore(broken.bounds, broken.protocol)
    assert result.violation
    world = start(broken.bounds)
    for event in result.trace[:-1]:
        assert event in list(events(world))
        world = perform(world, event, broken.protocol)
    assert result.trace[-1] in list(events(world))
