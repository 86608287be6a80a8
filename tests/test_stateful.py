"""Production equals the oracle after every step of every history that Hypothesis can think of."""

from __future__ import annotations

import pytest

from tests.machine import explore, machine_on
from tests.world import Backend


@pytest.mark.parametrize("faults", [True, False], ids=["with faults", "faultless: R13"])
def test_production_equals_the_oracle(backend: Backend, faults: bool) -> None:
    """R1 to R14, on the replies and on all that is stored."""
    explore(machine_on(lambda: backend, faults=faults))
