"""What must be true of the counter, each property once, apart from how any machine achieves it.

So far R13, the shortest statement of what the counter means.
"""

from __future__ import annotations

from typing import NamedTuple

from oracle.model import Map, Result, Step, View, step_result


class Meaning(NamedTuple):
    """R13: without faults every reply is a pure function of the calls so far.

    The total that instance I sees on key K at time T is the sum of the current-epoch counts of I
    and of every J with T - heartbeat(J) < D, where a slice is what its owner last made it. No
    sessions, no messages, no removal: laziness shows nowhere.
    """

    heard: Map[str, int] = Map()
    epochs: Map[str, int] = Map()
    slices: Map[tuple[str, str], tuple[int, int]] = Map()

    def view(self, key: str, instance: str, now: int, threshold: int) -> View:
        epoch = self.epochs.get(key, 0)
        current = {
            owner: count
            for (k, owner), (count, made_in) in self.slices.items()
            if k == key and made_in == epoch
        }
        live = {
            owner
            for owner, heartbeat in self.heard.items()
            if owner == instance or now - heartbeat < threshold
        }
        total = sum(count for owner, count in current.items() if owner in live)
        return View(total, epoch, current.get(instance, 0))

    def call(
        self, instance: str, key: str, step: Step, now: int, threshold: int
    ) -> tuple[Meaning, Result | None]:
        """The step's result (None: refused, R2), and what is so after it."""
        heard = self.heard.put(instance, now)
        view = self._replace(heard=heard).view(key, instance, now, threshold)
        after, result = step_result(view, step)
        if after == view:
            return self._replace(heard=heard), result
        slices = self.slices.put((key, instance), (after.own, after.epoch))
        return Meaning(heard, self.epochs.put(key, after.epoch), slices), result
