"""The state machine reaches what it is meant to reach: each operation with each outcome, each reply
of the server, each loss and repair, each fate of a request (R2 to R19).

A random history that never meets a condition that holds, say, says nothing about conditions. The
examples are as many as the suite tries in the default profile, and the same ones in every run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import Phase, settings

from oracle import model
from tests.equivalence.machine import CounterMachine, explore, machine_on
from tests.harness.profiles import EXAMPLES
from tests.harness.side_by_side import Fate, Network, SideBySide, fake_backend
from tests.oracle.reached import EVERYTHING, reached

REFUSED = {f"{name} is refused" for name in ("inc", "set_on_instance", "delete_on_instance")}
"""By R2, which needs counts at the end of the range. (A `set` and a `delete` always fit, and a `get`
is refused with the total that it would return.)"""

FAILURES = {model.UNKNOWN, model.NOT_EXECUTED, model.REFUSED}

OUTCOMES = {f"{name}: {what}" for name in model.OPERATIONS for what in ("a result", *FAILURES)}
"""Of the calls, whatever the server did with them."""


def _watched(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, see: Callable[..., Any]) -> None:
    """`see` gets the method's result and arguments, before and after the method runs."""
    method = getattr(owner, name)
    def watching(*args: Any, **options: Any) -> Any:
        return see(method, *args, **options)
    monkeypatch.setattr(owner, name, watching)
