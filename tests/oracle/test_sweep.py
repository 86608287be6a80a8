"""R14: an open may overlook sessions of the dead, as the script does among many.

A world has too few instances for that. So here an open overlooks all of them, or all but one, and
every other property still holds: no other rule depends on which sessions an open draws.
"""

from __future__ import annotations

import pytest

from oracle.check.broken import BROKEN
from oracle.check.call_kinds import kinds
from oracle.check.fast.search import explore
from oracle.check.properties import PROPERTIES, Served
from oracle.check.state import Bounds, Protocol
from oracle.model import Message, Reply, Server, serve

OVERLOOKS_ALL = BROKEN["an open keeps the sessions of the dead"]


def _overlooks_all_but_one(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    after, reply = serve(server, request, wall)
    overlooked, _ = OVERLOOKS_ALL.protocol.serve(server, request, wall)
    dead = sorted(set(overlooked.sessions) - set(after.sessions))
    if after.opened == server.opened or not dead:
        return after, reply
    return after._replace(sessions=overlooked.sessions.without(dead[0])), reply


WORLDS = {
    "crashes": Bounds(kinds=kinds("inc"), thresholds=(1,), ticks=1, crashes=1, joins=1),
    "promises": Bounds(kinds=kinds("heartbeat,leave"), promises=(1, 0), ticks=2),
    "three": Bounds(3, operations=2, kinds=kinds("inc"), thresholds=(1,), ticks=1),
    "reuse": Bounds(
        1, kinds=kinds("inc,leave"), thresholds=(1,), ticks=1, crashes=1, joins=1, reuses=1
    ),
    "a loss": Bounds(kinds=kinds("inc"), thresholds=(1,), ticks=1, losses=1),
}


@pytest.fixture
def without_r14(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = [prop for prop in PROPERTIES[Served] if prop.name != OVERLOOKS_ALL.breaks]
    assert len(rest) == len(PROPERTIES[Served]) - 1
    monkeypatch.setitem(PROPERTIES, Served, rest)


@pytest.mark.usefixtures("without_r14")
@pytest.mark.parametrize(
    "protocol", [OVERLOOKS_ALL.protocol, Protocol(_overlooks_all_but_one)], ids=["all", "all but 1"]
)
@pytest.mark.parametrize("world", WORLDS)
def test_a_session_that_an_open_overlooks_breaks_no_other_rule(
    world: str, protocol: Protocol
) -> None:
    found = explore(WORLDS[world], protocol)
    assert found.finished, found.violation
    assert not found.violation


def test_it_is_noticed_that_sessions_are_overlooked() -> None:
    """That the worlds have such sessions."""
    for bounds in WORLDS.values():
        assert OVERLOOKS_ALL.breaks in explore(bounds, OVERLOOKS_ALL.protocol).violation
