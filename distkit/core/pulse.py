"""When an instance's background heartbeat is due, and what it writes to the log.

Both counters share this file; the thread is in `threads.py`, the task in `tasks.py`.
"""

from __future__ import annotations

import logging
from typing import Final

logger: logging.Logger = logging.getLogger("distkit")

BEATS = 3
"""How many heartbeats fit into a threshold: one may fail before the instance is presumed dead."""

RETRIES = 12
"""A heartbeat that failed is sent again after this part of the threshold."""


def promise_ms(threshold_ms: int) -> int:
    """R19: within how many ms an instance that sends heartbeats is heard again: an interval and a
    bit, in whole milliseconds."""
    return -(-2 * threshold_ms // 5)


class Pulse:
    """How long an instance waits for its next heartbeat. Heartbeats look after its counters too
    (R10, R18), so they are sent whether or not the program makes calls."""

    def __init__(self, threshold_ms: int) -> None:
        self.interval_s: float = threshold_ms / 1000 / BEATS
        self.retry_s: float = threshold_ms / 1000 / RETRIES


FEW: Final = 100
PROGRESS: Final = 10_000
"""The log is told when more than a few slices are put back, and after every so many."""


class Report:
    """Logs what happens to an instance: that Redis cannot be reached, once, and that it can be
    again; how far putting back has come; that leaving failed."""

    def __init__(self, instance_id: str) -> None:
        self._instance_id = instance_id
        self._failing = False
        self._left = 0  # slices to be put back, when the log was told last

    def failed(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            logger.warning("the heartbeat of instance %s fails: %s", self._instance_id, error)

    def succeeded(self) -> None:
        if self._failing:
            self._failing = False
            logger.info("the heartbeat of instance %s works again", self._instance_id)

    def putting_back(self, left: int) -> None:
        """So many slices are left to be put back; calls wait for all of them (R10)."""
        if left > max(self._left, FEW) or (self._left and self._left - left >= PROGRESS):
            logger.info("instance %s puts back %d slices; calls wait", self._instance_id, left)
            self._left = left
        elif not left and self._left:
            logger.info("instance %s has put back all its slices", self._instance_id)
            self._left = 0

    def could_not_leave(self, error: object) -> None:
        logger.warning(
            "instance %s could not say that it leaves; it will be presumed dead: %s",
            self._instance_id,
            error,
        )
