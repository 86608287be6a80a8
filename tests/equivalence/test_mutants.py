"""The suite can fail: it finds each defect of `mutants.py` when it is planted in the script.

A named history finds it, which takes no luck, and so does the state machine alone, within the
default number of examples, but for two. Another shows only with thousands of instances and has a
test of its own.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings

from tests.equivalence.machine import explore, machine_on
from tests.equivalence.mutants import MUTANTS, Mutant
from tests.equivalence.scenarios import SCENARIOS, play
from tests.harness.profiles import HUNT
from tests.harness.scale import a_crowd_dies
from tests.harness.servers import RedisServer
from tests.harness.side_by_side import fake_backend, real_backend

NEEDS_A_CROWD = "an unbounded list is unpacked"
for_five = [mutant for mutant in MUTANTS if mutant.name != NEEDS_A_CROWD]
"""The defects that a few instances can show."""

mutants = pytest.mark.parametrize("mutant", for_five, ids=lambda m: m.name)

NEEDS_A_HISTORY = {
    "closings are believed after the stamp was renewed without them",
    "a request of an earlier life is taken for this open",
}
"""Defects that the state machine does not find by itself, or not each time. The first takes
`instances` alone that fall back just after a search of all, and a search by somebody who has joined
since. The second takes two lives whose numbers meet."""

hunted = pytest.mark.parametrize(
    "mutant", [m for m in for_five if m.name not in NEEDS_A_HISTORY], ids=lambda m: m.name
)


def _fails(mutant: Mutant) -> list[str]:
    backend, script = fake_backend(), mutant.script()
    found = []
    for scenario in SCENARIOS:
        try:
            play(scenario, backend, script)
        except Exception:
            found.append(scenario.name)
    return found


@mutants
def test_a_named_history_finds_the_defect(mutant: Mutant) -> None:
    assert _fails(mutant), f"every history passes with this defect: {mutant.name}"


def test_a_crowd_finds_the_unbounded_list() -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == NEEDS_A_CROWD)
    script = mutant.script()
    with pytest.raises(Exception, match="too many results to unpack"):
        a_crowd_dies(fake_backend().client, script)


@hunted
def test_the_stateful_machine_finds_the_defect(newest_server: RedisServer, mutant: Mutant) -> None:
    backend = real_backend(newest_server)
    machine = machine_on(lambda: backend, mutant.script())
    hunt = settings(max_examples=HUNT, database=None, derandomize=True, phases=[Phase.generate])
    with pytest.raises(Exception):  # noqa: B017, PT011 - any failure will do
        explore(machine, hunt)
