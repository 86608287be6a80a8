"""Ways to limit how many work at once, as people write them. Each has the same slots and times."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import redis
from redis.exceptions import LockError

from distkit import StrictInstanceAwareCounter
from distkit.inspection import inspect

SLOTS = 4
TTL_MS = 1_500
"""How long a crashed process may hold its slot: the time to live, or the threshold."""
CRATE = Path(__file__).parents[2] / "tests" / "ports" / "rust"


class Semaphore(Protocol):
    def enter(self) -> bool:
        """Take a slot, or say that there is none. Does not wait."""

    def leave(self) -> None:
        """Give it back."""


class Way(NamedTuple):
    """A way to do it.

    Attributes:
        title: what it is called on the page.
        semaphore: a process's own, inside `with`.
        taken: how many slots it believes to be taken.
    """

    title: str
    semaphore: Callable[[str], AbstractContextManager[Semaphore]]
    taken: Callable[[redis.Redis], int]


@contextlib.contextmanager
def _refreshing(refresh: Callable[[], object]) -> Iterator[None]:
    """Call it in the background, every third of the time to live."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(TTL_MS / 3000):
            with contextlib.suppress(redis.exceptions.RedisError):
                refresh()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# --- A counter with a time to live ---------------------------------------------------------------


class Incr:
    """INCR and look; the key expires when nobody has entered for the time to live."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def enter(self) -> bool:
        taken = self._client.incr("slots")
        if taken > SLOTS:
            self._client.decr("slots")
            return False
        self._client.pexpire("slots", TTL_MS)
        return True

    def leave(self) -> None:
        self._client.decr("slots")


@contextlib.contextmanager
def _incr(socket: str) -> Iterator[Semaphore]:
    yield Incr(redis.Redis(unix_socket_path=socket))


def _incr_taken(client: Any) -> int:
    return int(client.get("slots") or 0)


# --- A lock for each slot ------------------------------------------------------------------------


class Locks:
    """redis-py's Lock, one for each slot, which is extended in the background."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._held: Any = None

    def enter(self) -> bool:
        for slot in range(SLOTS):
            lock = self._client.lock(f"slot-{slot}", timeout=TTL_MS / 1000, thread_local=False)
            if lock.acquire(blocking=False):
                self._held = lock
                return True
        return False

    def leave(self) -> None:
        held, self._held = self._held, None
        with contextlib.suppress(LockError):  # it was lost meanwhile
            held.release()

    def refresh(self) -> None:
        if self._held is not None:
            with contextlib.suppress(LockError, AttributeError):
                self._held.reacquire()


@contextlib.contextmanager
def _locks(socket: str) -> Iterator[Semaphore]:
    locks = Locks(redis.Redis(unix_socket_path=socket))
    with _refreshing(locks.refresh):
        yield locks


def _locks_taken(client: Any) -> int:
    return int(client.exists(*(f"slot-{slot}" for slot in range(SLOTS))))


# --- A sorted set of those who are present --------------------------------------------------------

PRESENT = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
if ARGV[3] == 'count' then return redis.call('ZCARD', KEYS[1]) end
if ARGV[3] == 'enter' and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then return 0 end
redis.call('ZADD', KEYS[1], now, ARGV[1])
return 1
"""


class Present:
    """A member for each holder, with the time of its last sign of life."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._script = client.register_script(PRESENT)
        self._member = ""

    def enter(self) -> bool:
        member = uuid.uuid4().hex
        if not self._script(keys=["present"], args=[member, TTL_MS, "enter", SLOTS]):
            return False
        self._member = member
        return True

    def leave(self) -> None:
        member, self._member = self._member, ""
        self._client.zrem("present", member)

    def refresh(self) -> None:
        if member := self._member:
            self._script(keys=["present"], args=[member, TTL_MS, "refresh", SLOTS])


@contextlib.contextmanager
def _present(socket: str) -> Iterator[Semaphore]:
    present = Present(redis.Redis(unix_socket_path=socket))
    with _refreshing(present.refresh):
        yield present


def _present_taken(client: Any) -> int:
    return int(client.register_script(PRESENT)(keys=["present"], args=["", TTL_MS, "count", 0]))


# --- The published Rust crate --------------------------------------------------------------------


class Crate:
    """The crate's strict counter: `inc`, look, and `dec` if it was full."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._ask({"op": "hello", "protocol": 1})
        self._ask({"op": "reset", "prefix": "slots", "threshold_ms": TTL_MS})
        self._name = uuid.uuid4().hex

    def _ask(self, message: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def call(self, op: str) -> int:
        message = {"op": op, "instance": self._name, "key": "slots"}
        return int(self._ask(message | ({} if op == "get" else {"count": 1}))["cumulative"])

    def enter(self) -> bool:
        if self.call("inc") <= SLOTS:
            return True
        self.call("dec")
        return False

    def leave(self) -> None:
        self.call("dec")


def _program() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", CRATE / "target"))
    return target / "release" / "distkit-rust-port"


@contextlib.contextmanager
def _crate(socket: str) -> Iterator[Crate]:
    # It ends with us: its stdin ends.
    process = subprocess.Popen(
        [_program()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DISTKIT_URL": f"unix://{socket}"},
    )
    try:
        yield Crate(process)
    finally:
        process.kill()
        process.wait()


_LOOKING: dict[str, tuple[AbstractContextManager[Crate], Crate]] = {}
"""The crate for those who only look, one for each server, and what keeps its process alive."""


def _crate_taken(client: redis.Redis) -> int:
    """Its `get` is a call of an instance that counts 0."""
    socket = client.connection_pool.connection_kwargs["path"]
    if socket not in _LOOKING:
        process = _crate(socket)
        _LOOKING[socket] = process, process.__enter__()
    return _LOOKING[socket][1].call("get")


# --- distkit -------------------------------------------------------------------------------------


class Ours:
    """A limit."""

    def __init__(self, counter: StrictInstanceAwareCounter) -> None:
        self._limit = counter.limit("slots", SLOTS)

    def enter(self) -> bool:
        return self._limit.acquire(blocking=False)

    def leave(self) -> None:
        self._limit.release()


@contextlib.contextmanager
def _ours(socket: str) -> Iterator[Semaphore]:
    client = redis.Redis(unix_socket_path=socket)
    with StrictInstanceAwareCounter(client, "slots", dead_instance_threshold_ms=TTL_MS) as counter:
        yield Ours(counter)


def _ours_taken(client: redis.Redis) -> int:
    counter = inspect(client, "slots").counters.get("slots")
    return counter.total or 0 if counter else 0


WAYS = {
    "incr": Way("`INCR` and a time to live", _incr, _incr_taken),
    "locks": Way("redis-py's `Lock`, one for each slot", _locks, _locks_taken),
    "present": Way("a sorted set of members", _present, _present_taken),
    "crate": Way("Rust crate `distkit` 0.7.1: `inc`, look, `dec`", _crate, _crate_taken),
    "ours": Way("distkit: `limit`", _ours, _ours_taken),
}


def available() -> list[str]:
    """All of them; without cargo, all but the crate."""
    if shutil.which("cargo") is None:
        print("cargo is not installed: the Rust crate is left out")
        return [way for way in WAYS if way != "crate"]
    manifest = str(CRATE / "Cargo.toml")
    subprocess.run(["cargo", "build", "-q", "--release", "--manifest-path", manifest], check=True)
    return list(WAYS)
