"""The specification and the tests speak of the same rules: none is without a history."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oracle.check.properties import PROPERTIES, Property
from oracle.cli.manifest import read_manifest
from tests.equivalence.scenarios import SCENARIOS
from tests.oracle.worlds import MANIFEST

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "spec" / "SPEC.md").read_text("utf-8")
RULES = re.findall(r"^\*\*(R\d+)\.\*\*", SPEC, re.M)
NAMED_ELSEWHERE = {"R1": "counter/test_bad_input.py"}


def test_the_rules_are_numbered_from_1_without_a_gap() -> None:
    assert {f"R{n}" for n in range(1, len(RULES) + 1)} == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_history_or_a_test(rule: str) -> None:
    if rule in NAMED_ELSEWHERE:
        text = (ROOT / "tests" / NAMED_ELSEWHERE[rule]).read_text("utf-8")
        assert f"def test_{rule.lower()}_" in text
    else:
        assert any(rule in scenario.rules.split() for scenario in SCENARIOS)


EVERY_PROPERTY = [prop for props in PROPERTIES.values() for prop in props]


@pytest.mark.parametrize("prop", EVERY_PROPERTY, ids=lambda prop: prop.name)
def test_every_property_names_its_rules_and_stands_in_the_specification(prop: Property) -> None:
    assert prop.rules.split()
    assert set(prop.rules.split()) <= set(RULES)
    rows = [line for line in SPEC.splitlines() if line.startswith("|")]
    assert any(prop.name in row and prop.rules in row for row in rows)


def test_the_large_explorations_stand_in_the_specification() -> None:
    """The figures that the prose gives are those of the manifest."""
    large = [world for world in read_manifest(MANIFEST) if world["distinct_states"] > 10_000_000]
    assert large
    for world in large:
        assert world["finished"]
        assert world["command"] in SPEC
        assert f"{world['distinct_states']:,}" in SPEC


def test_no_history_names_a_rule_that_is_not_there() -> None:
    assert {rule for s in SCENARIOS for rule in s.rules.split()} <= set(RULES)


def test_the_histories_that_the_specification_quotes_are_there() -> None:
    text = SPEC.replace("\n", " ")
    quoted = re.findall(r'\("([^"]+)"\)', re.sub(r" +", " ", text))
    assert quoted
    assert set(quoted) <= {scenario.name for scenario in SCENARIOS}
