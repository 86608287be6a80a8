"""The suite finds what is wrong with a port, and nothing with one that is right.

The ports are in tests/ports/: ours, one in real time, and those that are wrong or break on purpose.
Exit statuses are those of the command as it is called; what is found is looked at in process, where
it is quicker.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oracle.conform import search
from oracle.conform.layers import BEYOND, Plan, Report, conform
from oracle.conform.play import Differs, TooNear, play
from oracle.conform.process import Port
from oracle.conform.traces import History, read_trace
from tests.conftest import REAL
from tests.harness.profiles import scaled
from tests.harness.servers import RedisServer, server_for
from tests.ports import broken_port, wrong_port
from tests.ports.test_ports_spec import RULES

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0

OURS = (sys.executable, "-m", "tests.ports.python_port")
WRONG = (sys.executable, "-m", "tests.ports.wrong_port")
BROKEN = (sys.executable, "-m", "tests.ports.broken_port")
IN_REAL_TIME = (sys.executable, "-m", "tests.ports.real_time_port")

RULES_BROKEN = {
    "takes any key": {"R1"},
    "jumps back count": {"R3"},
    "heartbeat does nothing": {"R4", "R10", "R12"},
    "dead 1 ms too late": {"R5"},
    "never dead": {"R5"},
    "set keeps the others": {"R6", "R7"},
    "dec adds": {"R9"},
    "delete forgets what was": {"R9"},
    "comes back with nothing": {"R10"},
    "counts retries twice": {"R11", "R12"},
    "takes counts beyond 2^53": {"R2"},
    "subtracts dead stale slices": {"R8"},
    "a read revives": {"R6"},
    "negative slices stay away": {"R9", "R10"},
}
"""Which rule the shrunk history may point to: the one that is broken, or what follows from it."""


@contextmanager
def started(*command: str) -> Iterator[Port]:
    port = Port(command, TIMEOUT_S)
    try:
        yield port
    finally:
        port.end()


def look(*command: str, examples: int = 300, steps: int = 50, seed: int = 1) -> Report:
    """The random layer, on a port."""
    with started(*command) as port:
        return conform(port, Plan(("random",), (), examples, steps, seed))


def oracle(*arguments: str, folder: Path, url: str = "") -> subprocess.CompletedProcess[str]:
    """`python -m oracle ...`, with failing histories saved in `folder`."""
    traces = ("--traces", str(folder)) if arguments[0] == "verify" else ()
    command, *rest = arguments
    return subprocess.run(
        [sys.executable, "-m", "oracle", command, *traces, *rest],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


# --- What is right -------------------------------------------------------------------------------


def test_our_own_counter_is_a_port_that_is_right() -> None:
    """The whole suite, but for the crowd, which is played on the script by itself."""
    layers = ("matrix", "random", "faults", "batches")
    with started(*OURS) as port:
        found = conform(port, Plan(layers, examples=scaled(60)))
    assert not found.failures
    assert not found.not_covered
    assert {rule for layer in found.layers for rule, _, _ in layer.rules} >= {
        rule for rule in RULES if rule not in ("R3", "R14", *BEYOND)
    }


def test_a_right_port_in_real_time_with_a_process_for_each_instance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A death is then a process that is killed."""
    monkeypatch.setenv("DISTKIT_URL", _url(server_for(REAL[-1])))
    with started(*IN_REAL_TIME) as port:
        found = conform(port, Plan(("random",), (), scaled(3), 12, 1, 300))
    assert not found.failures
    assert found.layers[0].played >= 1


def test_our_own_counter_where_scripts_are_lua_5_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines other than Redis's have it: numbers are integers there, and `unpack` is no global."""
    monkeypatch.setenv("FAKEREDIS_LUA_VERSION", "5.4")
    monkeypatch.delenv("DISTKIT_URL", raising=False)
    version = "import fakeredis; print(fakeredis.FakeRedis().eval('return _VERSION', 0))"
    said = subprocess.run([sys.executable, "-c", version], capture_output=True, text=True)
    assert said.stdout.strip() == "b'Lua 5.4'"
    with started(*OURS) as port:
        found = conform(port, Plan(("matrix", "faults"), ("R2", "R17", "R18"), 0))
        found_more = conform(port, Plan(("random",), (), scaled(20)))
    assert not found.failures
    assert not found_more.failures
    assert found.layers[0].played > 20


