"""The script is `model.serve`: the same state, the same request, the same reply and state after it.

R2 to R19, one request at a time, from states at random: see `states.py`. The stateful machine
reaches only what a history leads to; this reaches the rest, and a difference shows where it arises.
"""

from __future__ import annotations

import pytest

from tests.equivalence.conformance import compare
from tests.equivalence.mutants import MUTANTS, Mutant
from tests.equivalence.states import Chance
from tests.harness.profiles import scaled
from tests.harness.servers import RedisServer

SEED = 11


def test_the_script_does_what_the_oracle_does(newest_server: RedisServer) -> None:
    compare(newest_server.client(), Chance(SEED).exchanges(scaled(10_000)))


PUTS_NOTHING_BACK = Mutant(
    "an instance that remembers nothing puts a slice of 0 back",
    "if restoring and (remembered_in ~= '0' or remembered ~= '0') then",
    "if restoring then",
)
"""No instance asks for it, so no history shows it."""

NEEDS_MORE = {
    "a condition holds on a total that is out of range",
    "an unbounded list is unpacked",
    "session numbers start again after a loss",
    "the usual request leaves the range",
    "the usual request takes a counter that is not listed",
    "a closing does not say whose session it was",
    "closings are believed after the stamp was renewed without them",
}
"""Defects that take a history, a crowd, or more luck."""

can_show = [mutant for mutant in MUTANTS if mutant.name not in NEEDS_MORE]


@pytest.mark.parametrize("mutant", [*can_show, PUTS_NOTHING_BACK], ids=lambda m: m.name)
def test_a_defect_shows(newest_server: RedisServer, mutant: Mutant) -> None:
    """That it can fail."""
    script = mutant.script()
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is that goes wrong
        compare(newest_server.client(), Chance(SEED).exchanges(10_000), script)
