"""Runs mutants, several at a time, each in a copy of the tree.

The tests of a mutant run in stages, those that cover its place first, and stop at the first
failure. A mutant that no stage fails on has survived. One that takes too long has been noticed as
well: a test hangs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import NamedTuple

from tests.harness.servers import find_binaries
from tests.mutation.mutants import Mutant
from tests.mutation.tests_for import LEFT_OUT, Stage, stages_of

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".hypothesis", ".*_cache", "__pycache__", "target", "site", ".oracle"
)
"""What a copy of the tree does without."""

FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.M)
"""How pytest's summary names a test. Parameters may have spaces in them."""

SLOWER, LEAST_S = 4, 30
"""A stage may take so many times as long as without a mutant, and so many seconds more."""

SURVIVED, KILLED, HUNG = "survived", "killed", "hung"


class Verdict(NamedTuple):
    """What became of a mutant: `SURVIVED`, `KILLED` or `HUNG`; by which test; how many seconds."""

    mutant: Mutant
    fate: str
    by: str
    seconds: float


class Limits:
    """How long each stage may take, in seconds. A stage runs without a mutant when it is first
    needed, which says how long it takes."""

    def __init__(self) -> None:
        self._locks: defaultdict[Stage, Lock] = defaultdict(Lock)
        self._known: dict[Stage, float] = {}

    def of(self, stage: Stage, tree: Path) -> float:
        """`tree` has no mutant. AssertionError: a test fails in it."""
        with self._locks[stage]:
            if stage not in self._known:
                began = time.perf_counter()
                fate, by = _run_stage(stage, tree, None)
                assert fate == SURVIVED, f"without a mutant, {by} fails"
                self._known[stage] = LEAST_S + SLOWER * (time.perf_counter() - began)
            return self._known[stage]


def run_all(mutants: Sequence[Mutant], root: Path, folder: Path, jobs: int) -> Iterator[Verdict]:
    """Run them, and return what becomes of each, as soon as it is known.

    Args:
        mutants: what to run.
        root: the tree.
        folder: where the copies go; they are removed afterwards.
        jobs: how many run at once.

    Raises:
        AssertionError: a stage fails without a mutant.
    """
    limits, copies = Limits(), SimpleQueue[Path]()
    for job in range(jobs):
        copies.put(_copy(root, folder / f"tree-{job}"))

    def in_a_copy(mutant: Mutant) -> Verdict:
        tree = copies.get()
        try:
            return run_one(mutant, tree, limits)
        finally:
            copies.put(tree)

    with ThreadPoolExecutor(jobs) as threads:
        for done in as_completed([threads.submit(in_a_copy, mutant) for mutant in mutants]):
            yield done.result()


def run_one(mutant: Mutant, tree: Path, limits: Limits) -> Verdict:
    """Run one in this tree, which is afterwards as it was."""
    began = time.perf_counter()
    for stage in stages_of(mutant.path):
        limit_s = limits.of(stage, tree)
        with _planted(mutant, tree):
            fate, by = _run_stage(stage, tree, limit_s)
        if fate != SURVIVED:
            return Verdict(mutant, fate, by, time.perf_counter() - began)
    return Verdict(mutant, SURVIVED, "", time.perf_counter() - began)


def _copy(root: Path, to: Path) -> Path:
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


def _run_stage(stage: Stage, tree: Path, limit_s: float | None) -> tuple[str, str]:
    """What became of the tests: a fate, and the test that failed."""
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    words += ["-k", " and ".join([LEFT_OUT, *_other_servers()])]
    words += [*stage.tests, *(f"--ignore={path}" for path in stage.but)]
    environment = os.environ | {
        "HYPOTHESIS_PROFILE": "quick",
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.Popen(
        words,
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = done.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(done.pid, signal.SIGKILL)
        done.communicate()
        return HUNG, ""
    if not done.returncode:
        return SURVIVED, ""
    failed = FAILED.search(said)
    return KILLED, failed[1] if failed else said[-200:]


def _other_servers() -> list[str]:
    """Without the tests on real servers but the newest, which would run the same again."""
    return [f"not {binary.name}" for binary in find_binaries().binaries[:-1]]
