"""What a newcomer runs first works: the demo, and the README's examples as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions, requires
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


# --- The README ----------------------------------------------------------------------------------

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)

WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
"""


def _packages_of(distribution: Distribution) -> set[str]:
    """What it can be imported as. (`packages_distributions` knows but a part until Python 3.11.)"""
    tops = {file.parts[0] for file in distribution.files or ()}
    return {top.removesuffix(".py") for top in tops if top.removesuffix(".py").isidentifier()}


def _run_as_installed(example: str) -> str:
    """Run it with what `pip install` of the distribution brings, and nothing else of this
    environment: redis-py with its own requirements, and our packages."""
    brought = {"redis"} | {
        re.split(r"[^\w-]", requirement)[0].lower()
        for requirement in requires("redis") or []
        if "extra ==" not in requirement
    }
    ours = {"distkit", "oracle"}
    absent = {
        package
        for distribution in distributions()
        if distribution.metadata["Name"].lower() not in brought
        for package in _packages_of(distribution)
        if package not in ours
    }
    assert {"fakeredis", "click", "rich"} <= absent
    return _run("-c", WITHOUT.format(absent=absent) + example)


def test_the_first_example_of_the_readme_runs_as_pasted() -> None:
    """Its comments are what it prints."""
    said = re.findall(r"print\(.*\)  # (.*)$", EXAMPLES[0], re.M)
    assert len(said) == 4
    assert _run_as_installed(EXAMPLES[0]).splitlines() == said


def test_the_example_on_redis_runs_as_pasted(real_server: RedisServer) -> None:
    client = f"redis.Redis(port={real_server.port})"
    example = EXAMPLES[1].replace("redis.Redis()", client)
    assert client in example
    said = _run_as_installed(example)
    assert said == "1 connections over all servers, 1 of them here\n"
