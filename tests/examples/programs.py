"""Runs the examples as processes of their own, on loopback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.harness.servers import RedisServer

ROOT = Path(__file__).parents[2]
SECONDS = 60


@contextlib.contextmanager
def program(
    server: RedisServer, *words: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program beside this test, ended with it."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={
            **os.environ,
            "HOME": server.folder,  # gunicorn has a socket there
            "REDIS_URL": f"redis://127.0.0.1:{server.port}",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        process.kill()
        print(process.communicate()[0].decode()[-4000:])
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.communicate()


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, as an operator does."""
    process.terminate()
    process.communicate(timeout=SECONDS)


def get(url: str) -> tuple[int, str]:
    """The status and the body."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Until this holds and raises no OSError."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if holds():
                return
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)
