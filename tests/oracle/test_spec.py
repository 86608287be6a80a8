"""The pages of `spec/` are true: every example, history and name in them is checked."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import fakeredis
import pytest

from distkit.redis.script import COUNTER
from oracle import InMemoryCounter, InMemoryServer
from oracle.check.broken import BROKEN
from oracle.check.properties import PROPERTIES, Property
from oracle.cli.manifest import read_manifest
from tests.equivalence.scenarios import SCENARIOS
from tests.oracle.worlds import MANIFEST, with_largest, with_totals

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "spec"
PAGES = {path.name: path.read_text("utf-8") for path in SPEC.glob("*.md")}

RULES = re.findall(r"^### (R\d+)\. ", PAGES["RULES.md"], re.M)
NAMED_ELSEWHERE = {
    "R1": "counter/test_bad_input.py",
    "R20": "oracle/test_holding.py",
    "R21": "oracle/test_partitions.py",
}
HISTORIES = {scenario.name: scenario for scenario in SCENARIOS}


def _rows(section: str) -> list[list[str]]:
    """The cells of the first table of a section, without its two head lines."""
    table = section.split("\n\n|", 1)[1].split("\n\n", 1)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


# --- The rules -----------------------------------------------------------------------------------


def test_the_rules_are_numbered_from_1_without_a_gap() -> None:
    assert sorted(RULES, key=lambda rule: int(rule[1:])) == [
        f"R{number}" for number in range(1, len(RULES) + 1)
    ]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_history_or_a_test(rule: str) -> None:
    if rule in NAMED_ELSEWHERE:
        text = (ROOT / "tests" / NAMED_ELSEWHERE[rule]).read_text("utf-8")
        assert f"def test_{rule.lower()}_" in text
    else:
        assert any(rule in scenario.rules.split() for scenario in SCENARIOS)


def test_no_history_names_a_rule_that_does_not_exist() -> None:
    assert {rule for s in SCENARIOS for rule in s.rules.split()} <= set(RULES)


def test_no_page_names_a_rule_that_does_not_exist() -> None:
    for name, text in PAGES.items():
        assert set(re.findall(r"\bR[1-9]\d*\b", text)) <= set(RULES), name


def test_the_contents_list_every_rule_once() -> None:
    contents = PAGES["RULES.md"].split("## An example")[0]
    assert sorted(re.findall(r"\[(R\d+)\]", contents)) == sorted(RULES)


# --- The examples --------------------------------------------------------------------------------


def _held(server: InMemoryServer) -> str:
    """What Redis holds of the counter `k`, as the example of RULES.md writes it."""
    counter = server.state("p").counters["k"]
    slices = [
        f"{name} {mine.count}" + (" (stale)" if mine.epoch != counter.epoch else "")
        for name, mine in sorted(counter.slices.items())
    ]
    return f"epoch {counter.epoch}: {', '.join(slices)}"


def test_the_example_of_two_instances_is_what_the_oracle_does() -> None:
    server = InMemoryServer()
    instances = {name: InMemoryCounter(server, "p", instance_id=name) for name in "AB"}
    example = PAGES["RULES.md"].split("## An example")[1].split("## Terms")[0]
    rows = _rows(example)
    assert len(rows) >= 8
    for time, call, returns, held, _ in rows:
        server.wall_ms = 1000 * int(time.removesuffix(" s"))
        name, what = call.split(" ", 1)
        instance = instances[name]
        if what == "leaves":
            instance.__exit__(None, None, None)
            assert returns == ""
        else:
            operation, key, *count = what.strip("`").split()
            result = getattr(instance, operation)(key, *map(int, count))
            assert f"({result.cumulative}, {result.instance_count})" == returns, call
        assert _held(server) == held, call


def test_the_example_of_the_wire_is_what_the_script_does() -> None:
    """But for the session number and the stamp of the last closing, which are the server's time."""
    example = PAGES["PROTOCOL.md"].split("### An example")[1].split("\n## ")[0]
    shown = re.findall(r"^> (.*)\n< (.*)$", example, re.M)
    assert len(shown) == 3
    session = shown[0][1].split()[1]
    client = fakeredis.FakeRedis(decode_responses=True)
    for number in range(len(shown)):
        request, reply = shown[number]
        words = shlex.split(request)
        keys = [word for word in words if word.startswith("distkit:")]
        said = client.eval(COUNTER.text, len(keys), *words)
        if words[len(keys) + 1] == "0":
            example, given = example.replace(session, str(said[1])), str(said[1])
            shown[1:] = [(again.replace(session, given), then) for again, then in shown[1:]]
            assert said[0] == 1
        else:
            assert said == [int(word) for word in reply.split()], request
    stored = [[cell.strip("`") for cell in row] for row in _rows(example)]
    assert len(stored) == 5
    stamp = stored[0][2].split()[4]
    closed = client.hgetall("distkit:{my_app}:instances")[":"].split()[4]
    for key in {key for key, _, _ in stored}:
        held = {f: value.replace(stamp, str(closed)) for k, f, value in stored if k == key}
        assert client.hgetall(key) == held


