"""`distkit doctor`: what is wrong with a Redis or a prefix, and what to do about it."""

from __future__ import annotations

from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.text import Text

from distkit.cli import checks
from distkit.cli.checks import Finding, Patient, Unchecked
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
    with connected(url, prefix) as client:
        client.ping()
        diagnosis = diagnose(Patient(client, prefix))
    if as_json:
        click.echo(dumped(document(prefix, diagnosis)))
    else:
        show(diagnosis)
    if diagnosis.findings:
        raise SystemExit(FOUND)


def diagnose(patient: Patient) -> Diagnosis:
    """Make every check."""
    findings: list[Finding] = []
    unchecked: dict[str, str] = {}
    known: dict[str, str] = {}
    for check in checks.CHECKS:
        try:
            findings += check(patient)
        except Unchecked as why:
            unchecked[check.__name__.replace("_", " ")] = str(why)
    try:
        known = checks.facts(patient)
    except Unchecked as why:
        unchecked["facts"] = str(why)
    return Diagnosis(findings, unchecked, known)


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
