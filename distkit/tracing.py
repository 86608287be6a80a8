"""What tools can see of a counter: one report for every request that it sends to Redis.

Requests do not go through the client's `execute_command`: many calls share one, and a retry has to
be known as such. Give the counter a function, `on_request=`; it is called after every request, in
the thread or event loop that sent it, whether or not a reply came. The example
`examples/opentelemetry_spans.py` makes spans of the reports.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from distkit.core.instance import Kind, Purpose, Reply, Request

logger: logging.Logger = logging.getLogger("distkit")


class RequestReport(NamedTuple):
    """A request, after the fact.

    Attributes:
        purpose: "call"; the instance's housekeeping: "heartbeat" or "sweep", whose steps look at
            counters; or its session: "open", "restore", "drop" or "leave".
        instance_id: the instance that sent it.
        keys: the counters that it concerned, under the names that the program uses.
        steps: how many operations it carried, from all the calls that shared it.
        transmissions: how often it was sent: 1, and 1 more for each retry.
        began_ns, ended_ns: when, as `time.time_ns` tells it.
        error: what ended it without a reply; None if a reply came.
    """

    purpose: str
    instance_id: str
    keys: tuple[str, ...]
    steps: int
    transmissions: int
    began_ns: int
    ended_ns: int
    error: BaseException | None


HOUSEKEEPING: Final = {Kind.BEAT: "heartbeat", Kind.LOOKS: "sweep"}
"""R10, R18: calls that no caller has made."""

OnRequest = Callable[[RequestReport], None]


def checked_hook(on_request: OnRequest | None) -> OnRequest | None:
    """TypeError if it cannot be called."""
    if on_request is not None and not callable(on_request):
        raise TypeError(f"on_request must be callable, not {type(on_request).__name__}")
    return on_request


def observed(
    send: Callable[[Request], Reply], on_request: OnRequest | None
) -> Callable[[Request], Reply]:
    """The same function, reporting each request."""
    if on_request is None:
        return send

    def sending(request: Request) -> Reply:
        began_ns, error = time.time_ns(), None
        try:
            return send(request)
        except BaseException as ended:
            error = ended
            raise
        finally:
            _report(on_request, request, began_ns, error)

    return sending


def observed_async(
    send: Callable[[Request], Awaitable[Reply]], on_request: OnRequest | None
) -> Callable[[Request], Awaitable[Reply]]:
    """The same coroutine function, reporting each request."""
    if on_request is None:
        return send

    async def sending(request: Request) -> Reply:
        began_ns, error = time.time_ns(), None
        try:
            return await send(request)
        except BaseException as ended:
            error = ended
            raise
        finally:
            _report(on_request, request, began_ns, error)

    return sending


def _purpose(request: Request) -> str:
    if request.purpose is Purpose.CALL:
        return HOUSEKEEPING.get(request.call.kind, "call")
    return request.purpose.name.lower()


def _report(
    on_request: OnRequest, request: Request, began_ns: int, error: BaseException | None
) -> None:
    """An error of the hook's is logged: the request has been sent all the same."""
    by_key = request.call.by_key if request.purpose not in (Purpose.OPEN, Purpose.LEAVE) else {}
    report = RequestReport(
        purpose=_purpose(request),
        instance_id=request.head[0].decode(),
        keys=tuple(by_key),
        steps=sum(map(len, by_key.values())),
        transmissions=request.transmissions,
        began_ns=began_ns,
        ended_ns=time.time_ns(),
        error=error.__cause__ or error if error else None,
    )
    try:
        on_request(report)
    except Exception:
        logger.exception("on_request failed; the request itself is not affected")