def test_a_server_on_which_nothing_can_be_restored_is_checked_without_rollbacks(
    real_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A managed Redis, for instance. The report names what is left out."""
    with real_server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "guest", "on", ">secret", "~*", "+@all", "-restore"
        )
        monkeypatch.setenv("DISTKIT_URL", f"redis://guest:secret@127.0.0.1:{real_server.port}")
        with started(*OURS) as port:
            found = conform(port, Plan(("faults",), ("R17",), 10))
            everything = conform(port, Plan(("faults",), ("R11",), 0, fail_fast=True))
        client.execute_command("ACL", "DELUSER", "guest")
    assert not found.failures
    assert not everything.failures
    assert list(everything.not_covered) == ["it does not have the fault rollback"]


def _url(server: RedisServer) -> str:
    return f"redis://127.0.0.1:{server.port}"


# --- What is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", wrong_port.FAULTS)
def test_each_fault_is_found_and_shrunk(fault: str) -> None:
    (found,) = look(*WRONG, fault).failures
    assert isinstance(found.error, Differs)
    assert not found.unsteady
    assert len(found.history.lines) <= 6, found.history
    assert RULES_BROKEN[fault] & set(found.error.hint.rules)


def test_a_wrong_port_in_real_time_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTKIT_URL", _url(server_for(REAL[-1])))
    (found,) = look(*IN_REAL_TIME, "never dead", examples=20, steps=20).failures
    assert isinstance(found.error, Differs)
    assert {"R5", "R8"} & set(found.error.hint.rules)
    assert len(found.history.lines) <= 6


def test_a_port_that_is_slow_in_real_time_is_not_called_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each call takes as long as the threshold: nothing can be said, so nothing is."""
    monkeypatch.setenv("DISTKIT_URL", _url(server_for(REAL[-1])))
    calls = tuple({"op": "get", "instance": name, "key": "k", "wall_ms": 0} for name in "ABA")
    with started(*IN_REAL_TIME, "slow") as port, pytest.raises(TooNear):
        play(History(100, calls), port)


def test_a_run_in_which_nothing_could_be_concluded_found_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command then says so, and ends with 64: it is not called right."""

    def too_near(history: History, port: Port, right: object) -> None:
        raise TooNear

    monkeypatch.setattr(search, "play", too_near)
    (layer,) = look(*BROKEN, "not at all", examples=5, steps=2).layers
    assert not layer.failures
    assert layer.played == 0
    assert layer.dropped >= 5


def test_a_failure_that_does_not_come_again_is_shown_as_that(tmp_path: Path) -> None:
    done = oracle("verify", "--", *BROKEN, broken_port.ONCE, folder=tmp_path)
    assert done.returncode == 1
    assert "does not fail each time" in done.stdout


# --- Exit statuses -------------------------------------------------------------------------------


def test_status_0_all_right(tmp_path: Path) -> None:
    done = oracle("verify", "--examples", "5", "--", *BROKEN, "not at all", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "every answer was right" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_status_1_differs_and_the_saved_history_is_played_again(tmp_path: Path) -> None:
    wrong = (*WRONG, "dec adds")
    done = oracle("verify", "--seed", "1", "--", *wrong, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    for title in ("step", "who", "call", "the port's answer", "the right answer", "rule"):
        assert title in done.stdout
    (saved,) = tmp_path.iterdir()
    assert saved.stem in done.stdout
    again = oracle("verify", "--replay", saved.stem, "--", *wrong, folder=tmp_path)
    assert again.returncode == 1
    table = done.stdout.split("History 2 failed")[0]
    assert table
    assert table in again.stdout
    by_file = oracle("verify", "--replay", str(saved), "--", *OURS, folder=tmp_path)
    assert by_file.returncode == 0
    assert oracle("replay", str(saved), folder=tmp_path).returncode == 0
    assert oracle("replay", str(saved), "--", *wrong, folder=tmp_path).returncode == 1


@pytest.mark.parametrize("fault", [*broken_port.FAULTS, *broken_port.HELLOS])
def test_status_2_the_port_broke(tmp_path: Path, fault: str) -> None:
    limit = "1" if fault == "hangs" else "20"
    # Without bad keys every answer is the same: one too many is then nothing but one too many.
    options = ("--timeout", limit, "--small-counts")
    done = oracle("verify", *options, "--", *BROKEN, fault, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    said = {
        "crashes": "the port's own last words",
        "leaves": "exit status 3",
        "hangs": "did not answer within 1 s",
        "says no JSON": "not JSON",
        "says no object": "no JSON object",
        "says no number": "must be of type integer",
        "says too much": "said what was not asked for",
        "is of the future": '"protocol" must be 1, not 2',
        "has no clock": 'needs "clock"',
        "can do nothing": "some of get, inc",
    }
    assert said[fault] in done.stdout


def test_status_2_a_port_that_is_not_there(tmp_path: Path) -> None:
    done = oracle("verify", "--", "./no-such-port", folder=tmp_path)
    assert done.returncode == 2
    assert "could not be started" in done.stdout


def test_status_2_a_crash_is_shrunk_and_saved_as_well(tmp_path: Path) -> None:
    done = oracle("verify", "--", *BROKEN, "crashes", folder=tmp_path)
    assert done.returncode == 2
    (saved,) = tmp_path.iterdir()
    (history,) = read_trace(saved)
    assert len(history.lines) == broken_port.WORKS - 1
    again = oracle("verify", "--replay", saved.stem, "--", *BROKEN, "crashes", folder=tmp_path)
    assert again.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verify",), "Missing argument"),
        (("verify", "--examples", "0", "--", "port"), "0 is not in the range"),
        (("verify", "--without", "fly", "--", "port"), "'fly' is not one of"),
        (("verify", "--replay", "never-saved", "--", "port"), "there is no file 'never-saved'"),
        (
            ("replay", "never-recorded.jsonl"),
            "there is no file 'never-recorded.jsonl', no history",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_status_64_the_command_line_is_wrong(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = oracle(*arguments, folder=tmp_path)
    assert done.returncode == 64
    assert said in " ".join(done.stderr.split())


# --- Traces --------------------------------------------------------------------------------------

RESET = {"op": "reset", "threshold_ms": 30_000}
INC = {"op": "inc", "instance": "A", "key": "k", "count": 2, "wall_ms": 0}
TWO = {"cumulative": 2, "instance_count": 2}


def _trace(folder: Path, *lines: object) -> str:
    path = folder / "trace.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_recorded_trace_is_compared_with_the_oracle(tmp_path: Path) -> None:
    right = _trace(tmp_path, RESET, INC | {"answer": TWO, "colour": "red"})
    assert oracle("replay", right, folder=tmp_path).returncode == 0
    wrong = _trace(tmp_path, RESET, INC | {"answer": TWO | {"cumulative": 3}})
    done = oracle("replay", wrong, folder=tmp_path)
    assert done.returncode == 1
    assert "(3, 2)" in done.stdout
    assert "(2, 2)" in done.stdout


def test_a_port_is_not_called_right_when_nothing_was_compared(tmp_path: Path) -> None:
    silent = _trace(tmp_path, RESET, INC)
    assert oracle("replay", silent, folder=tmp_path).returncode == 64
    done = oracle("replay", silent, "--", *BROKEN, "not at all", folder=tmp_path)
    assert done.returncode == 64
    assert "it does not have the operation inc" in done.stdout


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((INC,), 'line 1: a trace starts with a "reset"'),
        ((RESET, {"op": "fly"}), 'line 2: "op" must be one of reset, get, inc'),
        ((RESET, {**INC, "count": "two"}), "\"count\" must be of type integer, not 'two'"),
        ((RESET, {"op": "set", "instance": "A", "key": "k", "wall_ms": 0}), 'set needs "count"'),
        (({"op": "reset", "threshold_ms": 0},), '"threshold_ms" must be at least 1, not 0'),
        (("reset",), "this is no JSON object"),
        ((), "there is no history in it"),
    ],
    ids=range(7),
)
def test_a_trace_that_is_none_says_where_and_why(
    tmp_path: Path, lines: tuple[object, ...], said: str
) -> None:
    done = oracle("replay", _trace(tmp_path, *lines), folder=tmp_path)
    assert done.returncode == 64
    assert said in " ".join(done.stderr.split())
