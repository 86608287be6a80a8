"""Several faults one after the other, drawn at random, with a judgement after each healing.

What a fault leaves behind is where the next one begins: a replica that has just become a master, a
slot that has moved, instances that have just restored what they had. At times instances are stopped
for a moment while the fault goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from tests.chaos.faults import Site, instances_are_frozen_briefly

IN_A_ROW: Final = 5
OF_THE_PACE: Final = 0.4
"""Each fault is so much shorter than it is alone."""
CALM_S: Final = 1.0
"""How long the instances count between healing and judgement."""

Fault = Callable[[Site], None]


def at_random(*faults: Fault) -> Fault:
    """A fault that consists of several of these. What is wrong after one of them is in
    `site.wrong`, with the names of those that have happened so far."""

    def several(site: Site) -> None:
        short = site.at_pace(site.pace * OF_THE_PACE)
        happened: list[str] = []
        for _ in range(IN_A_ROW):
            fault, has_company = site.chance.choice(faults), site.chance.random() < 0.5
            happened.append(fault.__name__ + " with stopped instances" * has_company)
            _let_happen(fault, short, has_company)
            site.deployment.wait()
            site.wait(CALM_S)
            site.fleet.each("pause")
            found, _ = site.fleet.judge()
            site.wrong += [{"after": [*happened], **each} for each in found]
            site.fleet.each("resume")

    return several


def _let_happen(fault: Fault, site: Site, has_company: bool) -> None:
    if not has_company:
        fault(site)
        return
    company = threading.Thread(target=instances_are_frozen_briefly, args=(site,))
    company.start()
    try:
        fault(site)
    finally:
        company.join()
