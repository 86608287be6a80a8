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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

from tests.harness.servers import find_binaries
from tests.mutation.mutants import Mutant
from tests.mutation.tests_for import PLANTED, STAGES, Stage, place_of

LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".hypothesis", ".*_cache", "__pycache__", "target", "site", ".oracle"
)
"""What a copy of the tree does without."""

FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.M)
"""How pytest's summary names a test. Parameters may have spaces in them."""

SLOWER, LEAST_S = 4, 30
"""A stage may take so many times as long as without a mutant, and so many seconds more."""

T = TypeVar("T")

SURVIVED, KILLED, HUNG = "survived", "killed", "hung"


class Verdict(NamedTuple):
    """What became of a mutant: `SURVIVED`, `KILLED` or `HUNG`; by which test; how many seconds."""

    mutant: Mutant
    fate: str
    by: str
    seconds: float


def run_all(mutants: Sequence[Mutant], root: Path, folder: Path, jobs: int) -> Iterator[Verdict]:
    """Run them, and return what becomes of each, in their order.

    Each stage runs first without a mutant, which says how long it takes. A mutant hangs if it takes
    several times as long.

    Args:
        mutants: what to run.
        root: the tree.
        folder: where the copies go; they are removed afterwards.
        jobs: how many run at once.

    Raises:
        AssertionError: a stage fails without a mutant.
    """
    copies: SimpleQueue[Path] = SimpleQueue()
    for job in range(jobs):
        copies.put(_copy(root, folder / f"tree-{job}"))

    def in_a_copy(work: Callable[[Path], T]) -> T:
        tree = copies.get()
        try:
            return work(tree)
        finally:
            copies.put(tree)

    with ThreadPoolExecutor(jobs) as threads:
        stages = {stage for mutant in mutants for stage in STAGES[place_of(mutant.path)]}
        times = threads.map(lambda stage: (stage, in_a_copy(partial(time_of, stage))), stages)
        limits = {stage: LEAST_S + SLOWER * seconds for stage, seconds in times}
        yield from threads.map(lambda one: in_a_copy(partial(run_one, one, limits=limits)), mutants)


def time_of(stage: Stage, tree: Path) -> float:
    """How long a stage takes without a mutant, in seconds. AssertionError: a test fails."""
    began = time.perf_counter()
    fate, by = _run_stage(stage, tree, None)
    assert fate == SURVIVED, f"without a mutant, {by} fails"
    return time.perf_counter() - began


def run_one(mutant: Mutant, tree: Path, limits: Mapping[Stage, float]) -> Verdict:
    """Run one in this tree, which is afterwards as it was. `limits` says how long a stage may
    take, in seconds."""
    began = time.perf_counter()
    with _planted(mutant, tree):
        for stage in STAGES[place_of(mutant.path)]:
            fate, by = _run_stage(stage, tree, limits[stage])
            if fate != SURVIVED:
                return Verdict(mutant, fate, by, time.perf_counter() - began)
    return Verdict(mutant, SURVIVED, "", time.perf_counter() - began)


def _copy(root: Path, to: Path) -> Path:
    shutil.copytree(root, to, ignore=LEFT_OUT, symlinks=True)
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
    words += ["-k", " and ".join([PLANTED, *_other_servers()])]
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
