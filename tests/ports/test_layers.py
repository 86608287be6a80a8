"""How a port is played: what it is asked, in which time, and that it is ended politely."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from oracle.conform import lines
from oracle.conform.draw import REAL_TIME_THRESHOLD_MS, Drawing, draw
from oracle.conform.judge import judge
from oracle.conform.layers import LAYERS, Plan, conform, systematic
from oracle.conform.lines import OPERATIONS, Capabilities
from oracle.conform.process import Port, Process


def test_a_port_that_is_ended_politely_sees_the_end_of_its_input(tmp_path: Path) -> None:
    """So that it can close its connections; `at_once` does not wait for that."""
    farewell = (
        "import json, pathlib, sys\n"
        "sys.stdin.readline()\n"
        "print(json.dumps({'protocol': 1, 'port': 'polite', 'clock': 'real',\n"
        "                  'instances': 'many', 'operations': ['get']}), flush=True)\n"
        "assert sys.stdin.read() == ''\n"
        "pathlib.Path(sys.argv[1]).write_text('closed')\n"
    )
    said = tmp_path / "said"
    process = Process([sys.executable, "-c", farewell, str(said)], 20)
    process.end(at_once=False)
    assert said.read_text() == "closed"


def test_of_what_a_port_names_only_what_the_protocol_knows_is_asked_of_it() -> None:
    hello = {
        "protocol": 1, "port": "new", "clock": "virtual", "instances": "one",
        "operations": ["get", "multiply"], "faults": ["empty", "fire"],
        "features": ["applied", "colour"],
    }  # fmt: skip
    known = lines.capabilities(hello)
    assert known.operations == {"get"}
    assert known.faults == {"empty"}
    assert known.features == {"applied"}


@pytest.mark.parametrize(
    ("virtual", "asked", "found"),
    [(True, 0, None), (True, 700, 700), (False, 0, REAL_TIME_THRESHOLD_MS), (False, 700, 700)],
)
def test_histories_are_played_in_the_time_that_the_port_has(
    virtual: bool, asked: int, found: int | None
) -> None:
    """A port with a clock of its own would take half a minute for each silence."""
    layer = next(layer for layer in LAYERS if layer.name == "matrix")
    port = Capabilities("", virtual, True, frozenset(OPERATIONS), frozenset(), frozenset())
    given = systematic(layer, Plan(threshold_ms=asked), port)
    written = layer.systematic() if layer.systematic else ()
    expected = {found} if found else {history.threshold_ms for history in written}
    assert {history.threshold_ms for history in given} == expected


def test_each_history_is_announced_before_it_is_played() -> None:
    seen: list[tuple[str, int, int]] = []
    port = Port([sys.executable, "-m", "tests.ports.oracle_port"], 20)
    plan = Plan(("random",), (), 5, steps=5)
    try:
        report = conform(port, plan, lambda layer, at, many, _: seen.append((layer, at, many)))
    finally:
        port.end()
    assert seen == [("random", at, len(seen)) for at in range(len(seen))]
    assert len(seen) == report.layers[0].played > 0


@pytest.mark.parametrize("can", [{"get"}, {"inc", "get"}, {"set", "inc_if"}, {"inc", "heartbeat"}])
@pytest.mark.parametrize("layer", ["random", "faults"])
def test_what_is_drawn_for_a_port_is_what_it_can(layer: str, can: set[str]) -> None:
    port = Capabilities("", True, True, frozenset(can), frozenset({"empty"}), frozenset())
    asked: set[str] = set()
    for number in range(25):
        drawn = draw(Drawing(layer, 1), number, port)
        asked |= {line["op"] for line in drawn.history.lines}
        assert list(drawn.right) == judge(drawn.history)
    assert asked - {"die", "empty"} == can
