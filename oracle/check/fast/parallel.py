"""One exploration on several cores: the world is divided, and each process explores one share.

A share is all histories that begin with one kind of call. Together they are all histories, and no
process needs to know of another. But a state that histories of several shares lead to is counted in
each of them, so the counts in `spec/explored.json` come from one process.

The shortest trace to a violation is the shortest that any process finds: a process goes on until it
is as deep as the best trace that was found elsewhere.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

from oracle.check.fast.search import (
    BudgetEnded,
    Exploration,
    Options,
    Progress,
    explore,
    no_progress,
)
from oracle.check.state import Bounds, Protocol

BEST = -1
"""Among what the processes share: the length of the shortest trace so far."""


def divide(bounds: Bounds) -> list[Bounds]:
    """The shares of a world: by the kind of the first call whose kind is not given yet."""
    return [bounds._replace(first=(*bounds.first, kind)) for kind in bounds.kinds]


def explore_in_parallel(
    bounds: Bounds, protocol: Protocol, options: Options, processes: int
) -> Exploration:
    """As `explore`, in this many processes. The counts are the sums over the shares."""
    began = time.perf_counter()
    quiet = replace(options, progress=no_progress)  # a function of this process cannot be sent
    with multiprocessing.Manager() as manager:
        shared = manager.dict()  # the last Progress of each share; the best trace under BEST
        with ProcessPoolExecutor(
            processes, mp_context=multiprocessing.get_context("spawn")
        ) as pool:
            running = {
                pool.submit(_explore_share, number, share, protocol, quiet, shared)
                for number, share in enumerate(divide(bounds))
            }
            found = []
            while running:
                done = {future for future in running if future.done()}
                found += [future.result() for future in done]
                running -= done
                options.progress(_sum(dict(shared), began))
                time.sleep(0.2 if running else 0)
    return _merge(found, time.perf_counter() - began)


def _explore_share(
    number: int, bounds: Bounds, protocol: Protocol, options: Options, shared: Any
) -> Exploration:
    began = time.perf_counter()

    def report(progress: Progress) -> None:
        shared[number] = progress
        others = dict(shared)
        if others.get(BEST, progress.depth + 1) <= progress.depth:
            raise BudgetEnded
        if _sum(others, began).states > options.budget.states:
            raise BudgetEnded

    found = explore(bounds, protocol, replace(options, progress=report))
    shared[number] = Progress(found.states, 0, found.depth, found.seconds)
    if found.violation:
        shared[BEST] = min(len(found.trace), shared.get(BEST, len(found.trace)))
    return found


def _sum(shared: dict[int, Any], began: float) -> Progress:
    running = [progress for number, progress in shared.items() if number != BEST]
    return Progress(
        sum(progress.states for progress in running),
        sum(progress.frontier for progress in running),
        max((progress.depth for progress in running), default=0),
        time.perf_counter() - began,
    )


def _merge(found: list[Exploration], seconds: float) -> Exploration:
    violated = [each for each in found if each.violation]
    best = min(violated, key=lambda each: len(each.trace), default=None)
    return Exploration(
        sum(each.states for each in found),
        sum(each.states_before_symmetry for each in found),
        sum(each.transitions for each in found),
        max(each.depth for each in found),
        seconds,
        all(each.finished for each in found),
        best.violation if best else "",
        best.trace if best else (),
    )
