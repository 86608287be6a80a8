"""Runs faults on real servers, judges what became of the counts, and writes the report.

For each fault: several instances count on a fresh prefix; the fault happens; the servers heal; the
instances stop calling. Then every counter's total must be the sum of the slices that the instances
see, each slice must be in its instance's book, and each reset must be explained (`books`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tests.chaos.clock import Clock
from tests.chaos.faults import FAULTS, Row, Site
from tests.chaos.fleet import Fleet, Observer
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
    """

    row: Row
    acknowledged: int
    violations: list[dict[str, Any]]
    wrong_s: float
    unreachable_s: float
    worst_s: float
    errors: dict[str, int]
    attempts: int


class Chaos:
    """The deployments of a run; each is started when it is first needed.

    Args:
        binary: which redis-server.
        pace: how long each fault lasts, from 0 to 1.
        mutant: a defect to plant in the script, by its name.
    """

    def __init__(self, binary: Binary, pace: float = 1.0, mutant: str = "") -> None:
        self._binary, self._pace, self._mutant = binary, pace, mutant
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
            deployment.address, f"chaos-{self._number}", WORKERS, row.partitions, self._mutant
        )
        try:
            observer = Observer(fleet)
            observer.start()
            time.sleep(CALM_S * self._pace)
            row.fault(Site(deployment, fleet, self.clock, self._pace))
            deployment.wait()
            time.sleep(CALM_S * self._pace)
            fleet.each("pause")
            observed = observer.stop()
            wrong, attempts = fleet.judge()
            reports = [*fleet.each("report"), *fleet.last_words]
            wrong += [each for report in reports for each in report["violations"]]
            wrong += fleet.unexplained(reports, row.loses)
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
        )

    def _deployment(self, kind: str) -> Deployment:
        if kind not in self._deployments:
            environment = self.clock.environment if kind == "standalone" else None
            self._deployments[kind] = DEPLOYMENTS[kind](self._binary, environment)
        return self._deployments[kind]


def chosen(names: Sequence[str]) -> list[Row]:
    """The faults whose name, or deployment, contains one of these; all of them without any."""
    wanted = [row for row in FAULTS if any(n in f"{row.name} {row.deployment}" for n in names)]
    return wanted if names else [*FAULTS]
