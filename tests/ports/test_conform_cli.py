"""`python -m oracle conform`: what it prints, writes and ends with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from oracle.conform.layers import SUITE
from tests.conftest import REAL
from tests.harness.servers import server_for

ROOT = Path(__file__).parents[2]
PORT = (sys.executable, "-m", "tests.ports.oracle_port")
OLD = (*PORT, "--old")
WRONG = (*PORT, "dec adds")


def conform(
    *options: str, command: tuple[str, ...] = PORT, folder: Path
) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "oracle", "conform", "--traces", str(folder / "failed"), *options]
    return subprocess.run(
        [*line, *(["--", *command] if command else [])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_right_port_is_right_and_the_end_says_what_was_not_covered(tmp_path: Path) -> None:
    done = conform("--layer", "batches", "--examples", "20", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, end = done.stdout.splitlines()
    assert end.startswith(f"Suite {SUITE}, seed 1. ")
    assert "every answer was right" in end
    for layer in ("vectors", "matrix", "random", "faults"):
        assert f"layer {layer}" in end
    assert end.endswith("R19, R20, R21.")
    assert not (tmp_path / "failed").exists()


def test_what_a_port_cannot_do_is_named_by_rule(tmp_path: Path) -> None:
    """A port that is older than most faults: its hello is that of the first version."""
    done = conform("--layer", "faults", "--only", "R12", command=OLD, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Not checked, since it does not have the fault refuse: R10 (" in done.stdout
    assert "Not checked, since it does not have the fault lose_replies" in done.stdout
    assert "R12 in part" in done.stdout.splitlines()[-1]


def test_the_hello_of_the_first_version_still_works(tmp_path: Path) -> None:
    done = conform("--layer", "vectors", "--only", "R15", command=OLD, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Not checked, since it does not have the comparator always: R15 (2)" in done.stdout


def test_a_wrong_port_is_explained_saved_and_played_again(tmp_path: Path) -> None:
    options = ("--layer", "vectors", "--only", "R9", "--fail-fast")
    done = conform(*options, command=WRONG, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "The port answers as if: dec adds." in done.stdout
    assert "dec k 1" in done.stdout
    (saved,) = (tmp_path / "failed").iterdir()
    assert f"`replay {saved.stem} -- CMD` plays it again" in done.stdout
    again = [sys.executable, "-m", "oracle", "replay", "--traces", str(tmp_path / "failed")]
    for command, status in ((WRONG, 1), (PORT, 0)):
        for which in (["--failed"], [saved.stem]):
            played = subprocess.run(
                [*again, *which, "--", *command], cwd=ROOT, capture_output=True, text=True
            )
            assert played.returncode == status, played.stderr


def test_the_junit_report_has_the_rules_and_the_failures(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    options = ("--layer", "vectors", "--only", "R9", "--junit", str(path))
    assert conform(*options, command=WRONG, folder=tmp_path).returncode == 1
    suites = Xml.parse(path).getroot()
    (suite,) = suites
    assert str(SUITE) in str(suites.get("name"))
    assert suite.get("name") == "vectors"
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert "R9" in failed
    assert any("dec adds" in (text or "") for text in suite.itertext())
    assert suite.get("failures") == str(len(failed))


def test_the_page_shows_what_was_checked_and_each_failure(tmp_path: Path) -> None:
    options = ("--layer", "vectors", "--layer", "matrix", "--only", "R9", "--html", str(tmp_path))
    assert conform(*options, command=WRONG, folder=tmp_path).returncode == 1
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "<th>R9</th>" in page
    assert "failed</td>" in page
    assert "dec adds" in page
    assert page.count("<svg") >= 1
    assert ", not (" in page


def test_list_names_histories_and_plays_none(tmp_path: Path) -> None:
    done = conform("--list", "--layer", "faults", command=(), folder=tmp_path)
    assert done.returncode == 0
    assert "faults: clear whose outcome is unknown says so (R12)" in done.stdout
    assert "faults: 400 drawn at random, seed 1" in done.stdout


def test_dry_run_says_what_would_be_asked(tmp_path: Path) -> None:
    done = conform("--dry-run", "--layer", "batches", command=OLD, folder=tmp_path)
    assert done.returncode == 0
    assert "34: " not in done.stdout
    assert "it does not have the operation batch" in done.stdout
    assert "every answer" not in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [((), "Missing argument 'CMD'"), (("--layer", "fly"), "'fly' is not one of"),
     (("--only", "R99"), "no history is about R99; there are some about R1, R2,"),
     (("--only", "R20"), "no history is about R20: the line protocol has no holders")],
)  # fmt: skip
def test_misuse_ends_with_64(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    command = PORT if "--only" in options else ()
    done = conform(*options, command=command, folder=tmp_path)
    assert done.returncode == 64
    assert said in " ".join(done.stderr.split())


def test_our_own_counter_on_a_server_that_is_named(tmp_path: Path) -> None:
    """`--redis-url`: and nothing stays on the server."""
    server = server_for(REAL[-1])
    server.client().flushall()
    options = ("--layer", "batches", "--examples", "20")
    url = f"redis://127.0.0.1:{server.port}"
    done = conform(*options, "--redis-url", url, command=(), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.client().keys("*") == []


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = conform("--redis-url", "redis://127.0.0.1:1", command=(), folder=tmp_path)
    assert done.returncode == 2
    assert "no Redis answers at redis://127.0.0.1:1, which DISTKIT_URL names" in done.stdout


def test_a_port_that_does_not_start_is_asked_whether_it_needs_a_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISTKIT_URL", raising=False)
    done = conform(command=(sys.executable, "-c", "raise SystemExit(3)"), folder=tmp_path)
    assert done.returncode == 2
    assert "DISTKIT_URL is not set" in done.stdout
