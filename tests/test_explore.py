"""Small worlds, explored to the end: nothing is found in the machine, and every defect in it is."""

from __future__ import annotations

import pytest

from oracle import model
from oracle.explore import Bounds, explore
from oracle.model import Message, Reply, Request, Server

INC_SET = ("inc", "set")

WORLDS = {
    "every operation, given up": (Bounds(operations=2, give_ups=1), 7_100),
    "a clock and a crash": (Bounds(operations=1, ticks=2, crashes=1), 1_000),
    "everything lost": (Bounds(operations=1, losses=1, give_ups=1), 800),
    "a rollback": (Bounds(operations=1, rollbacks=1, give_ups=1), 1_000),
    "a newcomer and a rollback": (Bounds(1, 2, INC_SET, joins=1, rollbacks=1), 10_000),
}
"""R6, R10 and R11 hold in each; the number is how many states it has at the least."""


@pytest.mark.parametrize("name", WORLDS)
def test_nothing_is_found_in_a_small_world(name: str) -> None:
    bounds, at_least = WORLDS[name]
    found = explore(bounds)
    assert not found.violation, found
    assert found.complete
    assert found.states >= at_least


def _late_copies_run(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """R11 broken: the fence is gone, so that whatever arrives is taken for new."""
    session = server.sessions.get(request.instance)
    if session is not None and isinstance(request, Request) and session.seq >= request.seq:
        session = session._replace(seq=request.seq - 1)
        server = server._replace(sessions=server.sessions.put(request.instance, session))
    return model.serve(server, request, wall)


def _equal_copies_win(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """R10 broken: the owner's memory loses to a copy that is as old as it is."""
    if isinstance(request, Request):
        parts = [
            part._replace(memory=part.memory._replace(seq=part.memory.seq - 1))
            for part in request.parts
        ]
        request = request._replace(parts=tuple(parts))
    return model.serve(server, request, wall)


def _old_epochs_come_back(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """R10 broken: what is remembered counts, in whichever epoch it was."""
    if isinstance(request, Request):
        parts = []
        for part in request.parts:
            epoch = server.counters.get(part.key, model.Counter()).epoch
            newest = max(epoch, part.memory.epoch)
            parts.append(part._replace(memory=part.memory._replace(epoch=newest)))
        request = request._replace(parts=tuple(parts))
    return model.serve(server, request, wall)


ROLLBACK = Bounds(operations=2, kinds=INC_SET, rollbacks=1)
DEFECTS = {
    "late copies run": (_late_copies_run, Bounds(operations=2, kinds=INC_SET), "R11"),
    "equal copies win": (_equal_copies_win, ROLLBACK, "R10"),
    "old epochs come back": (_old_epochs_come_back, Bounds(operations=2, kinds=INC_SET), "R10"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_with_its_shortest_history(name: str) -> None:
    serve, bounds, rule = DEFECTS[name]
    found = explore(bounds, serve)
    assert rule in found.violation
    assert 2 <= len(found.story) <= 12, found.story
