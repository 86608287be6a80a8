"""The state machine reaches what it is meant to reach (R2 to R19): what the explored worlds reach,
each operation with each outcome, and each fate of a request.

Histories that never meet a condition that holds, say, tell nothing about conditions. The histories
here are as many as the suite tries in the default profile, and the same ones in every run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import Phase, settings

from oracle import model
from tests.equivalence.machine import explore, machine_on
from tests.harness.profiles import EXAMPLES
from tests.harness.side_by_side import Fate, SideBySide, fake_backend
from tests.oracle.reached import EVERYTHING, reached

REFUSED = {"inc is refused", "set_on_instance is refused", "delete_on_instance is refused"}
"""R2 refuses these at the ends of the range, to which no explored world comes."""

CALLED = [name for name, operation in model.OPERATIONS.items() if not operation.is_own]
OUTCOMES = {
    *(f"{name}: {what}" for name in CALLED for what in ("done", model.NOT_EXECUTED)),
    *(f"{name}: {model.REFUSED}" for name in CALLED if not model.OPERATIONS[name].is_global),
    *(f"{name}: {model.UNKNOWN}" for name in CALLED if name not in model.READS),
}


class Watched(SideBySide):
    """Counts what happens."""

    seen: Counter[str]

    def _serve(self, request: model.Message, answered: list[int], label: str = "") -> model.Reply:
        self.seen.update(set(reached(self.server, request, self.wall)))
        return super()._serve(request, answered, label)

    def _check_call(
        self, name: str, steps: tuple[tuple[str, model.Step], ...], fates: Sequence[Fate]
    ) -> tuple[object, ...]:
        self.seen.update(fate.name for fate in fates)
        outcomes = super()._check_call(name, steps, fates)
        for (_, step), outcome in zip(steps, outcomes, strict=True):
            self.seen[f"{step.op}: {outcome if isinstance(outcome, str) else 'done'}"] += 1
        return outcomes


def test_the_state_machine_reaches_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Counter[str]()
    monkeypatch.setattr(Watched, "seen", seen, raising=False)
    monkeypatch.setattr("tests.equivalence.machine.SideBySide", Watched)
    backend = fake_backend()
    how = settings(max_examples=EXAMPLES, database=None, derandomize=True, phases=[Phase.generate])
    try:
        explore(machine_on(lambda: backend), how)
    finally:
        backend.close()
    wanted = EVERYTHING | REFUSED | OUTCOMES | {fate.name for fate in Fate}
    assert sorted(wanted - seen.keys()) == []