# --- Rejected designs ----------------------------------------------------------------------------

REJECTED = dict(
    section.split("\n", 1)
    for section in PAGES["DESIGN.md"].split("## Rejected designs")[1].split("\n### ")[1:]
)


def _quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]+)"', re.sub(r"\s+", " ", text))


@pytest.mark.parametrize("design", REJECTED)
def test_a_rejected_design_is_broken_by_a_history(design: str) -> None:
    """It shows the history of a scenario that it names, or speaks of one that is shown above it."""
    text = REJECTED[design]
    for part in ("*Idea:*", "*Why not:*", "*Instead:*"):
        assert part in text
    named = [name for name in _quoted(text) if name in HISTORIES]
    assert named
    shown = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    if shown:
        right = HISTORIES[named[-1]].history
        assert shown == [line.strip() for line in right.strip().splitlines()]


def test_every_history_and_protocol_that_is_quoted_exists() -> None:
    for design, text in REJECTED.items():
        explored = text.partition("*Explored:*")[2]
        assert set(_quoted(explored)) <= BROKEN.keys(), design
        assert bool(explored) == bool(_quoted(explored)), design
        sentences = {name for name in _quoted(text) if len(name.split()) > 3}
        assert sentences <= HISTORIES.keys() | BROKEN.keys(), design


# --- Verification --------------------------------------------------------------------------------

EVERY_PROPERTY = [prop for props in PROPERTIES.values() for prop in props]


@pytest.mark.parametrize("prop", EVERY_PROPERTY, ids=lambda prop: prop.name)
def test_every_property_names_its_rules_and_is_in_the_specification(prop: Property) -> None:
    assert prop.rules.split()
    assert set(prop.rules.split()) <= set(RULES)
    rows = [line for line in PAGES["VERIFICATION.md"].splitlines() if line.startswith("|")]
    assert any(prop.name in row and prop.rules in row for row in rows)


def test_the_tables_of_explored_worlds_are_the_manifest() -> None:
    worlds, page = read_manifest(MANIFEST), PAGES["VERIFICATION.md"]
    assert all(world["finished"] and not world["found"] for world in worlds)
    assert page == with_totals(with_largest(page, worlds), worlds), "`make explored` writes it"


def test_the_table_of_broken_protocols_has_them_all() -> None:
    """`tests/oracle/test_explore.py` compares the numbers of events."""
    table = PAGES["VERIFICATION.md"].split("<!-- broken -->")[1].split("<!-- end -->")[0]
    rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]
    assert [row[:2] for row in rows] == [[name, b.breaks] for name, b in BROKEN.items()]


# --- Links ---------------------------------------------------------------------------------------


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub and PyPI give to the headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


PROSE = [*SPEC.glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        path = (page.parent / place).resolve() if place else page
        assert path.exists(), target
        if anchor:
            assert anchor in _anchors(path.read_text("utf-8")), target


def test_the_benchmark_results_end_with_the_notes() -> None:
    folder = ROOT / "benchmarks"
    notes = (folder / "NOTES.md").read_text("utf-8")
    assert (folder / "RESULTS.md").read_text("utf-8").endswith(notes)


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    """Those that begin with one of the rooms at the top."""
    rooms = "distkit|oracle|spec|tests|benchmarks"
    for path in re.findall(rf"`((?:{rooms})/[\w./*-]*)`", page.read_text("utf-8")):
        assert any(ROOT.glob(path.rstrip("/"))), path


def test_every_page_that_the_code_names_exists() -> None:
    rooms = ("distkit", "oracle", "tests", "benchmarks")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.*")]
    code = [path for path in files if path.suffix in (".py", ".lua", ".mjs", ".rs", ".toml")]
    named = [
        (path.name, page)
        for path in code
        if "node_modules" not in path.parts and "target" not in path.parts
        for page in re.findall(r"\b([A-Z]+\.md)\b", path.read_text("utf-8"))
    ]
    assert len(named) > 20
    known = {path.name for path in PROSE}
    assert {(where, page) for where, page in named if page not in known} == set()
