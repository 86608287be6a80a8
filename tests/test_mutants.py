"""The suite can fail: each defect of `mutants.py`, planted in the script, is found.

First by the table of histories, which takes no luck; then, for all but what needs thousands of
instances, by the stateful machine alone, within the default number of examples.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings

from tests.machine import explore, machine_on
from tests.mutants import MUTANTS, Mutant
from tests.profiles import EXAMPLES
from tests.scale import a_crowd_dies
from tests.scenarios import SCENARIOS, play
from tests.world import fake_backend

mutants = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
NEEDS_A_CROWD = frozenset({"an unbounded list is unpacked"})


def _fails(mutant: Mutant) -> list[str]:
    backend = fake_backend()
    found = []
    for scenario in SCENARIOS:
        try:
            play(scenario, backend, mutant.script())
        except Exception:
            found.append(scenario.name)
    return found


@mutants
def test_a_named_history_finds_the_defect(mutant: Mutant) -> None:
    if mutant.name in NEEDS_A_CROWD:
        with pytest.raises(Exception, match="too many results to unpack"):
            a_crowd_dies(fake_backend().client, mutant.script())
        return
    assert _fails(mutant), f"no history fails with this defect: {mutant.name}"


@mutants
def test_the_stateful_machine_finds_the_defect(mutant: Mutant) -> None:
    if mutant.name in NEEDS_A_CROWD:
        return
    backend = fake_backend()
    machine = machine_on(lambda: backend, mutant.script())
    hunt = settings(max_examples=EXAMPLES, database=None, derandomize=True, phases=[Phase.generate])
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is that goes wrong
        explore(machine, hunt)
