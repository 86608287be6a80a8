"""Every history of `scenarios.py` passes on every Redis."""

from __future__ import annotations

import pytest

from tests.equivalence.scenarios import SCENARIOS, Scenario, play
from tests.harness.side_by_side import Backend


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_history(backend: Backend, scenario: Scenario) -> None:
    play(scenario, backend)
