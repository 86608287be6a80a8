"""Tools that read signatures see what the counters really are: no Any, no hidden coroutine."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import pytest

import distkit
import distkit.asyncio
from distkit import AsyncCounter, Counter, CounterState

SYNC, ASYNC = distkit.StrictInstanceAwareCounter, distkit.asyncio.StrictInstanceAwareCounter


def _methods(of: type) -> dict[str, Any]:
    return {n: m for n, m in vars(of).items() if inspect.isfunction(m) and not n.startswith("_")}


OPERATIONS = _methods(SYNC)
HOLDING = {"held", "limit"}
"""They return something to enter or to await, of a class for threads or for tasks."""

BESIDES = {"inspect"}
"""Methods of both counters that a stand-in need not have."""


def test_both_counters_have_the_same_operations_with_the_same_signatures() -> None:
    assert len(OPERATIONS.keys() - BESIDES) == 22
    for other in (ASYNC, Counter, AsyncCounter):
        besides = BESIDES if other is ASYNC else set()
        assert _methods(other).keys() == OPERATIONS.keys() - BESIDES | besides
        for name, method in _methods(other).items():
            if name == "held" and other is not ASYNC:
                continue  # an overload: its implementation is not the protocol's
            mine, its = inspect.signature(OPERATIONS[name]), inspect.signature(method)
            assert list(mine.parameters.values()) == list(its.parameters.values()), name
    for name in OPERATIONS.keys() - HOLDING:
        method = _methods(ASYNC)[name]
        assert (
            inspect.signature(method).return_annotation
            == inspect.signature(OPERATIONS[name]).return_annotation
        )


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_what_it_seems(name: str) -> None:
    assert not inspect.iscoroutinefunction(getattr(SYNC, name))
    assert inspect.iscoroutinefunction(getattr(ASYNC, name)) == (name not in HOLDING)
    for counter in (SYNC, ASYNC):
        assert vars(counter)[name].__doc__, "a docstring of its own"


def test_help_shows_real_types() -> None:
    plain: Any = pydoc  # typeshed does not know its `plaintext`
    for counter in (SYNC, ASYNC):
        shown = pydoc.render_doc(counter, renderer=plain.plaintext)
        assert "inc(self, key: 'str', count: 'int' = 1) -> 'CounterState'" in shown
        assert not re.search(r"\w+T\b", shown.partition("Methods inherited")[0]), "type variables"


def test_a_mock_of_the_asyncio_counter_can_be_awaited() -> None:
    mock = create_autospec(ASYNC, instance=True)
    assert isinstance(mock.inc, AsyncMock)
    mock.inc.return_value = CounterState(3, 1)
    assert asyncio.run(mock.inc("k")) == (3, 1)
    with pytest.raises(TypeError):
        mock.inc()
    assert create_autospec(SYNC, instance=True).inc("k") is not None


def test_the_version_is_the_distributions() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", distkit.__version__)


USES = """
import distkit, distkit.asyncio
from distkit import AsyncCounter, Counter

def sync(counter: distkit.StrictInstanceAwareCounter, update: list[tuple[str, int]]) -> None:
    with counter as alive:
        reveal_type(alive)
        reveal_type(alive.inc("k"))
        reveal_type(alive.inc_if("k", distkit.lt(1)).applied)
        reveal_type(alive.inc_all(update))
    generic: Counter = counter
    total, own = generic.inc("k")

async def tasks(counter: distkit.asyncio.StrictInstanceAwareCounter) -> None:
    async with counter as alive:
        reveal_type(alive)
        reveal_type(await alive.get("k"))
        new, old = await alive.set_if("k", distkit.always(), 1)
        reveal_type(new)
    generic: AsyncCounter = counter
    total, own = await generic.inc("k")
"""
SEEN = ["StrictInstanceAwareCounter", "CounterState", "bool", "list[CounterState]"]
SEEN += ["StrictInstanceAwareCounter", "CounterState", "CounterState"]


def _pyright(*args: str) -> Any:
    """It finds packages by the first `python` on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", *args],
        capture_output=True,
        text=True,
        timeout=250,
        env=os.environ | {"PATH": path},
    )
    return json.loads(done.stdout[done.stdout.index("{") :])


needs_pyright = pytest.mark.usefixtures("pyright_runs")


@pytest.fixture(scope="module")
def pyright_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--version"], capture_output=True, text=True, timeout=250
    )
    if done.returncode:
        pytest.skip(f"pyright does not run here: {done.stderr.strip()[-200:]}")


@needs_pyright
def test_pyright_knows_the_type_of_everything_exported() -> None:
    report = _pyright("--ignoreexternal", "--verifytypes", "distkit")["typeCompleteness"]
    assert report["completenessScore"] == 1.0, [
        symbol["name"] for symbol in report["symbols"] if not symbol["isTypeKnown"]
    ]


@needs_pyright
def test_pyright_sees_real_results(tmp_path: Path) -> None:
    ast.parse(USES)
    program = tmp_path / "uses.py"
    program.write_text(USES)
    said = _pyright(str(program))["generalDiagnostics"]
    assert [d["message"] for d in said if d["severity"] == "error"] == []
    types = [re.findall(r'is "(.*)"$', d["message"])[0] for d in said]
    assert types == SEEN
