"""Each server has the version it claims, is independent of others, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REAL
from tests.harness import servers
from tests.harness.servers import HIGHEST_PORT, Binary, RedisServer, find_binaries, free_port

each_binary = pytest.mark.parametrize("binary", REAL, ids=lambda binary: binary.name)

STARTS_A_SERVER = """
import sys, time
from pathlib import Path
from tests.harness.servers import RedisServer, Binary
server = RedisServer(Binary(Path(sys.argv[1]), (0, 0)))
print(server._process.pid, server.folder, flush=True)
time.sleep(60)
"""


@each_binary
def test_it_starts_answers_and_leaves_nothing_behind(binary: Binary) -> None:
    one, other = RedisServer(binary), RedisServer(binary)
    try:
        assert one.socket != other.socket
        assert one.client().info("server")["redis_version"] == ".".join(map(str, binary.version))
        one.client().set("k", "v")
        assert other.client().exists("k") == 0
    finally:
        one.stop()
        other.stop()
    assert not Path(one.folder).exists()
    assert one._process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@each_binary
def test_it_dies_with_a_pytest_that_is_killed(binary: Binary) -> None:
    command = [sys.executable, "-c", STARTS_A_SERVER, str(binary.path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _runs(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(int(pid))
    (Path(folder) / "redis.sock").unlink(missing_ok=True)
    Path(folder).rmdir()


def _runs(pid: int) -> bool:
    """Whether the process runs. A zombie does not; in a container, no init may be there to reap
    it."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_free_port_leaves_room_for_a_cluster() -> None:
    assert max(free_port() for _ in range(200)) <= HIGHEST_PORT


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="no-such-option"):
        RedisServer(REAL[0], "--no-such-option", "1")


def test_a_missing_binary_is_reported_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = [("gone", None), ("no server", Path(sys.executable))]
    monkeypatch.setattr(servers, "_candidates", lambda: candidates)
    assert find_binaries.__wrapped__() == (
        (),
        ("gone: not found", "no server: does not run on this machine"),
    )


def test_a_run_without_any_real_server_fails_and_says_why() -> None:
    """A run on fakeredis alone would pass and prove little."""
    program = """
import pytest, sys
from tests.harness import servers
servers.find_binaries = lambda: servers.Found((), ("the path: not found",))
sys.exit(pytest.main(["-p", "no:cacheprovider", "-n", "0", "tests/oracle/test_spec.py"]))
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=60)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no real redis-server was found to test on (the path: not found)" in done.stderr
