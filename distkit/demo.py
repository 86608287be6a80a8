"""`make demo`: the counter at work, told as a story of two servers. Needs the extra `demo`.

It runs on fakeredis, or on the server that REDIS_URL names (under a prefix of its own, of which it
leaves nothing). Nobody waits for 30 seconds: the wall clock is a number that the story moves.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

import redis

from distkit import CounterState, StrictInstanceAwareCounter

MISSING = "python -m distkit.demo needs {}: pip install 'distkit-counter[demo]'"

try:
    from rich.console import Console
    from rich.table import Table
except ModuleNotFoundError as _missing:
    raise SystemExit(MISSING.format(str(_missing.name).partition(".")[0])) from None

KEY = "connections"


class Story:
    """A table of what happens, each line with what the callers were told."""

    def __init__(self) -> None:
        self.now_ms: int = 0
        self._table = Table(show_lines=False, pad_edge=False)
        for column in ("time", "what happens", "(total, own)", "why"):
            self._table.add_column(column)

    def wait(self, seconds: int) -> None:
        self.now_ms += seconds * 1000
        self._table.add_section()

    def tell(self, what: str, answer: CounterState, why: str) -> None:
        total, own = answer
        self._table.add_row(f"{self.now_ms // 1000} s", what, f"({total}, {own})", why)

    def show(self, console: Console) -> None:
        console.print(self._table)


def connect() -> tuple[redis.Redis, str]:
    """The client, and what to call it. Without REDIS_URL nothing need be installed or running."""
    url = os.environ.get("REDIS_URL")
    if url:
        return redis.Redis.from_url(url), url.rpartition("@")[2]  # no password on the screen
    try:
        import fakeredis
    except ModuleNotFoundError as missing:
        raise SystemExit(MISSING.format(missing.name)) from None
    return fakeredis.FakeRedis(server=fakeredis.FakeServer()), "fakeredis, inside this process"


def lose_everything(client: redis.Redis, prefix: str) -> None:
    """What FLUSHALL does, for one prefix; all that it has is these three keys."""
    root = f"distkit:{{{prefix}}}:"
    client.delete(root + "instances", root + "keys", root + "counter:" + KEY)


def run(client: redis.Redis, story: Story) -> None:
    """Two servers count their connections; spec/RULES.md has the rules."""
    prefix = f"distkit-demo-{uuid.uuid4()}"

    def start(name: str) -> StrictInstanceAwareCounter:
        clock: Callable[[], int] = lambda: story.now_ms  # noqa: E731
        return StrictInstanceAwareCounter(client, prefix, instance_id=name, clock_ms=clock)

    tell = story.tell
    a, b = start("server-a"), start("server-b")
    tell("server-a accepts 5 connections", a.inc(KEY, 5), "its slice is 5")
    tell("server-b accepts 3", b.inc(KEY, 3), "the total is the sum of the slices")
    tell("server-a closes 2", a.dec(KEY, 2), "each changes its own slice only")
    story.wait(20)
    tell("server-b looks", b.get(KEY), "a read is a heartbeat; server-a has fallen silent")
    story.wait(10)
    tell(
        "server-b looks again", b.get(KEY), "30 s of silence: server-a's slice is removed (R5, R8)"
    )
    story.wait(5)
    tell("server-a was only slow", a.get(KEY), "it remembers its slice, and puts it back (R10)")
    tell("server-b looks", b.get(KEY), "the false death is healed")
    story.wait(5)
    tell("server-a sets the total to 100", a.set(KEY, 100), "a new epoch: server-a owns all of it")
    tell("server-b looks", b.get(KEY), "its old slice is stale and counts as 0 (R6)")
    tell("server-b accepts 1", b.inc(KEY), "it starts again from 0, and counts once")
    story.wait(5)
    lose_everything(client, prefix)
    tell("Redis loses everything; a looks", a.get(KEY), "server-a's slice is back")
    tell("server-b looks", b.get(KEY), "and with server-b's the total is whole again (R10)")
    tell("server-b deletes the counter", b.delete(KEY), "what was there; the epoch moves on")
    tell("server-a looks", a.get(KEY), "nothing left")
    lose_everything(client, prefix)


def main() -> None:
    console = Console(width=100)
    client, name = connect()
    story = Story()
    console.print(f"Two servers count their open connections in one Redis ({name}).")
    run(client, story)
    story.show(console)


if __name__ == "__main__":
    main()
