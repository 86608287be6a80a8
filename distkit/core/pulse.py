"""The life of an instance: when the background heartbeat of a `with` beats, and what it says.

What both shells share; the thread is in `counter.py`, the task in `asyncio.py`. While calls are
made they are the heartbeats (R4), and it sends nothing. It holds the counter weakly: whoever
forgets the counter ends it.
"""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("distkit")

BEATS = 3
"""In each threshold: one may fail before the instance is presumed dead."""


class Pulse:
    """When an instance was last heard, and when it is to be heard again."""

    def __init__(self, threshold_ms: int) -> None:
        self.interval_s = threshold_ms / 1000 / BEATS
        self.heard()

    def heard(self) -> None:
        """A request has been answered."""
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether it has been silent for so long that a heartbeat is to be sent."""
        return self._left_s() <= 0

    def wait_s(self) -> float:
        """How long to wait until the next look; after a heartbeat that failed, a whole interval."""
        left_s = self._left_s()
        return left_s if left_s > 0 else self.interval_s

    def _left_s(self) -> float:
        return self._last + self.interval_s - time.monotonic()


class Report:
    """Says in the log that Redis cannot be reached, once, and that it can be again."""

    def __init__(self, instance_id: str) -> None:
        self._instance_id = instance_id
        self._failing = False

    def failed(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            logger.warning("the heartbeat of instance %s fails: %s", self._instance_id, error)

    def succeeded(self) -> None:
        if self._failing:
            self._failing = False
            logger.info("the heartbeat of instance %s works again", self._instance_id)

    def could_not_leave(self, error: object) -> None:
        logger.warning(
            "instance %s could not say that it leaves; it will be presumed dead: %s",
            self._instance_id,
            error,
        )
