"""What a user might pick instead of distkit, on the same server and in the same run.

None of them knows which process counted what, except the Rust crate.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from limits.storage import RedisStorage

from tests.harness.servers import RedisServer

_PORTS = Path(__file__).parents[1] / "tests" / "ports"
CRATE = _PORTS / "rust"
"""The published crate's strict counter."""
RUST_PORT = _PORTS / "rust-session"
"""This counter in Rust."""
INCRBY = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


def candidates(client: redis.Redis) -> dict[str, Callable[[], object]]:
    """One `inc` of each."""
    script: Any = client.register_script(INCRBY)
    pool: Any = client.connection_pool
    storage = RedisStorage("redis://unused", connection_pool=pool)
    return {
        "INCRBY in a script": lambda: script(keys=["scripted"], args=[1]),
        "limits' RedisStorage.incr": lambda: storage.incr("limited", 3600),
    }


class Rust:
    """A counter in Rust, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    def start(cls, server: RedisServer, folder: Path) -> Rust | None:
        """The `bench` of the package in this folder; None where cargo is not found."""
        if shutil.which("cargo") is None:
            return None
        manifest = str(folder / "Cargo.toml")
        subprocess.run(
            ["cargo", "build", "--quiet", "--release", "--manifest-path", manifest], check=True
        )
        program = folder / "target" / "release" / "bench"
        address = f"unix://{server.socket}"
        process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "DISTKIT_URL": address},
        )
        counter = cls(process)
        counter.us_a_call(1, 1)
        return counter

    def us_a_call(self, tasks: int, calls: int) -> float:
        """So many tasks that each make so many calls one after the other."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{tasks} {calls}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline()) / tasks / calls

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
