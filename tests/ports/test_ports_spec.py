"""spec/PORTS.md and spec/vectors are what the code says and takes: a port is written from them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest

from oracle.cli.conform import conform_command
from oracle.cli.replay import replay
from oracle.cli.verify import verify
from oracle.conform import lines, schema, vectors
from oracle.conform.judge import judge
from oracle.conform.layers import BEYOND, LAYERS
from oracle.conform.lines import (
    ERRORS,
    EVENTS,
    FAULTS,
    FEATURES,
    OPERATIONS,
    Malformed,
)
from oracle.conform.process import Process
from oracle.conform.traces import read_trace
from oracle.model import Change, CounterState
from tests.ports.python_port import Port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "spec" / "vectors"
RULES = re.findall(r"^### (R\d+)\.", (ROOT / "spec" / "RULES.md").read_text("utf-8"), re.M)
PAGE = (ROOT / "spec" / "PORTS.md").read_text("utf-8")

SHOWN = re.findall(r"^> (.*)\n< (.*)$", PAGE, re.M)
"""Every message of the page with its answer, in order: together they are one conversation."""
MESSAGES = [json.loads(message) for message, _ in SHOWN]


# --- The page ------------------------------------------------------------------------------------


def test_the_conversation_of_the_page_is_what_our_port_says() -> None:
    port = Port()
    for message, answer in SHOWN:
        assert port.answer(json.loads(message)) == json.loads(answer), message


def test_the_runner_says_what_the_page_shows() -> None:
    hello, reset, *calls = (message for message, _ in SHOWN)
    assert lines.encode(lines.hello()) == hello
    shown = json.loads(reset)
    assert lines.encode(lines.reset(shown["prefix"], shown["threshold_ms"])) == reset
    for call in calls:
        lines.check_message(json.loads(call))
        assert lines.encode(json.loads(call)) == call, "compact, and not escaped"


def test_the_runner_takes_the_answers_that_the_page_shows() -> None:
    (hello, *_), (_, *answers) = zip(*[(a, b) for a, b in SHOWN], strict=True)
    assert json.loads(hello)["op"] == "hello"
    can = lines.capabilities(json.loads(SHOWN[0][1]))
    assert can.operations == OPERATIONS.keys()
    assert can.faults == set(FAULTS)
    assert can.features == set(FEATURES)
    for message, answer in zip(MESSAGES[2:], answers[1:], strict=True):
        lines.checked_answer(message, json.loads(answer))


def test_every_message_fault_and_error_is_shown() -> None:
    assert {m["op"] for m in MESSAGES} == {"hello", "reset", *OPERATIONS, *EVENTS}
    for field, fault in lines.CALL_FAULTS.items():
        assert any(m.get(field) for m in MESSAGES), field
        assert f"| `{fault}` |" in PAGE
    for name, rule in ERRORS.items():
        assert f"| `{name}` | {rule} |" in PAGE


def _options(command: click.Command) -> set[str]:
    named = [name for parameter in command.params for name in parameter.opts]
    return {name for name in named if name.startswith("--")}


def test_the_options_of_the_page_are_those_of_the_commands() -> None:
    page = PAGE.split("## The commands")[1].split("## Traces")[0]
    assert set(re.findall(r"^\| `(--[a-z-]+)", page, re.M)) == _options(conform_command)
    about_verify = page.split("`python -m oracle verify")[1].split("\n\n")[0]
    assert set(re.findall(r"--[a-z-]+", about_verify)) == _options(verify)
    assert "--failed" in page
    assert "--failed" in _options(replay)


def test_the_layers_of_the_page_are_those_of_the_suite() -> None:
    table = PAGE.split("| layer |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == [layer.name for layer in LAYERS]


# --- The schema ----------------------------------------------------------------------------------


def test_the_messages_and_answers_of_the_page_are_those_of_the_schema() -> None:
    whole = json.loads(schema.FILE.read_text("utf-8"))
    check = jsonschema.Draft7Validator(whole)
    message = jsonschema.Draft7Validator({**whole, "anyOf": [{"$ref": "#/definitions/message"}]})
    for asked, answer in SHOWN:
        message.validate(json.loads(asked))
        check.validate(json.loads(answer))
    with pytest.raises(jsonschema.ValidationError):
        message.validate({"op": "set", "instance": "A", "key": "k"})


def test_the_schema_has_every_operation_and_event_once() -> None:
    named: list[str] = []
    for name, definition in schema.definitions().items():
        op = definition.get("properties", {}).get("op", {}) if name != "step" else {}
        named += op.get("enum", [op["const"]] if "const" in op else [])
    assert sorted(named) == sorted(["hello", "reset", *OPERATIONS, *EVENTS])
    assert set(schema.definitions()["step"]["properties"]["op"]["enum"]) == set(lines.SINGLE)


def test_the_schema_says_which_fields_each_operation_has() -> None:
    for op, operation in OPERATIONS.items():
        properties = schema.definitions()[operation.definition]["properties"]
        assert set(operation.fields) <= set(properties), op
        assert set(lines.CALL_FAULTS) <= set(properties), op


def test_the_trace_of_the_page_is_a_golden_one() -> None:
    (shown,) = re.findall(r'```\n(\{"op":"reset".*?)```', PAGE, re.S)
    assert (FOLDER / "defect-2-read-revives.jsonl").read_text("utf-8") == shown


# --- Fields and answers --------------------------------------------------------------------------


def test_what_a_port_says_beyond_the_protocol_is_ignored() -> None:
    answer = {"cumulative": 1, "instance_count": 1, "elapsed": 0.5}
    assert lines.checked_answer({"op": "get"}, answer) == {"cumulative": 1, "instance_count": 1}
    more: dict[str, Any] = json.loads(SHOWN[0][1])
    more |= {"licence": "MIT", "operations": [*more["operations"], "fly"], "faults": ["fire"]}
    can = lines.capabilities(more)
    assert "fly" not in can.operations
    assert can.faults == frozenset()


@pytest.mark.parametrize(
    "answer",
    [{}, {"cumulative": 1}, {"cumulative": 1.5, "instance_count": 1}, {"error": 7},
     {"cumulative": True, "instance_count": 1}, {"cumulative": None, "instance_count": 0}],
)  # fmt: skip
def test_what_is_no_answer(answer: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        lines.checked_answer({"op": "get"}, answer)


def test_an_error_is_compared_by_its_name() -> None:
    said = {"error": "overflow", "message": "too much"}
    assert lines.same({"op": "get"}, said, {"error": "overflow"})
    assert not lines.same({"op": "get"}, {"error": "internal"}, {"error": "overflow"})


def test_a_port_sees_no_field_that_is_ours(tmp_path: Path) -> None:
    """A trace's answers are not for the port, nor is the clock for one that cannot use it."""
    echo = (
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    m = json.loads(line)\n"
        "    hello = {'protocol': 1, 'port': 'echo', 'clock': 'real', 'instances': 'many',\n"
        "             'operations': ['get']}\n"
        "    told = {'error': ' '.join(sorted(m))}\n"
        "    print(json.dumps({'hello': hello, 'reset': {}}.get(m['op'], told)), flush=True)\n"
    )
    from oracle.conform.process import Port as Child

    child = Child([sys.executable, "-c", echo], 20)
    try:
        child.reset(30_000, ["A"])
        line = {"op": "get", "instance": "A", "key": "k", "wall_ms": 1, "answer": {}, "said": {}}
        assert child.answer(line) == {"error": "instance key op"}
    finally:
        child.end()


