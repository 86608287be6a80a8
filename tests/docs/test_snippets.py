"""Every Python snippet of the site runs as it is printed: on a real server, or in memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_site import PAGES
from tests.harness.servers import RedisServer

SNIPPETS = [
    pytest.param(code, id=f"{page}-{number}")
    for page, text in PAGES.items()
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.S | re.M), 1)
]

REDIS = re.compile(r"(redis\.(?:asyncio\.)?Redis)\(\)")
"""In the snippets it has its usual address; here it is the server of the test."""


def _says(code: str) -> list[str]:
    """What the comments say that the lines print: `print(total, mine)  # 5 5`."""
    said = re.findall(r"^ *print\(.*\)  # ([^\n]*)$", code, re.M)
    return [re.split(r": ", text)[0] for text in said]


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippet(code: str, newest_server: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "test_snippet.py"
    file.write_text(code, "utf-8")
    if "def test_" in code:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert ran.returncode == 0, ran.stdout
        assert f"{code.count('def test_')} passed" in ran.stdout
        return
    text = REDIS.sub(rf"\1(port={newest_server.port})", code)
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    for line in _says(code):
        assert line in said, ran.stdout
        said = said[said.index(line) + 1 :]


def test_every_snippet_with_a_print_is_compared() -> None:
    """Otherwise the comparison would be empty, and would never fail."""
    assert sum(bool(_says(str(param.values[0]))) for param in SNIPPETS) >= 4
