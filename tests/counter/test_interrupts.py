"""A Ctrl-C at any line of distkit loses and repeats no step, and the next call works.

The interrupt is raised in turn at every line that a call runs through in the files below. R11 and
the head of `core/instance.py` say what must hold. CPython handles signals only where a function or
a loop begins and after a call, while a tracer can interrupt between any two lines. So the test
raises none where a lock is about to be released or a plain flag to be set.
"""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import fakeredis
import pytest
import redis

import distkit
from distkit import StrictInstanceAwareCounter

OURS = {
    str(Path(distkit.__file__).parent / name)
    for name in (
        *("core/instance.py", "core/batching.py", "counter.py", "threads.py", "base.py"),
        *("redis/sync.py", "redis/meaning.py", "redis/settings.py", "redis/script.py"),
    )
}
SECONDS = 20


NOT_AT = ("with ", "caller.gone = True")


class Interrupter:
    """Raises KeyboardInterrupt at the n-th line of distkit that runs inside the `with` block."""

    def __init__(self, line: int) -> None:
        self._left = line
        self.place = ""

    def __enter__(self) -> Interrupter:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in OURS:
            return None
        code = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not code.startswith(NOT_AT):
            self._left -= 1
            if self._left == 0:
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._trace


def _within(call: Callable[[str], Any], key: str) -> Any:
    """Make the call and return its answer. A call that hangs fails the test."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call(key)), daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert answers, "it hangs or has failed"
    return answers[0]


def _first_call(_: redis.Redis, counter: StrictInstanceAwareCounter) -> None:
    """It opens a session."""


def _later_call(_: redis.Redis, counter: StrictInstanceAwareCounter) -> None:
    counter.heartbeat()


def _return(client: redis.Redis, counter: StrictInstanceAwareCounter) -> None:
    """It finds its session lost, opens another, and puts its slices back in two requests."""
    counter.inc_all([("k149", 7), ("j", 1)])
    client.flushall()


@pytest.mark.parametrize("before", [_first_call, _later_call, _return], ids=lambda f: f.__name__)
@pytest.mark.parametrize("operation", ["inc", "set"])
def test_an_interrupt_at_any_line_is_harmless(
    before: Callable[[redis.Redis, StrictInstanceAwareCounter], None],
    operation: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("distkit.core.instance.RESTORE_CHUNK", 1)
    line, outcomes = 1, set()
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    while True:
        counter = StrictInstanceAwareCounter(client, f"p{line}")
        before(client, counter)
        interrupter = Interrupter(line)
        try:
            with interrupter:
                getattr(counter, operation)("k", 5)
        except KeyboardInterrupt:
            pass
        else:
            break
        total, own = _within(counter.get, "k")
        assert total == own, interrupter.place
        assert own in (0, 5), interrupter.place
        assert _within(counter.inc, "k") == (own + 1, own + 1), interrupter.place
        if before is _return:
            assert _within(counter.get, "k149") == (7, 7), interrupter.place
        outcomes.add(own)
        line += 1
    assert line > 100, "many lines were interrupted"
    assert outcomes == {0, 5}, "some before the request was sent, some after"
