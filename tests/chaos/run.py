"""Runs faults on real servers, judges what became of the counts, and writes the report.

For each fault: several instances count on a fresh prefix; the fault happens; the servers heal; the
instances stop calling. Then every counter's total must be the sum of the slices that the instances
see, each slice must be in its instance's book, and each reset must be explained (`books`). Where
the fault neither loses anything nor kills anybody, an order of the recorded calls must explain
every answer (`orders`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tests.chaos.clock import Clock
from tests.chaos.faults import Site
from tests.chaos.fleet import NOTHING, Fleet, Observer, Planted
from tests.chaos.orders import Recorded, at_once, check, histories
from tests.chaos.rows import FAULTS, Row
from tests.harness.deployments import Cluster, Deployment, Replicated, Standalone
from tests.harness.servers import Binary

WORKERS: Final = 4
CALM_S: Final = 1.5
"""How long the instances count before the fault, and after it."""

DEPLOYMENTS: Final = {"standalone": Standalone, "sentinel": Replicated, "cluster": Cluster}


class Finding(NamedTuple):
    """What one fault did.

    Attributes:
        row: the fault.
        acknowledged: how many calls were answered with a result.
        violations: what contradicted the books, or does not add up.
        wrong_s: how long a total was answered that was not the sum of the living slices.
        unreachable_s: how long totals were not answered.
        worst_s: the longest call.
        errors: how many calls failed, by class.
        attempts: how often the totals were compared until they added up.
        ordered: how many calls were recorded, so that an order had to explain them.
        at_once: how many of them were under way on one counter at once, at most.
    """

    row: Row
    acknowledged: int
    violations: list[dict[str, Any]]
    wrong_s: float
    unreachable_s: float
    worst_s: float
    errors: dict[str, int]
    attempts: int
    ordered: int
    at_once: int


class Chaos:
    """The deployments of a run; each is started when it is first needed.

    Args:
        binary: which redis-server.
        pace: how long each fault lasts, from 0 to 1.
        planted: a defect to plant.

    Attributes:
        pace: of the next fault.
    """

    def __init__(self, binary: Binary, pace: float = 1.0, planted: Planted = NOTHING) -> None:
        self._binary, self.pace, self._planted = binary, pace, planted
        self.clock = Clock()
        self._deployments: dict[str, Deployment] = {}
        self._number = 0

    def __enter__(self) -> Chaos:
        return self

    def __exit__(self, *_: object) -> None:
        for deployment in self._deployments.values():
            deployment.stop()
        self.clock.close()

    def can(self, row: Row) -> bool:
        """Whether this machine can do the fault."""
        return bool(self.clock.environment) or "clock" not in row.name

    def run(self, row: Row) -> Finding:
        """Let the fault happen, and judge. TimeoutError: the servers did not act as they should."""
        deployment = self._deployment(row.deployment)
        self._number += 1
        deployment.wait()
        fleet = Fleet(
            deployment.address,
            f"chaos-{self._number}",
            WORKERS,
            partitions=row.partitions,
            is_ordered=row.is_ordered,
            planted=self._planted,
        )
        try:
            observer = Observer(fleet)
            observer.start()
            time.sleep(CALM_S * self.pace)
            site = Site(deployment, fleet, self.clock, self.pace)
            row.fault(site)
            deployment.wait()
            time.sleep(CALM_S * self.pace)
            fleet.each("pause")
            observed = observer.stop()
            wrong, attempts = fleet.judge()
            reports = [*fleet.each("report"), *fleet.last_words]
            wrong += site.wrong
            wrong += [each for report in reports for each in report["violations"]]
            wrong += fleet.unexplained(reports, row.loses)
            kept = histories(reports)
            if row.is_ordered:
                wrong += _disordered(kept)
            fleet.leave()
        except TimeoutError:  # it does not heal, or the fault does not happen: start another
            self._deployments.pop(row.deployment).stop()
            raise
        finally:
            fleet.stop()
        return Finding(
            row,
            sum(report["acknowledged"] for report in reports),
            wrong,
            observed.wrong_s,
            observed.unreachable_s,
            max(report["worst_s"] for report in reports),
            sum((Counter(report["errors"]) for report in reports), Counter()),
            attempts,
            sum(map(len, kept.values())) if row.is_ordered else 0,
            max(map(at_once, kept.values()), default=0) if row.is_ordered else 0,
        )

    def _deployment(self, kind: str) -> Deployment:
        if kind not in self._deployments:
            environment = self.clock.environment if kind == "standalone" else None
            self._deployments[kind] = DEPLOYMENTS[kind](self._binary, environment)
        return self._deployments[kind]


def _disordered(kept: dict[str, list[Recorded]]) -> list[dict[str, Any]]:
    """The counters whose recorded calls no order explains."""
    failures = {key: check(history) for key, history in kept.items()}
    return [{"key": key, **found._asdict()} for key, found in failures.items() if found]


def chosen(names: Sequence[str]) -> list[Row]:
    """The faults whose name, or deployment, contains one of these; all of them without any."""
    wanted = [row for row in FAULTS if any(n in f"{row.name} {row.deployment}" for n in names)]
    return wanted if names else [*FAULTS]