def test_a_port_that_does_not_end_is_ended() -> None:
    stubborn = (
        "import json, sys, time\n"
        "sys.stdin.readline()\n"
        "print(json.dumps({'protocol': 1, 'port': 'stubborn', 'clock': 'real',\n"
        "                  'instances': 'many', 'operations': ['get']}), flush=True)\n"
        "time.sleep(600)\n"
    )
    process = Process([sys.executable, "-c", stubborn], 20)
    process.end()
    assert process._child.returncode is not None


# --- The golden traces ---------------------------------------------------------------------------


def test_they_are_what_the_oracle_says(tmp_path: Path) -> None:
    written = {path.name: path.read_text("utf-8") for path in vectors.write(tmp_path)}
    kept = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}
    assert written.keys() == kept.keys()
    for name, text in written.items():
        assert text == kept[name], f"{name}: `python -m oracle vectors` writes it again"


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in BEYOND])
def test_every_rule_has_a_file(rule: str) -> None:
    number = int(rule[1:])
    paths = list(FOLDER.glob(f"R{number:02}-*.jsonl"))
    assert paths
    assert all(map(read_trace, paths))


def test_every_defect_of_another_implementation_has_a_file() -> None:
    page = (ROOT / "spec" / "UPSTREAM.md").read_text("utf-8")
    table = page.split("## Defects measured in version 0.4.0")[1].split("\n\n")[2]
    defects = len(table.strip().splitlines()) - 2
    assert len(list(FOLDER.glob("defect-*.jsonl"))) == defects == 5


