"""What explored worlds have reached: each operation, outcome and reply, and each rule at work.

That an explorer finds nothing says something only about what it has reached. `reached` names what
happens in one exchange between an instance and the server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from oracle.check.fast.search import Search
from oracle.check.state import Bounds
from oracle.model import (
    HERE,
    Done,
    Late,
    Leave,
    Map,
    Message,
    NoSession,
    Open,
    Request,
    Server,
    View,
    serve,
    step_result,
)
from oracle.model.messages import Part
from oracle.model.operations import DROP, LOOK
from oracle.model.state import Counter as Stored

EVERYTHING = {
    *("get", "inc", "set", "set_on_instance", "delete", "delete_on_instance"),
    *("inc on a condition that holds", "inc on a condition that does not hold"),
    *("set on a condition that holds", "set on a condition that does not hold"),
    "set_on_instance on a condition that holds",
    "set_on_instance on a condition that does not hold",
    *("a new request", "a retry", "a late copy executes nothing", "a session is gone"),
    *("an open makes a session", "an open gets the same session", "an open is late"),
    *("an open replaces a session", "an open closes sessions", "an open finds lost writes"),
    *("an open replaces the session of a late copy", "an instance leaves"),
    *("lost writes are found", "a listed counter is found lost"),
    *("a count is restored", "a remembered epoch is restored"),
    *("a slice is restored in a newer epoch", "slices become stale"),
    *("a dead slice is removed", "a slice of an earlier session is removed"),
    *("a counter is listed", "a counter is listed again", "a counter is not there"),
    *("a counter vanishes", "a counter vanishes but for its epoch"),
    "a counter of an epoch is made again",
    *("a look removes a slice", "a look removes none"),
    *("a drop removes a slice", "a drop removes none"),
    *("a promise is raised", "a promise is taken back", "a broken promise stops the time"),
    "the wall clock has jumped back",
}
"""All that an exchange with the server can reach. (A step that R2 refuses needs large counts, which
explored worlds do not have.)"""


def reached_in(bounds: Bounds) -> Counter[str]:
    """How many different exchanges of a world have reached what, in all of its states."""
    search = Search(bounds)
    assert not search.run().violation
    asked = search.space.next.served()
    return Counter(name for server, message in asked for name in set(reached(server, message)))


def reached(server: Server, message: Message, wall: int = 0) -> Iterator[str]:
    """What the server does when it is asked this, at this time by the wall clock."""
    after, reply = serve(server, message, wall)
    session = server.sessions.get(message.instance)
    yield from _time(server, after, wall)
    if isinstance(message, Open):
        yield from _open(server, after, message)
    elif isinstance(reply, Late):
        yield "a late copy executes nothing"
    elif isinstance(reply, NoSession):
        had = session is not None and session.number == message.session
        yield "lost writes are found" if had else "a session is gone"
        if server.keys != after.keys:
            yield "a listed counter is found lost"
    elif isinstance(message, Leave):
        yield "an instance leaves"
        if server.due is not None and after.due is None:
            yield "a promise is taken back"
    else:
        assert isinstance(reply, Done)
        assert session is not None
        yield "a retry" if session.seq == message.seq else "a new request"
        if session.seq != message.seq:
            for part, view in zip(message.parts, reply.views, strict=True):
                yield from _part(server, after, message, part, view)


def _time(server: Server, after: Server, wall: int) -> Iterator[str]:
    """R3, R19."""
    if server.clock is None:
        return
    passed = wall - server.wall
    if passed < 0:
        yield "the wall clock has jumped back"
    if server.due is not None and server.clock + passed > server.due:
        yield "a broken promise stops the time"
    if after.due is not None and server.due is not None and after.due > server.due:
        yield "a promise is raised"


def _open(server: Server, after: Server, message: Open) -> Iterator[str]:
    """R14, R17."""
    before, now = server.sessions.get(message.instance), after.sessions.get(message.instance)
    if now == before or (before is not None and now is not None and now.number == before.number):
        yield "an open gets the same session" if before and before.fresh else "an open is late"
        return
    if before is None:
        yield "an open makes a session"
    elif before.seq >= message.acked:
        yield "an open replaces a session"
    elif before.number <= message.last:
        yield "an open finds lost writes"
    else:
        yield "an open replaces the session of a late copy"
    if server.sessions.keys() - after.sessions.keys():
        yield "an open closes sessions"


def _part(server: Server, after: Server, message: Request, part: Part, view: View) -> Iterator[str]:
    """R8, R9, R10, R15, R18: what became of a counter."""
    before, now = server.counters.get(part.key), after.counters.get(part.key)
    yield from _removed(server, after, message, before, now)
    if before is None:
        yield (
            "a counter of an epoch is made again"
            if view.epoch and now
            else "a counter is not there"
        )
    elif now is None:
        kept = part.key in after.keys
        yield "a counter vanishes but for its epoch" if kept else "a counter vanishes"
    if after.keys.get(part.key) == HERE != server.keys.get(part.key, -1):
        yield "a counter is listed" if before is None else "a counter is listed again"
    if message.restores:
        yield from _restored(server, message, part)
    has_slice = before is not None and message.instance in before.slices
    for step in part.steps:
        if step.op in (LOOK, DROP):
            gone = now is None or message.instance not in now.slices
            yield (
                f"a {step.op} removes a slice"
                if has_slice and gone
                else f"a {step.op} removes none"
            )
            continue
        condition, was = step.condition, view
        view, result = step_result(view, step)
        if condition is None:
            yield step.op if result is not None else f"{step.op} is refused"
        else:
            ran = getattr(result, "applied", False)
            yield f"{step.op} on a condition that {'holds' if ran else 'does not hold'}"
        if was.epoch != view.epoch and was.total:
            yield "slices become stale"


def _removed(
    server: Server, after: Server, message: Request, before: Stored | None, now: Stored | None
) -> Iterator[str]:
    """R8, R17."""
    slices = Map() if before is None else before.slices
    left = Map() if now is None else now.slices
    for name in slices.keys() - left.keys() - {message.instance}:
        lives = name in after.sessions
        yield "a slice of an earlier session is removed" if lives else "a dead slice is removed"


def _restored(server: Server, message: Request, part: Part) -> Iterator[str]:
    """R10."""
    epoch, count = server.counter(part.key).epoch, part.memory.count
    if part.memory.epoch < epoch:
        yield "a slice is restored in a newer epoch"
    elif part.memory.epoch > epoch:
        yield "a remembered epoch is restored"
    elif count:
        yield "a count is restored"
