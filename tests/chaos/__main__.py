"""`python -m tests.chaos [--minutes M] [--pace P] [--to FILE] [NAME ...]`: `make chaos`.

It runs the faults whose name or deployment contains one of the NAMEs, or all of them, and writes
the report to FILE. The exit status is 1 if there was a violation, or if a fault did not happen.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from pathlib import Path

from tests.chaos.report import one_line, page, violations
from tests.chaos.rows import Row
from tests.chaos.run import WORKERS, Chaos, Finding, chosen
from tests.harness.servers import Binary, find_binaries

MINUTES = 20.0
LAST_FAULT_S = 60.0
"""No fault begins within this time of the end."""
FAULT_S = 25.0
"""About how long a fault takes at full pace, with the start of the processes and the judgement. It
takes longer on a slow machine: then those that are left go faster, so that there is time for all.
"""
LEAST_PACE = 0.2


def main() -> int:
    asked = _arguments()
    binary = find_binaries().binaries[-1]
    deadline = time.monotonic() + asked.minutes * 60 - LAST_FAULT_S
    findings: list[Finding] = []
    left_out: list[str] = []
    paces: list[float] = []
    began = time.monotonic()
    with Chaos(binary, asked.pace) as chaos:
        rows = chosen(asked.names)
        for number, row in enumerate(rows):
            share = (deadline - time.monotonic()) / (len(rows) - number)
            chaos.pace = asked.pace * min(1.0, max(LEAST_PACE, share / FAULT_S))
            why = _why_not(chaos, row, deadline)
            if why:
                left_out.append(f"{row.name} ({row.deployment}): {why}")
                continue
            try:
                findings.append(chaos.run(row))
            except TimeoutError as error:
                left_out.append(f"{row.name} ({row.deployment}): {error}")
                continue
            paces.append(chaos.pace)
            print(one_line(findings[-1]), flush=True)
            if findings[-1].violations:
                print(violations(findings[-1]), file=sys.stderr, flush=True)
    text = page(findings, left_out, _facts(binary, time.monotonic() - began, paces))
    if asked.to:
        Path(asked.to).write_text(text)
    else:
        print(text)
    return int(bool(left_out) or any(finding.violations for finding in findings))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="when to stop, at the latest"
    )
    parser.add_argument("--pace", type=float, default=1.0, help="how long faults last, 0 to 1")
    parser.add_argument("--to", metavar="FILE", help="where the report goes; default: the screen")
    return parser.parse_args()


def _why_not(chaos: Chaos, row: Row, deadline: float) -> str:
    if not chaos.can(row):
        return "no C compiler was found"
    return "" if time.monotonic() < deadline else "no time was left"


def _facts(binary: Binary, seconds: float, paces: list[float]) -> list[str]:
    version = ".".join(map(str, binary.version))
    return [
        f"{datetime.date.today()}: Redis {version}, Python {sys.version.split()[0]}, "
        f"{os.cpu_count()} cores for servers and instances together",
        f"{WORKERS} processes; the whole run took {seconds / 60:.1f} minutes",
        f"no fault was cut to less than {min(paces, default=1):.0%} of its full length",
    ]


if __name__ == "__main__":
    sys.exit(main())
