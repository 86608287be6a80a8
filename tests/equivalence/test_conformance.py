"""The script answers every explored transition as the oracle did, one at a time.

All transitions of small worlds, and a sample of a larger one (R2 to R11, R14 to R16).
"""

from __future__ import annotations

import random
from functools import cache

import pytest
import redis

from oracle.check.call_kinds import kinds
from oracle.check.fast.search import NO_BUDGET, Budget, Options, Search
from oracle.check.state import Bounds
from tests.equivalence.conformance import compare, transitions
from tests.equivalence.mutants import MUTANTS, Mutant
from tests.equivalence.states import Exchange
from tests.harness.servers import RedisServer

SMALL = Bounds(give_ups=1)
WORLDS = {
    "two calls of every kind and a clock": Bounds(ticks=1),
    "three calls and a clock": Bounds(
        operations=3, kinds=kinds("inc"), first=kinds("inc,set"), ticks=1
    ),
    "everything lost": Bounds(kinds=kinds("inc"), losses=1, give_ups=1),
    "a key lost": Bounds(kinds=kinds("inc,set"), key_losses=1),
    "a key lost, and counts of 0": Bounds(
        kinds=kinds("inc,delete_on_instance,heartbeat"), key_losses=1
    ),
    "a key that has vanished falls back": Bounds(
        1, operations=3, kinds=kinds("delete,leave,get"), key_rollbacks=1
    ),
    "a key falls back": Bounds(kinds=kinds("inc"), key_rollbacks=1, give_ups=1),
    "an id used again": Bounds(operations=2, kinds=kinds("inc,set"), crashes=1, reuses=1, ticks=1),
    "promises and two thresholds": Bounds(
        kinds=kinds("inc,leave"), thresholds=(2, 3), promises=(1, 0), ticks=2
    ),
    "promises, and all leave": Bounds(
        operations=3, kinds=kinds("inc,leave"), thresholds=(2, 3), promises=(1, 2)
    ),
    "leases of different length": Bounds(
        operations=3, kinds=kinds("inc,get"), thresholds=(1, 3), ticks=1
    ),
    "0 is given up": Bounds(
        1, operations=3, kinds=kinds("inc,delete_on_instance,heartbeat"), give_ups=1
    ),
    "counters that vanish": Bounds(kinds=kinds("inc,set,release,heartbeat"), give_ups=1),
    "rollbacks": Bounds(operations=1, rollbacks=2),
    "two calls and a rollback": Bounds(kinds=kinds("inc"), rollbacks=1),
    "calls of two steps": Bounds(kinds=kinds("inc_then_set,set_then_inc_if,leave"), ticks=1),
    "two counters": Bounds(keys=2, kinds=kinds("inc,set,get"), give_ups=1),
}
LARGE = Bounds(operations=3, ticks=1)
SAMPLE, SEED = 3_000, 20

NEEDS_MORE = {
    "counts beyond 2^53 are accepted",
    "a total beyond 2^53 loses a unit",
    "an unbounded list is unpacked",
    "a refused step stops the steps after it",
    "a new counter is not listed",
    "only positive slices are restored",
    "the earliest expiry is not recorded",  # needs a third instance
    "a closed session does not start a search for the dead",  # needs three calls and a loss
    "the usual request leaves the range",
    "the same inc many times counts once",
    "the same inc many times counts once where slices are searched",
    "a slice in Redis wins over an equally old memory",  # needs two kinds of call; see test_traces
    "lt also holds for equal",
    "gt also holds for equal",
    "the condition of set_on_instance tests the total",
    "a condition holds on a total that is out of range",
    "a closing does not say whose session it was",  # the next request shows it
    "of several closings only the last is looked at",
    "closings are believed after the stamp was renewed without them",
    "a search of a few knows the earliest expiry of all",
    "whoever was just removed is one of the others",
    "the caller is one of the others",
}
"""Defects that these worlds cannot show. They have two instances, small counts that are not
negative, at most two steps in a request, and no condition but "is 0"."""


@cache
def _asked(bounds: Bounds, budget: Budget = NO_BUDGET) -> list[Exchange]:
    search = Search(bounds, options=Options(budget=budget))
    found = search.run()
    assert not found.violation
    return list(transitions(search.space))


def test_all_of_a_small_world(client: redis.Redis) -> None:
    """On every real Redis and on fakeredis."""
    asked = _asked(SMALL)
    assert len(asked) > 1_000
    compare(client, asked)


@pytest.mark.parametrize("name", WORLDS)
def test_all_of_a_world_on_a_real_server(real_server: RedisServer, name: str) -> None:
    asked = _asked(WORLDS[name])
    assert len(asked) > 150
    compare(real_server.client(), asked)


def test_a_sample_of_a_large_world(real_server: RedisServer) -> None:
    asked = _asked(LARGE, Budget(states=150_000))
    compare(real_server.client(), random.Random(SEED).sample(asked, SAMPLE))


can_show = [mutant for mutant in MUTANTS if mutant.name not in NEEDS_MORE]


@pytest.mark.parametrize("mutant", can_show, ids=lambda mutant: mutant.name)
def test_a_defect_shows_in_an_explored_world(newest_server: RedisServer, mutant: Mutant) -> None:
    """The comparison can fail: it does with a defect planted in the script."""
    asked = [each for bounds in (SMALL, *WORLDS.values()) for each in _asked(bounds)]
    random.Random(SEED).shuffle(asked)  # in random order, most defects show soon
    script = mutant.script()
    with pytest.raises(AssertionError):
        compare(newest_server.client(), asked, script)
