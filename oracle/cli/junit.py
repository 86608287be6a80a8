"""A run as a JUnit report: a suite for each layer, a case for each rule in it."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree as Xml

from rich.console import Console

from oracle.cli import report
from oracle.conform.layers import LayerReport, Report
from oracle.conform.play import Differs
from oracle.conform.process import Broke


def write(found: Report, path: Path) -> None:
    """Write the report to a file."""
    root = Xml.Element("testsuites", name=f"distkit conformance suite {found.suite}")
    for layer in found.layers:
        root.append(_layer(layer, found.port.port))
    Xml.indent(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    Xml.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _layer(layer: LayerReport, port: str) -> Xml.Element:
    suite = Xml.Element("testsuite", name=layer.layer, time=f"{layer.seconds:.3f}")
    left_out: dict[str, list[str]] = {}
    for history, reason in layer.left_out:
        for rule in history.rules.split() or ["no rule"]:
            left_out.setdefault(rule, []).append(reason)
    for rule, played, failed in layer.rules:
        case = _case(suite, port, rule)
        if failed:
            words = f"{failed} of {played} histories about it failed"
            Xml.SubElement(case, "failure", message=words)
        left_out.pop(rule, None)
    for rule, reasons in left_out.items():
        Xml.SubElement(
            _case(suite, port, rule), "skipped", message="; ".join(dict.fromkeys(reasons))
        )
    for number, failure in enumerate(layer.failures, 1):
        case = _case(suite, port, f"failure {number}: {failure.found_in}")
        kind = "failure" if isinstance(failure.error, Differs) else "error"
        Xml.SubElement(case, kind, message=str(failure.error)).text = _text(failure.error)
    if not len(suite) and layer.played:
        _case(suite, port, f"{layer.played} histories")
    suite.set("tests", str(len(suite)))
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    return suite


def _case(suite: Xml.Element, port: str, name: str) -> Xml.Element:
    return Xml.SubElement(suite, "testcase", classname=f"{port}.{suite.get('name')}", name=name)


def _text(error: Differs | Broke) -> str:
    """What the command prints of it."""
    page = io.StringIO()
    console = Console(file=page, width=120, highlight=False)
    report.say_failure(console, error)
    return page.getvalue()
