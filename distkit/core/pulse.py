"""When an instance's background heartbeat is due, and what it writes to the log.

Both counters share this file; the thread is in `threads.py`, the task in `tasks.py`. Calls are
heartbeats too (R4): while a program makes calls, the background sends nothing.
"""

from __future__ import annotations

import logging
import time

logger: logging.Logger = logging.getLogger("distkit")

BEATS = 3
"""How many heartbeats fit into a threshold: one may fail before the instance is presumed dead."""


class Pulse:
    """When the server last answered an instance, and when its next heartbeat is due."""

    def __init__(self, threshold_ms: int) -> None:
        self.interval_s: float = threshold_ms / 1000 / BEATS
        self.last_s: float = time.monotonic()  # when a request was answered last

    def is_due(self) -> bool:
        """Whether the instance has been silent long enough to need a heartbeat."""
        return self._left_s() <= 0

    def wait_s(self) -> float:
        """How long to wait before looking again: a whole interval after a heartbeat that failed."""
        left_s = self._left_s()
        return left_s if left_s > 0 else self.interval_s

    def _left_s(self) -> float:
        return self.last_s + self.interval_s - time.monotonic()


FEW, PROGRESS = 100, 10_000
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