def test_every_file_says_what_it_shows() -> None:
    for path in FOLDER.iterdir():
        for history in read_trace(path):
            assert history.comment, path.name


UPSTREAM = ROOT / "spec" / "upstream"


@pytest.mark.parametrize("path", sorted(UPSTREAM.glob("*.jsonl")), ids=lambda path: path.stem)
def test_what_upstream_is_said_to_get_wrong_is_wrong(path: Path) -> None:
    """The right answers in spec/UPSTREAM.md are the oracle's, and what the crate said is not."""
    for history in read_trace(path):
        answers = judge(history)
        assert [line["answer"] for line in history.lines] == answers
        assert not lines.same(history.lines[-1], history.lines[-1]["said"], answers[-1])
        assert path.stem in (ROOT / "spec" / "UPSTREAM.md").read_text("utf-8")


CHANGE = {
    "new": {"cumulative": 1, "instance_count": 2},
    "old": {"cumulative": 3, "instance_count": 4},
    "applied": True,
}
SET_IF = {"op": "set_if", "comparator": "eq", "value": 0}


def test_a_change_is_answered_by_two_pairs_and_whether_the_condition_held() -> None:
    """R15"""
    change = Change(CounterState(1, 2), CounterState(3, 4), True)
    assert lines.result_line(change) == CHANGE
    assert lines.checked_answer(SET_IF, CHANGE | {"more": 1}) == CHANGE
    assert not lines.same(SET_IF, CHANGE | {"applied": False}, CHANGE)
    for field, wrong in (("old", 7), ("applied", 1)):
        with pytest.raises(Malformed, match=f'"{field}" must be'):
            lines.checked_answer(SET_IF, CHANGE | {field: wrong})


def test_a_port_that_is_older_than_applied_is_compared_without_it() -> None:
    old = {name: value for name, value in CHANGE.items() if name != "applied"}
    assert lines.checked_answer(SET_IF, old) == old
    assert lines.same(SET_IF, old, CHANGE)
    with pytest.raises(Malformed, match='needs "applied"'):
        lines.checked_answer(SET_IF, old, {"applied"})


def test_always_is_asked_only_of_a_port_that_names_it() -> None:
    line: dict[str, Any] = {"op": "inc_if", "comparator": "always", "key": "k"}
    can = lines.capabilities(json.loads(SHOWN[0][1]))
    assert not can.lacks(line)
    assert can._replace(features=frozenset()).lacks(line) == "the comparator always"


def test_calls_made_together_may_have_run_in_any_order() -> None:
    calls = [{"op": "inc", "key": "k", "count": n} for n in (1, 10)]
    calls += [{"op": "get", "key": "k"}, {"op": "dec", "key": "j", "count": 4}]
    line = {"op": "together", "instance": "A", "calls": calls}
    pairs = [(6, 1), (16, 11), (16, 11), (-4, -4)]
    right = {"answers": [CounterState(*pair)._asdict() for pair in pairs]}

    def said(*pairs: tuple[int, int]) -> dict[str, Any]:
        return {"answers": [CounterState(*pair)._asdict() for pair in pairs]}

    assert lines.same(line, said((16, 11), (15, 10), (15, 10), (-4, -4)), right)
    assert lines.same(line, said((16, 11), (15, 10), (5, 0), (-4, -4)), right)
    assert not lines.same(line, said((16, 11), (6, 1), (16, 11), (-4, -4)), right), "swapped"
    assert not lines.same(line, said((6, 1), (15, 10), (16, 11), (-4, -4)), right), "one is lost"
    assert not lines.same(line, said((6, 1), (16, 11), (7, 2), (-4, -4)), right), "never so"
    assert not lines.same(line, said((6, 1), (16, 11), (16, 11), (4, 4)), right), "another key"
