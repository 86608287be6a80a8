"""What happens to an instance besides its calls: events for `on_event=`, and lines in the log.

An instance learns of most of this only afterwards, from a reply. It tells the logger `distkit`, and
the function that the counter was given, in the thread or event loop that got the reply. The
function must not call the counter. An error that it raises is logged.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from distkit.core.instance import Instance, Purpose, Request

logger: logging.Logger = logging.getLogger("distkit")


class EventKind(enum.Enum):
    """What happened."""

    PRESUMED_DEAD = "presumed dead"
    """The session was lost after a silence of the threshold or more: others presumed the instance
    dead (R5). A process that makes no calls for so long has to be inside `with`."""

    LOST_WRITES = "lost writes"
    """The session was lost without such a silence: Redis lost data, or somebody found that it had,
    and had every instance put back what it counts (R10)."""

    PUT_BACK = "put back"
    """A new session is open, and every slice has been put back into it."""

    UNREACHABLE = "unreachable"
    """A request got no reply. It is told once, until REACHABLE."""

    REACHABLE = "reachable"
    """A request was answered again."""

    OWED = "owed"
    """Redis could not be told what is held of a key, a release for example (R20)."""

    PAID = "paid"
    """Redis has been told what was owed on a key."""

    LEFT = "left"
    """The instance has left (R16). With an error: it could not say so, and will be presumed
    dead."""


class Event(NamedTuple):
    """Something that happened to an instance.

    Attributes:
        kind: what.
        instance_id, label: to whom.
        key: the counter, if it is about one (OWED, PAID).
        silent_s: how long Redis had not answered the instance before that, in seconds.
        error: what went wrong (UNREACHABLE, LEFT).
    """

    kind: EventKind
    instance_id: str
    label: str
    key: str | None = None
    silent_s: float = 0.0
    error: BaseException | None = None


OnEvent = Callable[[Event], None]

_LEVELS = {
    EventKind.PRESUMED_DEAD: logging.WARNING,
    EventKind.LOST_WRITES: logging.WARNING,
    EventKind.OWED: logging.WARNING,
    EventKind.PAID: logging.INFO,
    EventKind.PUT_BACK: logging.DEBUG,  # `Report` tells how far it has come, if it takes long
    # Whoever made the call has the error, and failed heartbeats have lines of their own.
    EventKind.UNREACHABLE: logging.DEBUG,
    EventKind.REACHABLE: logging.DEBUG,
    EventKind.LEFT: logging.DEBUG,
}


class Observer:
    """Follows one instance, and tells what happens to it.

    Args:
        on_event: who is told; None: only the log.

    Raises:
        TypeError: on_event cannot be called.
    """

    def __init__(self, on_event: OnEvent | None) -> None:
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event must be callable, not {type(on_event).__name__}")
        self._on_event = on_event
        self.reset()

    def reset(self) -> None:
        """Another instance begins, after a fork."""
        self._heard_at = time.monotonic()
        self._is_away = False
        self._was_lost = False  # a session, and not all has been put back since
        self._owed: set[str] = set()

    def heard(self, instance: Instance, request: Request) -> None:
        """The request was answered, and the instance has taken the reply."""
        now = time.monotonic()
        silent_s, self._heard_at = now - self._heard_at, now
        if self._is_away:
            self._is_away = False
            self._tell(instance, EventKind.REACHABLE, silent_s=silent_s)
        if instance.has_opened:
            if self._was_lost and not instance.to_put_back:
                self._was_lost = False
                self._tell(instance, EventKind.PUT_BACK)
        elif request.purpose in (Purpose.CALL, Purpose.RESTORE):
            self._was_lost = True
            died = silent_s * 1000 >= instance.threshold_ms
            kind = EventKind.PRESUMED_DEAD if died else EventKind.LOST_WRITES
            self._tell(instance, kind, silent_s=silent_s)

    def got_no_reply(self, instance: Instance, error: BaseException | None) -> None:
        """The request was given up."""
        if not self._is_away:
            self._is_away = True
            silent_s = time.monotonic() - self._heard_at
            self._tell(instance, EventKind.UNREACHABLE, silent_s=silent_s, error=error)

    def settled(self, instance: Instance, key: str, is_owed: bool) -> None:
        """Redis could not be told what is held of a key, or has been told (R20)."""
        if is_owed and key in self._owed:
            return
        (self._owed.add if is_owed else self._owed.discard)(key)
        self._tell(instance, EventKind.OWED if is_owed else EventKind.PAID, key)

    def left(self, instance: Instance, error: BaseException | None) -> None:
        """The instance has left, or could not say so."""
        self._owed.clear()
        self._was_lost = False
        self._tell(instance, EventKind.LEFT, error=error)

    def _tell(
        self,
        instance: Instance,
        kind: EventKind,
        key: str | None = None,
        silent_s: float = 0.0,
        error: BaseException | None = None,
    ) -> None:
        event = Event(kind, instance.instance_id, instance.label, key, silent_s, error)
        about = f" {key!r}" if key is not None else ""
        after = f" after {silent_s:.1f} s without a reply" if silent_s else ""
        logger.log(
            _LEVELS[kind], "instance %s: %s%s%s", event.instance_id, kind.value, about, after
        )
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                logger.exception("on_event failed; the call itself is not affected")
