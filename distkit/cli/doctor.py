"""`distkit doctor`: what is wrong with a Redis or a prefix, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.text import Text

from distkit.cli import checks
from distkit.cli.checks import Finding, Patient, Server, ServerCheck, Unchecked
from distkit.cli.connection import connected, url_and_prefix
from distkit.cli.documents import dumped
from distkit.cli.text import printable

FOUND = 1


class Diagnosis(NamedTuple):
    """What the checks found, what could not be checked and why, and what is good to know."""

    findings: list[Finding]
    unchecked: dict[str, str]
    facts: dict[str, str]


@click.command()
@url_and_prefix
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(url: str, prefix: str, as_json: bool) -> None:
    """Check a Redis and a prefix, without changing anything.

    The user of the URL should be the one that the programs use: its permissions are tried. The exit
    status is 0 if nothing was found, 1 if something was.
    """
    with connected(url) as client:
        diagnosis = diagnose(Patient(client, prefix))
    if as_json:
        click.echo(dumped(document(prefix, diagnosis)))
    else:
        show(diagnosis)
    if diagnosis.findings:
        raise SystemExit(FOUND)


def diagnose(patient: Patient) -> Diagnosis:
    """Make every check."""
    unchecked: dict[str, str] = {}
    findings: list[Finding] = []
    known: dict[str, str] = {}
    for server_check in checks.SERVER_CHECKS:
        findings += _on_each(server_check, patient.servers, unchecked)
    for check in checks.PREFIX_CHECKS:
        try:
            findings += check(patient)
        except Unchecked as why:
            unchecked[_name_of(check)] = str(why)
    try:
        known = checks.facts(patient)
    except Unchecked as why:
        unchecked["facts"] = str(why)
    return Diagnosis(findings, unchecked, known)


def _on_each(
    check: ServerCheck, servers: list[Server], unchecked: dict[str, str]
) -> Iterator[Finding]:
    """Make a check on every server. What not all of them have says where it was found."""
    found: dict[Finding, list[str]] = {}
    for server in servers:
        try:
            for finding in check(server):
                found.setdefault(finding, []).append(server.address)
        except Unchecked as why:
            unchecked[_name_of(check)] = str(why)
    for finding, where in found.items():
        at = "" if len(where) == len(servers) else f"{', '.join(where)}: "
        yield finding._replace(problem=at + finding.problem)


def _name_of(check: Callable[..., object]) -> str:
    return check.__name__.replace("_", " ")


def document(prefix: str, diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "prefix": prefix,
        "findings": [each._asdict() for each in diagnosis.findings],
        "unchecked": diagnosis.unchecked,
        "facts": diagnosis.facts,
    }


def show(diagnosis: Diagnosis) -> None:
    console = Console(highlight=False)
    for what, known in diagnosis.facts.items():
        console.print(Text.assemble((f"{what}: ", "dim"), printable(known)), soft_wrap=True)
    for finding in diagnosis.findings:
        console.print()
        console.print(Text.assemble((finding.check, "bold red"), f": {finding.problem}"))
        console.print(Text.assemble(("  To do: ", "bold"), finding.remedy))
    console.print()
    for what, why in diagnosis.unchecked.items():
        console.print(Text(f"not checked: {what}: {printable(why)}", "yellow"))
    if not diagnosis.findings:
        console.print("Nothing was found.")
