"""`python -m oracle explore`: what it prints and writes, and its exit status."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oracle.check.call_kinds import KINDS
from oracle.check.trace import decode_trace
from oracle.cli.main import main


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, ["explore", *words])


def test_a_world_without_faults_is_explored_to_the_end(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    result = _run("--operations", "1", "--ticks", "1", "--summary", str(summary))
    assert result.exit_code == 0
    assert "nothing was found, to the end" in result.stdout
    assert "python -m oracle explore --operations 1 --ticks 1" in result.stdout
    assert summary.read_text("utf-8") == result.stdout


def test_the_trace_to_a_violation_is_told_and_saved(tmp_path: Path) -> None:
    name, saved = "an instance's older epoch replaces the counter's", tmp_path / "trace.jsonl"
    result = _run("--protocol", name, "--trace", str(saved))
    assert result.exit_code == 1
    assert "R6, the epoch of a counter never decreases" in result.stdout
    assert "  1. A calls" in result.stdout
    trace = decode_trace(saved.read_text("utf-8").splitlines())
    assert trace.protocol == name
    assert trace.violation in result.stdout


def test_several_processes_find_the_same() -> None:
    alone = _run("--protocol", "a late copy of a request runs")
    result = _run("--protocol", "a late copy of a request runs", "--processes", "2")
    assert result.exit_code == alone.exit_code == 1
    assert _trace_of(result) == _trace_of(alone)
    assert _run("--give-ups", "1", "--processes", "2").exit_code == 0


def _trace_of(result: Result) -> list[str]:
    """What happens, without the name of the instance."""
    lines = result.stdout.splitlines()
    return [line.split()[1] for line in lines if line[:3].strip().isdigit()]


@pytest.mark.parametrize("budget", ["1000", "1s"])
def test_a_budget_that_ends_is_reported(budget: str) -> None:
    result = _run("--ticks", "3", "--crashes", "1", "--budget", budget)
    assert result.exit_code == 3
    assert "nothing was found, until it was stopped" in result.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--budget", "soon"), "neither a number of states (2000000) nor of seconds (90s)"),
        (("--budget", "0"), "neither a number of states"),
        (("--kinds", "inc,multiply,x"), "multiply, x: no such operation; there are get, inc"),
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


def test_a_system_without_the_module_resource_can_explore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none: only the use of memory is then unknown."""
    monkeypatch.setitem(sys.modules, "resource", None)
    result = _run("--operations", "1", "--kinds", "get")
    assert result.exit_code == 0
    assert "| most memory of a process | unknown |" in result.stdout


def test_every_operation_can_be_named() -> None:
    result = _run(
        "--operations",
        "1",
        "--kinds",
        ",".join([*(kind.name for kind in KINDS), "set_if_then_get"]),
    )
    assert result.exit_code == 0


def test_a_world_is_added_to_a_manifest_and_replaced_there(tmp_path: Path) -> None:
    manifest = tmp_path / "explored.json"
    for ticks in ("0", "1", "0"):
        words = ("--operations", "1", "--kinds", "get", "--ticks", ticks)
        assert _run(*words, "--manifest", str(manifest)).exit_code == 0
    still, moving = json.loads(manifest.read_text("utf-8"))["worlds"]
    assert still["bounds"]["ticks"] == 0
    assert moving["bounds"]["ticks"] == 1
    assert moving["command"] == "python -m oracle explore --operations 1 --kinds get --ticks 1"
    assert moving["finished"] is True
    assert moving["found"] == ""


def test_an_exploration_that_did_not_end_says_so_in_the_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "explored.json"
    result = _run("--ticks", "3", "--budget", "1000", "--manifest", str(manifest))
    assert result.exit_code == 3
    (world,) = json.loads(manifest.read_text("utf-8"))["worlds"]
    assert world["finished"] is False
    assert world["command"].endswith("--ticks 3 --budget 1000")


@pytest.mark.parametrize(
    ("held", "complaint"),
    [("[]", 'needs "worlds": a list'), ('{"worlds": [1]}', "of objects"), ("{", "is not JSON")],
)
def test_a_file_that_is_no_manifest_is_left_alone(
    tmp_path: Path, held: str, complaint: str
) -> None:
    manifest = tmp_path / "explored.json"
    manifest.write_text(held, "utf-8")
    result = _run("--operations", "1", "--manifest", str(manifest))
    assert result.exit_code == 2
    assert complaint in result.output
    assert manifest.read_text("utf-8") == held


@pytest.mark.parametrize(
    "words",
    [
        ("--protocol", "a late copy of a request runs"),
        ("--processes", "2"),
        ("--no-symmetry",),
    ],
    ids=lambda words: words[0],
)
def test_a_manifest_counts_only_the_states_of_the_right_protocol(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    manifest = tmp_path / "explored.json"
    result = _run(*words, "--manifest", str(manifest))
    assert result.exit_code == 2
    assert "does not go with" in " ".join(result.output.split())
    assert not manifest.exists()
