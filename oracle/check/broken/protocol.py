"""What a broken protocol is, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from oracle.check.state import Bounds, Protocol
from oracle.model import Memory, Message, Part, Request, Server, Session
from oracle.model import server as machine


class Broken(NamedTuple):
    """A defective machine; a world in which its fault shows; the property that it breaks there."""

    protocol: Protocol
    bounds: Bounds
    breaks: str


def with_parts(request: Request, change: Callable[[Part], Part]) -> Request:
    return request._replace(parts=tuple(map(change, request.parts)))


def with_memory(request: Message, change: Callable[[str, Memory], Memory]) -> Message:
    """The request as if its instance remembered something else."""
    if not isinstance(request, Request):
        return request
    return with_parts(request, lambda p: p._replace(memory=change(p.key, p.memory)))


def with_session(server: Server, instance: str, session: Session) -> Server:
    return server._replace(sessions=server.sessions.put(instance, session))


@contextmanager
def replaced(**functions: Callable[..., Any]) -> Iterator[None]:
    """Inside, these functions of `oracle.model.server` stand in for those of the same name."""
    before = {name: getattr(machine, name) for name in functions}
    for name, function in functions.items():
        setattr(machine, name, function)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(machine, name, function)
