"""Production plays the traces that the explorer finds in broken protocols.

The right script plays them without a difference from the oracle; the script with the same defect
does not. Random walks through the right world, with everything that can happen in it, are played
too.
"""

from __future__ import annotations

import random

import pytest

from oracle.check.broken import BROKEN
from oracle.check.call_kinds import KINDS, kinds
from oracle.check.events import EVENT_TYPES, Event, HearsReply
from oracle.check.fast.search import explore
from oracle.check.state import Bounds, start
from oracle.check.trace import Trace, decode_trace, encode_trace, tell
from oracle.check.world import events, perform
from tests.equivalence.mutants import MUTANTS
from tests.harness.player import Player
from tests.harness.side_by_side import Backend, fake_backend

SAME_DEFECT = {
    name: name
    for name in (
        "a late copy of a leave closes the next session",
        "a late copy of an open is taken for lost writes",
        "a leave does not close the session",
        "a read is not a heartbeat",
        "a slice in Redis wins over an equally old memory",
        "a slice is put back although the epoch has moved on",
        "an open keeps the sessions of the dead",
        "steps run whether or not their conditions hold",
        "the server's time follows the wall clock back",
    )
} | {"a late copy of a request runs": "a retry is executed again"}
"""Broken protocols, and the same defects of the script (tests/equivalence/mutants.py)."""


def _found(name: str) -> Trace:
    broken = BROKEN[name]
    found = explore(broken.bounds, broken.protocol)
    return Trace(broken.bounds, found.trace, name, found.violation)


@pytest.mark.parametrize("name", BROKEN)
def test_production_plays_the_trace_of_a_broken_protocol(backend: Backend, name: str) -> None:
    Player(_found(name), backend).play()


@pytest.mark.parametrize("name", SAME_DEFECT)
def test_a_script_with_the_same_defect_differs(name: str) -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == SAME_DEFECT[name])
    player = Player(_found(name), fake_backend(), mutant.script())
    with pytest.raises(AssertionError):
        player.play()


@pytest.mark.parametrize("name", BROKEN)
def test_a_trace_is_the_same_after_it_was_written_and_read(name: str) -> None:
    trace = _found(name)
    assert decode_trace(list(encode_trace(trace)), BROKEN[name].protocol) == trace


def test_a_trace_of_what_cannot_happen_is_refused() -> None:
    head, *_ = encode_trace(Trace(Bounds(), ()))
    with pytest.raises(ValueError, match="line 2: this cannot happen here"):
        decode_trace([head, '{"type": "HearsReply", "who": "A", "seq": 1, "resent": false}'])
    with pytest.raises(ValueError, match="not a trace of format 3"):
        decode_trace(["{}"])


def test_a_trace_tells_who_did_what_and_what_the_server_held() -> None:
    name = "one request opens the session and runs steps in it"
    told = list(tell(_found(name), BROKEN[name].protocol))
    assert told[0] == (
        "  1. A calls inc(10) on k; A sends request 1 in session 0 "
        "(k: inc(10), remembering 0 of epoch 0 by 0)"
    )
    assert told[1] == "     the server holds nothing"
    assert "k = 10 in epoch 0: A 10 of epoch 0 by 1" in told[5]
    assert told[-1].startswith("     R11, no request runs twice, or after a later one")


EVERYTHING = Bounds(
    keys=2,
    operations=6,
    kinds=(*KINDS, *kinds("inc_then_set,inc_and_delete")),
    thresholds=(3, 2),
    promises=(1, 0),
    ticks=3,
    crashes=1,
    joins=1,
    reuses=1,
    give_ups=2,
    losses=1,
    key_losses=1,
    rollbacks=2,
    key_rollbacks=1,
)


def _walk(seed: int, length: int = 60) -> Trace:
    """A random walk through a world in which everything can happen. Every kind of event is equally
    likely, but a reply is more likely, so that calls come to an end."""
    chance, world, trace = random.Random(seed), start(EVERYTHING), list[Event]()
    for _ in range(length):
        possible = list(events(world))
        if not possible:
            break
        kinds = [kind for kind in EVENT_TYPES if any(type(event) is kind for event in possible)]
        kind = chance.choice([*kinds, *([HearsReply] * 3 if HearsReply in kinds else [])])
        trace.append(chance.choice([event for event in possible if type(event) is kind]))
        world = perform(world, trace[-1])
    return Trace(EVERYTHING, tuple(trace))


WALKS = range(40)


@pytest.mark.parametrize("seed", WALKS)
def test_a_random_walk_can_be_played(seed: int) -> None:
    Player(_walk(seed), fake_backend()).play()


@pytest.mark.parametrize("seed", WALKS)
def test_a_random_walk_can_be_written_told_and_read(seed: int) -> None:
    trace = _walk(seed)
    assert decode_trace(list(encode_trace(trace))) == trace
    assert len(list(tell(trace))) == 2 * len(trace.events)


def test_the_walks_see_everything_that_can_happen() -> None:
    assert {type(event) for seed in WALKS for event in _walk(seed).events} == set(EVENT_TYPES)
