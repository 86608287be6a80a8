"""The suite finds every defect that is planted in a port, and shrinks it to a few steps.

The defects are the variants of the oracle, each of which is a port (tests/ports/oracle_port.py).
The nightly run plays the whole suite at its defaults against each. `make test` plays the layer that
finds it against some of them, and looks for all of them in process, where it is quicker.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from oracle.conform import batches, faults, matrix
from oracle.conform.draw import Drawing, draw
from oracle.conform.judge import judge
from oracle.conform.layers import LAYERS, Layer, Plan, conform, systematic
from oracle.conform.lines import FAULTS, FEATURES, OPERATIONS, Capabilities, Line, same
from oracle.conform.play import Differs
from oracle.conform.process import Port
from oracle.conform.shipped import VECTORS
from oracle.conform.traces import History, read_trace, without_answers
from oracle.conform.variants import VARIANTS
from tests.harness.profiles import is_nightly

EVERYTHING = Capabilities(
    "", True, True, frozenset(OPERATIONS), frozenset(FAULTS), frozenset(FEATURES)
)

QUICK = {
    "lt means less than or equal": "vectors",
    "a key may contain a colon": "vectors",
    "an instance is dead 1 ms too late": "vectors",
    "leaving keeps the session": "vectors",
    "totals are added up as doubles": "matrix",
    "of a bad key and a bad count the count is reported": "matrix",
    "only the first 100 slices are restored": "vectors",
    "without a session, leaving does not forget the counts": "faults",
    "acked is always 0, so that lost writes are not found": "faults",
    "seq is not raised after late": "faults",
    "two callers at the same time get each other's results": "batches",
    "a refused step of a batch stops the steps after it": "batches",
}
"""Some of the defects, and the layer that finds each."""

MOST_STEPS = 8


def _plan(words: str) -> Plan:
    """The suite at its defaults; or, in `make test`, the layer that is known to find the defect."""
    if is_nightly():
        return Plan(fail_fast=True)
    return Plan((QUICK[words],), tuple(VARIANTS[words].rules.split()), 0, fail_fast=True)


def _port(words: str) -> Port:
    return Port([sys.executable, "-m", "tests.ports.oracle_port", words], 20)


def test_there_are_at_least_40_defects() -> None:
    assert len(VARIANTS) >= 40
    assert QUICK.keys() <= VARIANTS.keys()
    assert set(QUICK.values()) == {layer.name for layer in LAYERS} - {"random"}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("words", VARIANTS if is_nightly() else QUICK)
def test_a_defect_is_found_and_shrunk(words: str) -> None:
    port = _port(words)
    try:
        (failure,) = conform(port, _plan(words)).failures
    finally:
        port.end()
    assert isinstance(failure.error, Differs)
    assert not failure.unsteady
    assert failure.size <= MOST_STEPS, failure.history
    assert set(failure.error.hint.rules) & set(VARIANTS[words].rules.split())


# --- In process ----------------------------------------------------------------------------------

DRAWN = {"random": 400, "faults": 400}
"""How many drawn histories are looked at; at its defaults the suite draws more."""


def _histories() -> Iterator[History]:
    """The suite's histories, those first that find most; without the crowd, which takes long."""
    for path in sorted(VECTORS.glob("*.jsonl")):
        if "crowd" not in path.name:
            yield from map(without_answers, read_trace(path))
    for module in (batches, faults, matrix):
        yield from module.histories()
    for layer, many in DRAWN.items():
        for number in range(many):
            yield draw(Drawing(layer, 1), number, EVERYTHING).history


@pytest.fixture(scope="module")
def answered() -> list[tuple[History, list[Line]]]:
    return [(history, judge(history)) for history in _histories()]


@pytest.mark.parametrize("words", VARIANTS)
def test_a_defect_shows(words: str, answered: list[tuple[History, list[Line]]]) -> None:
    kind = VARIANTS[words].kind
    assert any(
        not all(map(same, history.lines, judge(history, kind), right))
        for history, right in answered
    )


@pytest.mark.parametrize("seed", range(1, 21))
def test_a_wrong_condition_is_found_at_random_with_every_seed(seed: int) -> None:
    """`lt` that means `<=`, within the 200 histories of `verify`."""
    kind = VARIANTS["lt means less than or equal"].kind
    drawing = Drawing(seed=seed)
    drawn = (draw(drawing, number, EVERYTHING) for number in range(200))
    assert any(
        not all(map(same, history.lines, judge(history, kind), right)) for history, right in drawn
    )


def test_the_right_oracle_answers_as_the_drawing_said() -> None:
    for layer in ("random", "faults", "batches"):
        for number in range(20):
            history, right = draw(Drawing(layer, 3), number, EVERYTHING)
            assert judge(history) == list(right)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_every_systematic_history_says_what_it_shows_and_about_which_rules(layer: Layer) -> None:
    for history in systematic(layer, Plan(), EVERYTHING):
        assert history.comment
        assert history.rules or "random" in history.comment
