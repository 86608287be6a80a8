"""The report of a run, as a page of Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from tests.chaos.run import Finding

HEAD: Final = """\
# Chaos: faults of real servers, and what became of the counts

`make chaos` writes this page. It starts real servers, has several processes count on them (each as
one instance with 8 threads or tasks, synchronous and asyncio in turn), and lets one fault after the
other happen. Each instance keeps a book of what its slices can be; only a call whose outcome is
unknown widens it. When the servers have healed and nobody calls any more, every total must be the
sum of the slices, every slice must be in its book, and every slice that a new epoch has reset must
be explained by a `set` or `delete` of that time. Anything else is a violation.

Where a fault neither loses data nor has anybody presumed dead, the calls have to be linearizable
too. Two lanes of each process use the same counters, and each call is recorded with its beginning,
its end and its answer on the machine's clock. There must be an order of the calls, each at a moment
between its beginning and its end, in which the specification gives just these answers; a call whose
outcome is unknown may stand in it or not.

In a split brain, two masters serve a half of the instances each, and neither hears of the other.
Behind Sentinel, the second one is promoted by hand; in the cluster, the first one loses its bus, so
the others elect the second. "Five faults at random" draws them from those of the deployment, one
after the other, and judges the totals after each healing.

* **acknowledged**: calls that returned a result; each result is checked against the book.
* **in order**: how many calls were recorded, and have to be linearizable; in brackets, how many of
  them were under way on one counter at once.
* **wrong**: how long a reader was told a total that is not the sum of the slices of those that
  live. The rules promise nothing else while an instance is presumed dead, or has not yet restored
  what Redis lost (R8, R10). At the end of each fault it has to be over.
* **unreachable**: how long that reader got errors instead, or had to wait for more than 0.3 s.
* **worst call**: the longest call of any instance, in seconds, including the time for which the
  process itself was stopped.
"""

COLUMNS: Final = (
    "deployment", "fault", "acknowledged", "violations", "in order", "wrong, s",
    "unreachable, s", "worst call, s", "failed calls, by class",
)  # fmt: skip


def page(findings: Sequence[Finding], left_out: Sequence[str], facts: Sequence[str]) -> str:
    """The whole page.

    Args:
        findings: what each fault did.
        left_out: the faults that did not happen, each with the reason.
        facts: what the run ran on, and for how long.
    """
    lines = [HEAD, *(f"* {fact}" for fact in facts), "", _line(COLUMNS)]
    lines.append(_line(["---", "---", *["---:"] * (len(COLUMNS) - 3), "---"]))
    lines += [_line(_cells(finding)) for finding in findings]
    total = sum(finding.acknowledged for finding in findings)
    wrong = sum(len(finding.violations) for finding in findings)
    ordered = sum(finding.ordered for finding in findings)
    sums = [f"**{total:,}**", f"**{wrong}**", f"**{ordered:,}**"]
    lines.append(_line(["", "**all**", *sums, "", "", "", ""]))
    lines += ["", *(f"Left out: {each}" for each in left_out)]
    return "\n".join(lines).rstrip() + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(finding: Finding) -> list[str]:
    errors = ", ".join(f"{name} {times:,}" for name, times in sorted(finding.errors.items()))
    return [
        finding.row.deployment,
        finding.row.name,
        f"{finding.acknowledged:,}",
        str(len(finding.violations)),
        f"{finding.ordered:,} ({finding.at_once})" if finding.row.is_ordered else "",
        f"{finding.wrong_s:.1f}",
        f"{finding.unreachable_s:.1f}",
        f"{finding.worst_s:.1f}",
        errors or "none",
    ]


def one_line(finding: Finding) -> str:
    """What is printed while the run goes on."""
    return " · ".join(_cells(finding)) + f" · compared {finding.attempts} times"


def violations(finding: Finding) -> str:
    """The violations, as JSON, the calls before each included."""
    return "\n".join(json.dumps(each, default=str) for each in finding.violations)
