"""Production equals the oracle after every step of random histories."""

from __future__ import annotations

import pytest

from tests.equivalence.machine import explore, machine_on
from tests.harness.side_by_side import AsyncBackend, Backend

faults = pytest.mark.parametrize("faults", [True, False], ids=["with faults", "faultless: R13"])


@faults
def test_production_equals_the_oracle(backend: Backend, faults: bool) -> None:
    """R1 to R16: the replies, the results, and everything that is stored."""
    explore(machine_on(lambda: backend, faults=faults))


@faults
def test_the_asyncio_counter_equals_the_oracle(async_backend: AsyncBackend, faults: bool) -> None:
    """The same, with calls of several callers in flight at once."""
    explore(machine_on(lambda: async_backend, faults=faults))
