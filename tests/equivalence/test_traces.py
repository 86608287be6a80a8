"""What is found in a broken machine is a trace, and production can be asked to do the same.

The right script does it without a difference; the script with the same defect does not. And random
walks through the right world, with everything that can happen in it, are played too.
"""

from __future__ import annotations

import random

import pytest

from oracle.check.broken import BROKEN
from oracle.check.fast.search import explore
from oracle.check.trace import Trace, read_trace, tell, write_trace
from oracle.check.world import Bounds, Event, World, events, perform, start
from tests.equivalence.mutants import MUTANTS
from tests.harness.player import EVENTS, Player
from tests.harness.side_by_side import Backend, fake_backend

SAME_DEFECT = {
    "a late copy runs": "a retry is executed again",
    "the owner's memory loses to an equal copy": "the owner's memory loses to an equal copy",
    "what is put back is of whichever epoch": "a slice is put back over a newer epoch",
    "the clock runs backwards": "the clock runs backwards",
    "a read is no heartbeat": "a read is no heartbeat",
    "the sessions of the dead stay": "the sessions of the dead stay open",
    "conditions are not looked at": "a condition is not looked at",
    "a late open is taken for lost writes": "a late open is taken for lost writes",
    "who leaves keeps the session": "a session that is left stays open",
    "a late leave closes the next session": "a late copy of a leave closes the next session",
}
"""Broken machines, and the defects of the script that are the same."""


def _found(name: str) -> Trace:
    broken = BROKEN[name]
    found = explore(broken.bounds, broken.protocol)
    return Trace(broken.bounds, found.trace, name, found.violation)


@pytest.mark.parametrize("name", BROKEN)
def test_production_stands_where_a_broken_machine_falls(backend: Backend, name: str) -> None:
    Player(_found(name), backend).play()


@pytest.mark.parametrize("name", SAME_DEFECT)
def test_a_script_with_the_same_defect_falls(name: str) -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == SAME_DEFECT[name])
    with pytest.raises(AssertionError):
        Player(_found(name), fake_backend(), mutant.script()).play()


@pytest.mark.parametrize("name", BROKEN)
def test_a_trace_says_the_same_after_it_was_written_and_read(name: str) -> None:
    trace = _found(name)
    assert read_trace(list(write_trace(trace)), BROKEN[name].protocol) == trace


def test_a_trace_of_what_cannot_happen_is_refused() -> None:
    head, *_ = write_trace(Trace(Bounds(), ()))
    with pytest.raises(ValueError, match="line 2: this cannot happen here"):
        read_trace([head, '{"what": "is answered", "who": "A", "seq": 1}'])
    with pytest.raises(ValueError, match="not a trace of format 1"):
        read_trace(["{}"])


def test_a_story_says_who_did_what_and_what_the_server_held() -> None:
    name = "the session is opened by the first steps"
    story = list(tell(_found(name), BROKEN[name].protocol))
    assert story[0] == "  1. A calls inc(10) on k; sends request 1 (k: inc(10), remembering 0/0)"
    assert story[1] == "     the server holds nothing"
    assert "k = 10 in epoch 0: A 10 of epoch 0 by 1" in story[5]
    assert story[-1].startswith("     R11, no request runs twice or late: ")


EVERYTHING = Bounds(
    2, 2, 6, ticks=3, crashes=1, joins=1, give_ups=2, losses=1, rollbacks=2, threshold=3
)


def _walk(seed: int, length: int = 60) -> tuple[Trace, World]:
    """Somewhere through a world in which everything can happen."""
    chance, world, story = random.Random(seed), start(EVERYTHING), list[Event]()
    for _ in range(length):
        possible = list(events(world))
        if not possible:
            break
        kinds = sorted({event.what for event in possible})
        kind = chance.choice([*kinds, *(["is answered"] * 3 if "is answered" in kinds else [])])
        story.append(chance.choice([event for event in possible if event.what == kind]))
        world = perform(world, story[-1])
    return Trace(EVERYTHING, tuple(story)), world


@pytest.mark.parametrize("seed", range(40))
def test_a_random_walk_can_be_played(seed: int) -> None:
    trace, _ = _walk(seed)
    Player(trace, fake_backend()).play()


def test_the_walks_see_everything_that_can_happen() -> None:
    seen = {event.what for seed in range(40) for event in _walk(seed)[0].events}
    assert seen == set(EVENTS)
