"""`spec/explored.json` says what was explored: its entries fit the schema, and agree with what they
say about themselves. `tests/oracle/test_explore.py` explores the small worlds again.
"""

from __future__ import annotations

import json
import shlex
from math import factorial
from typing import Any

import jsonschema
import pytest

from oracle.check import suite
from oracle.check.fast.search import explore
from oracle.check.state import Bounds
from oracle.check.trace import decode_bounds, encode_bounds
from oracle.cli.explore import Run, explore_command
from oracle.cli.manifest import Entry, entry, read_manifest
from oracle.model import VERSION
from tests.oracle.worlds import MANIFEST

SCHEMA: dict[str, Any] = json.loads(MANIFEST.with_name("explored.schema.json").read_text("utf-8"))
ENTRIES = read_manifest(MANIFEST)


def _command(recorded: Entry) -> str:
    command: str = recorded["command"]
    return command


def _validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA)


def test_the_manifest_fits_its_schema() -> None:
    _validator().validate({"worlds": ENTRIES})


@pytest.mark.parametrize(
    "change",
    [
        {"distinct_states": "many"},
        {"distinct_states": 0},
        {"bounds": {"instances": 2}},
        {"found": None},
        {"protocol": 0},
        {"states": 5},
    ],
    ids=str,
)
def test_the_schema_refuses_another_entry(change: dict[str, Any]) -> None:
    assert not _validator().is_valid({"worlds": [ENTRIES[0] | change]})


def test_what_the_explorer_writes_fits_the_schema() -> None:
    bounds = Bounds(operations=1)
    written = entry(bounds, "python -m oracle explore --operations 1", explore(bounds))
    _validator().validate({"worlds": [written]})


def test_the_schema_knows_every_bound() -> None:
    bounds = SCHEMA["$defs"]["bounds"]
    assert list(bounds["properties"]) == list(Bounds._fields) == bounds["required"]


def test_every_world_of_the_quick_suite_has_one_entry() -> None:
    worlds = [decode_bounds(recorded["bounds"]) for recorded in ENTRIES]
    assert len(set(worlds)) == len(worlds)
    assert set(suite.worlds("quick")) <= set(worlds) <= set(suite.worlds("full"))


@pytest.mark.parametrize("recorded", ENTRIES, ids=_command)
def test_the_command_of_an_entry_explores_its_world(recorded: Entry) -> None:
    assert encode_bounds(_run_of(recorded).bounds) == recorded["bounds"]
    assert _run_of(recorded).command == recorded["command"]


def _run_of(recorded: Entry) -> Run:
    words = shlex.split(recorded["command"])[4:]
    given = explore_command.make_context("explore", words).params
    return Run.of(
        **{k: v for k, v in given.items() if k not in ("summary", "trace", "manifest", "suite")}
    )


@pytest.mark.parametrize("recorded", ENTRIES, ids=_command)
def test_the_counts_of_an_entry_agree_with_each_other(recorded: Entry) -> None:
    bounds = decode_bounds(recorded["bounds"])
    names = factorial(bounds.instances + bounds.joins)
    states, apart = recorded["distinct_states"], recorded["states_before_symmetry"]
    assert recorded["transitions"] >= states - 1, "some event leads to every state but the first"
    assert recorded["depth"] < states
    assert recorded["protocol"] == VERSION
    if recorded["finished"]:
        assert not recorded["found"]
        assert states <= apart <= names * states
