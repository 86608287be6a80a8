"""`python -m oracle explore`: what it prints, what it writes, and how it exits."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oracle.cli.main import main
from oracle.check.trace import read_trace
from oracle.check.world import KINDS


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, ["explore", *words])


def test_a_world_without_faults_is_explored_to_the_end(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    result = _run("--operations", "1", "--ticks", "1", "--summary", str(summary))
    assert result.exit_code == 0
    assert "nothing was found, to the end" in result.stdout
    assert "python -m oracle explore --operations 1 --ticks 1" in result.stdout
    assert summary.read_text("utf-8") == result.stdout


def test_a_violation_is_told_and_saved(tmp_path: Path) -> None:
    name, saved = "the owner's epoch wins", tmp_path / "trace.jsonl"
    result = _run("--protocol", name, "--trace", str(saved))
    assert result.exit_code == 1
    assert "R6, an epoch never shrinks" in result.stdout
    assert "  1. A calls" in result.stdout
    trace = read_trace(saved.read_text("utf-8").splitlines())
    assert trace.protocol == name
    assert trace.violation in result.stdout


def test_several_processes_find_the_same() -> None:
    alone = _run("--protocol", "a late copy runs")
    result = _run("--protocol", "a late copy runs", "--processes", "2")
    assert result.exit_code == alone.exit_code == 1
    assert _trace_of(result) == _trace_of(alone)
    assert _run("--give-ups", "1", "--processes", "2").exit_code == 0


def _trace_of(result: Result) -> list[str]:
    """What happens, without who it happens to."""
    lines = result.stdout.splitlines()
    return [line.split()[1] for line in lines if line[:3].strip().isdigit()]


@pytest.mark.parametrize("budget", ["1000", "1s"])
def test_a_budget_that_ends_is_told(budget: str) -> None:
    result = _run("--ticks", "3", "--crashes", "1", "--budget", budget)
    assert result.exit_code == 3
    assert "nothing was found, until it was stopped" in result.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--budget", "soon"), "neither a number of states (2000000) nor of seconds (90s)"),
        (("--budget", "0"), "neither a number of states"),
        (("--kinds", "inc,multiply"), f"multiply: no such operation; there are {'get, inc'}"),
        (("--kinds", "inc_then_leave"), "and two steps of one call, such as inc_then_set"),
        (("--instances", "0"), "0 is not in the range"),
        (("--instances", "8", "--joins", "1"), "at most 8 instances in all"),
        (("--protocol", "none"), "'none' is not one of 'right'"),
    ],
)
def test_wrong_usage_is_explained(words: tuple[str, ...], complaint: str) -> None:
    result = _run(*words)
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.split())


def test_every_operation_can_be_named() -> None:
    result = _run("--operations", "1", "--kinds", ",".join([*KINDS, "set_if_then_get"]))
    assert result.exit_code == 0
