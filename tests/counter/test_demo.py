"""What a newcomer runs first works: the demo, and the README's first example as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.harness.servers import RedisServer

ROOT = Path(__file__).parents[2]
TOLD = [(5, 5), (8, 3), (6, 3), (6, 3), (3, 3), (6, 3), (6, 3), (100, 100), (100, 0), (101, 1)]
TOLD += [(100, 100), (101, 1), (101, 1), (0, 0)]


def _run(*command: str, **environment: str) -> str:
    kept = {k: v for k, v in os.environ.items() if k != "REDIS_URL"}
    done = subprocess.run(
        [sys.executable, *command],
        env=kept | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def _told(output: str) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in re.findall(r"\((\d+), (\d+)\)", output)]


def test_the_demo_runs_in_process() -> None:
    output = _run("-m", "distkit.demo")
    assert "fakeredis" in output
    assert _told(output) == TOLD


def test_the_demo_runs_on_redis_url_and_leaves_nothing(real_server: RedisServer) -> None:
    client, place = real_server.client(), f"127.0.0.1:{real_server.port}"
    client.acl_setuser(
        "teller", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"]
    )
    output = _run("-m", "distkit.demo", REDIS_URL=f"redis://teller:secret@{place}/0")
    client.acl_deluser("teller")
    assert place in output
    assert "secret" not in output
    assert _told(output) == TOLD
    assert client.keys("*") == []


def test_the_first_example_of_the_readme_runs_as_pasted() -> None:
    """Its comments are what it prints."""
    (example, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    said = re.findall(r"print\(.*\)  # (.*)$", example, re.M)
    assert said
    assert _run("-c", example).splitlines() == said
