"""Runs mutants, several at a time, each in a copy of the tree.

The tests of a mutant run in stages, those that cover its place first, and stop at the first
failure. A mutant that no stage fails on has survived. One that takes too long has been noticed as
well: a test hangs. The stages run in rounds, so that the slow ones come when most verdicts are
known.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import pytest

from tests.mutation.mutants import Mutant
from tests.mutation.reached import Reached, environment_of
from tests.mutation.tests_for import stages_of

NOT_COPIED = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".hypothesis",
    ".*_cache",
    "__pycache__",
    "target",
    "site",
    ".oracle",
    ".mutation",
)
"""What a copy of the tree does without."""

FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.M)
"""How pytest's summary names a test. Parameters may have spaces in them."""

SLOWER, LEAST_S = 10, 120
"""A stage may take so many times as long as without a mutant, and so many seconds more: a machine
that is busy with other things must not look like a mutant that hangs."""

SURVIVED, KILLED, HUNG = "survived", "killed", "hung"
ALIVE = "alive"
"""No stage has failed, and there are more to come."""


class Verdict(NamedTuple):
    """What is known of a mutant.

    Attributes:
        mutant: the mutant.
        fate: `SURVIVED`, `KILLED`, `HUNG` or `ALIVE`.
        by: the test that failed, if any.
        seconds: how long its tests took.
        passed: how many stages did not notice it.
    """

    mutant: Mutant
    fate: str = ALIVE
    by: str = ""
    seconds: float = 0
    passed: int = 0


class Runner:
    """Runs mutants in copies of a tree.

    Args:
        root: the tree.
        folder: where the copies go.
        jobs: how many run at once.
        reached: which tests run which lines.
    """

    def __init__(self, root: Path, folder: Path, jobs: int, reached: Reached) -> None:
        self._jobs, self._reached = jobs, reached
        self._copies = SimpleQueue[Path]()
        for job in range(jobs):
            self._copies.put(copy(root, folder / f"tree-{job}"))
        self._trusted: set[str] = set()
        self._finders: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def run(self, begun: Sequence[Verdict]) -> Iterator[Verdict]:
        """Return what is known of each mutant after each of its stages.

        Args:
            begun: what is known before; those which are not `ALIVE` do not run.
        """
        for verdict in begun:
            self._finders[verdict.mutant.path].update([verdict.by] if verdict.by else [])
        alive = [verdict for verdict in begun if verdict.fate == ALIVE]
        with ThreadPoolExecutor(self._jobs) as threads:
            while alive:
                stage = min(verdict.passed for verdict in alive)
                now = [verdict for verdict in alive if verdict.passed == stage]
                alive = [verdict for verdict in alive if verdict.passed != stage]
                for done in as_completed([threads.submit(self._in_a_copy, each) for each in now]):
                    yield done.result()
                    alive += [done.result()] if done.result().fate == ALIVE else []

    def _in_a_copy(self, known: Verdict) -> Verdict:
        tree = self._copies.get()
        try:
            verdict = self._next_stage(known, tree)
        finally:
            self._copies.put(tree)
        if verdict.fate == KILLED:
            self._finders[known.mutant.path][verdict.by] += 1
        return verdict

    def _next_stage(self, known: Verdict, tree: Path) -> Verdict:
        """Run the next stage of a mutant in this tree, which is afterwards as it was."""
        reached = self._reached
        finders = [test for test, _ in self._finders[known.mutant.path].most_common()]
        stages = stages_of(known.mutant, tree, reached, finders)
        tests = stages[known.passed]
        limit_s = LEAST_S + SLOWER * sum(reached.seconds[test] for test in tests)
        began = time.perf_counter()
        with _planted(known.mutant, tree):
            fate, by = _run_tests(tests, tree, limit_s)
        if fate == KILLED and not self._is_trusted(by, tree):
            fate, by = ALIVE, ""
        seconds, passed = known.seconds + time.perf_counter() - began, known.passed
        if fate == SURVIVED:
            passed += 1
            fate = ALIVE if passed < len(stages) else SURVIVED
        return Verdict(known.mutant, fate, by, seconds, passed)

    def _is_trusted(self, test: str, tree: Path) -> bool:
        """Whether a test passes without a mutant. One that fails is not run again."""
        if test in self._reached.seconds and test not in self._trusted:
            fate, _ = _run_tests([test], tree, LEAST_S + SLOWER * self._reached.seconds[test])
            if fate != SURVIVED:
                self._reached = self._reached.without(test)
                return False
            self._trusted.add(test)
        return True


def copy(root: Path, to: Path) -> Path:
    """Copy a tree, without what is only built from it."""
    shutil.copytree(root, to, ignore=NOT_COPIED, symlinks=True)
    return to


@contextmanager
def _planted(mutant: Mutant, tree: Path) -> Iterator[None]:
    file = tree / mutant.path
    text = file.read_text("utf-8")
    file.write_text(mutant.apply(text), "utf-8")
    try:
        yield
    finally:
        file.write_text(text, "utf-8")


def _run_tests(tests: Sequence[str], tree: Path, limit_s: float) -> tuple[str, str]:
    """What became of the tests: a fate, and the test that failed. A test that the mutant takes
    away, such as one for each row of a table, has not failed."""
    if not tests:
        return SURVIVED, ""
    status, said = _pytest([*tests, "-x"], tree, limit_s)
    if status is None:
        return HUNG, ""
    if status == pytest.ExitCode.OK:
        return SURVIVED, ""
    if status == pytest.ExitCode.USAGE_ERROR and "ERROR: not found:" in said:
        files = sorted({test.partition("::")[0] for test in tests})
        there = set(_pytest([*files, "--collect-only"], tree, limit_s)[1].splitlines())
        left = [test for test in tests if test in there]
        if len(left) < len(tests):
            return _run_tests(left, tree, limit_s)
    failed = FAILED.search(said)
    return KILLED, failed[1] if failed else said[-200:]


def _pytest(words: Sequence[str], tree: Path, limit_s: float) -> tuple[int | None, str]:
    """The exit status of pytest, None if it takes too long, and what it said."""
    names = tree.with_suffix(".txt")
    names.write_text("\n".join(words), "utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"@{names}"],
        cwd=tree,
        env=environment_of(tree),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, ""
    return process.returncode, said
