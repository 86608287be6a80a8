"""One exploration on several cores: a world in parts, each explored by a process of its own.

The parts are the world's histories by their first operation: together they are all of them, and no
part needs to know of another. A state that histories of several parts lead to is counted in each:
so the counts that `spec/SPEC.md` gives are of one process. The shortest violation of all is the
shortest of any part's: a part goes on until it is as deep as the best that was found elsewhere.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from oracle.check.fast.search import Budget, Found, Over, Progress, explore
from oracle.check.world import Bounds, Protocol


def parts_of(bounds: Bounds) -> list[Bounds]:
    """The world by its first operation that is not given yet."""
    return [bounds._replace(first=(*bounds.first, kind)) for kind in bounds.kinds]


def explore_in_parts(
    bounds: Bounds,
    protocol: Protocol,
    processes: int,
    *,
    symmetry: bool = True,
    budget: Budget,
    progress: Callable[[Progress], None],
) -> Found:
    """As `explore`, on several cores. The states of the parts are added up."""
    began = time.perf_counter()
    parts = parts_of(bounds)
    with multiprocessing.Manager() as manager:
        shared = manager.dict()  # each part's last Progress; under -1 the best depth
        with ProcessPoolExecutor(
            processes, mp_context=multiprocessing.get_context("spawn")
        ) as pool:
            running = {
                pool.submit(_explore_part, number, part, protocol, symmetry, budget, shared)
                for number, part in enumerate(parts)
            }
            found = []
            while running:
                done = {future for future in running if future.done()}
                found += [future.result() for future in done]
                running -= done
                progress(_summed(dict(shared), began))
                time.sleep(0.2 if running else 0)
    return _together(found, time.perf_counter() - began)


def _explore_part(
    number: int, bounds: Bounds, protocol: Protocol, symmetry: bool, budget: Budget, shared: Any
) -> Found:
    began = time.perf_counter()

    def report(progress: Progress) -> None:
        shared[number] = progress
        others = dict(shared)
        if others.get(-1, progress.depth + 1) <= progress.depth:
            raise Over
        if _summed(others, began).states > budget.states:
            raise Over

    found = explore(bounds, protocol, symmetry=symmetry, budget=budget, progress=report)
    shared[number] = Progress(found.states, 0, found.depth, found.seconds)
    if found.violation:
        shared[-1] = min(len(found.trace), shared.get(-1, len(found.trace)))
    return found


def _summed(shared: dict[int, Any], began: float) -> Progress:
    running = [progress for number, progress in shared.items() if number >= 0]
    return Progress(
        sum(progress.states for progress in running),
        sum(progress.frontier for progress in running),
        max((progress.depth for progress in running), default=0),
        time.perf_counter() - began,
    )


def _together(found: list[Found], seconds: float) -> Found:
    broken = [each for each in found if each.violation]
    best = min(broken, key=lambda each: len(each.trace), default=None)
    return Found(
        sum(each.states for each in found),
        sum(each.worlds for each in found),
        sum(each.transitions for each in found),
        max(each.depth for each in found),
        seconds,
        all(each.complete for each in found),
        best.violation if best else "",
        best.trace if best else (),
    )
