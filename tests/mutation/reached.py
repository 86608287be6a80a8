"""Which tests run which lines, and how long each takes: what decides the tests of a mutant.

The whole suite runs once without a mutant, under coverage, with the profile `mutants` and on one
real server. This module is the plugin that records, and reads what was recorded. Tests that fail in
this run are left out: they could tell nothing of a mutant.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from coverage import Coverage, CoverageData

from tests.harness.servers import find_binaries

LEFT_OUT = "(test_defects or not defect) and not mutant and not no_outage_leaks_a_slot"
"""Without the tests that plant defects of their own: a mutant can take away the place for one. And
without those that crash a server again and again in real time: on a loaded machine they fail."""

NOT_RUN = ("tests/docs", "tests/packaging", "tests/mutation", "tests/chaos")
"""What tests the pages and the tools."""

UNTRACED = {
    "tests/oracle/test_explore.py": "oracle/",
    "tests/oracle/test_reductions.py": "oracle/",
    "tests/oracle/test_relaxed.py": "oracle/",
}
"""Tests that visit so many states that tracing would take too long. They are assumed to run every
line in these folders that any test runs."""

FOLDER, TEST = "REACHED_IN", "REACHED_BY"
"""Variables of the environment: where the records go, and the test that runs."""


class Reached(NamedTuple):
    """What was recorded.

    Attributes:
        seconds: how long each test took that passed, by its id.
        tests: the tests that run a line, by file and line.
    """

    seconds: dict[str, float]
    tests: dict[str, dict[int, set[str]]]

    def knowing(self, collected: Iterable[str]) -> Reached:
        """The same, and of the tests that were collected those that are new since: they may run any
        line, and come first."""
        new = {test: 0.0 for test in collected if test not in self.seconds}
        tests = {
            path: {line: running | new.keys() for line, running in by_line.items()}
            for path, by_line in self.tests.items()
        }
        return Reached(self.seconds | new, tests)

    def without(self, test: str) -> Reached:
        """The same, but for a test."""
        seconds = {name: took for name, took in self.seconds.items() if name != test}
        tests = {
            path: {line: running - {test} for line, running in by_line.items()}
            for path, by_line in self.tests.items()
        }
        return Reached(seconds, tests)

    def of_file(self, path: str) -> set[str]:
        """The tests that run anything of a file."""
        return set().union(*self.tests.get(path, {}).values())

    def of(self, path: str, lines: Sequence[int]) -> set[str]:
        """The tests that run one of these lines; if none does, those that run anything of the file:
        the line may be run when the file is imported."""
        by_line = self.tests.get(path, {})
        return set().union(*(by_line.get(line, set()) for line in lines)) or self.of_file(path)


def record(tree: Path, folder: Path, jobs: int) -> None:
    """Run the suite of `tree`, and record into `folder`, which is new."""
    folder.mkdir(parents=True)
    rc = folder / "coveragerc"
    rc.write_text(
        f"[run]\nsource =\n    {tree / 'distkit'}\n    {tree / 'oracle'}\nparallel = true\n"
        f"data_file = {folder / 'lines'}\ncontext = ${{{TEST}-}}\ncore = ctrace\nsigterm = true\n"
        "disable_warnings = no-data-collected,trace-changed,module-not-imported\n"
    )
    words = ["-n", str(jobs), "--dist", "worksteal", "-p", "tests.mutation.reached", *selection()]
    environment = environment_of(tree) | {FOLDER: str(folder), "COVERAGE_PROCESS_START": str(rc)}
    with (folder / "pytest.txt").open("w") as said:
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
            cwd=tree, env=environment, stdout=said, stderr=said, check=False,
        )  # fmt: skip
    recorded = Coverage(config_file=str(rc))
    recorded.combine()
    recorded.save()


def selection() -> list[str]:
    """The words for pytest that choose the tests. Of the real servers only the newest is used: the
    others would run the same again."""
    others = [f"not {binary.name}" for binary in find_binaries().binaries[:-1]]
    chosen = ["-k", " and ".join([LEFT_OUT, *others]), "tests"]
    return [*chosen, *(f"--ignore={path}" for path in NOT_RUN)]


def collect(tree: Path) -> list[str]:
    """The tests that the suite of `tree` has now."""
    words = ["-q", "--collect-only", "-p", "no:cacheprovider", *selection()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=tree, env=environment_of(tree), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [line for line in done.stdout.splitlines() if line.startswith("tests/") and "::" in line]


def environment_of(tree: Path) -> dict[str, str]:
    """What the tests of a copy run with."""
    return os.environ | {
        "HYPOTHESIS_PROFILE": "mutants",
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def read(tree: Path, folder: Path) -> Reached:
    """What was recorded of `tree`."""
    seconds, failed, untraced = dict[str, float](), set[str](), set[str]()
    for file in folder.glob("tests-*.jsonl"):
        for said in file.read_text("utf-8").splitlines():
            test, took, passed, traced = json.loads(said)
            seconds[test] = took
            failed |= set() if passed else {test}
            untraced |= set() if traced else {test}
    for test in failed:
        del seconds[test]
    lines, data = defaultdict[str, dict[int, set[str]]](dict), CoverageData(str(folder / "lines"))
    data.read()
    for name in data.measured_files():
        path = Path(name).relative_to(tree).as_posix()
        for line, contexts in data.contexts_by_lineno(name).items():
            lines[path][line] = {test for test in contexts if test in seconds}
    for path, by_line in lines.items():
        everywhere = untraced & set().union(*by_line.values())
        everywhere |= {test for test in seconds if path.startswith(_untraced(test))}
        for tests in by_line.values():
            tests |= everywhere
    return Reached(seconds, dict(lines))


def _untraced(test: str) -> tuple[str, ...]:
    return tuple(folder for file, folder in UNTRACED.items() if test.startswith(file))


# --- The plugin ----------------------------------------------------------------------------------

_recording: list[Coverage] = []


def pytest_configure() -> None:
    """Record in this process, if `record` has started it."""
    if FOLDER in os.environ:
        _recording.append(Coverage(config_file=os.environ["COVERAGE_PROCESS_START"]))
        _recording[0].start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Say which test runs, here and to the processes that it starts, and how long it takes."""
    (recording,) = _recording
    recording.stop()
    if not _untraced(item.nodeid):
        recording.start()
        recording.switch_context(item.nodeid)
    os.environ[TEST] = item.nodeid
    failures, began = item.session.testsfailed, time.perf_counter()
    try:
        return (yield)
    finally:
        del os.environ[TEST]
        took, passed = time.perf_counter() - began, item.session.testsfailed == failures
        # A test that traces, such as one of interrupts, ends the recording.
        said = json.dumps((item.nodeid, took, passed, sys.gettrace() is not None))
        with Path(os.environ[FOLDER], f"tests-{os.getpid()}.jsonl").open("a") as file:
            file.write(said + "\n")


def pytest_unconfigure() -> None:
    """Keep the lines."""
    for recording in _recording:
        recording.stop()
        recording.save()
