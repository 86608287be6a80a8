"""R13 as a formula: the shortest statement of what the counter means.

It has no sessions, messages or removals. `tests/harness/side_by_side.py` compares it with
production in every history without faults.
"""

from __future__ import annotations

from typing import NamedTuple

from oracle.model import Change, CounterState, Map, Step, View, step_result


class Meaning(NamedTuple):
    """R13: without faults, every reply is a pure function of the calls so far.

    The total that instance I sees on key K at time T is the sum of the current-epoch counts of I
    and of every J with T < heartbeat(J) + threshold(J), where a slice is what its owner last made
    it. Whether and when dead slices were removed makes no difference.

    Attributes:
        leases: until when each instance is presumed alive.
        epochs: the epoch of each key.
        slices: the count of each (key, instance), and the epoch in which it was made.
    """

    leases: Map[str, int] = Map()
    epochs: Map[str, int] = Map()
    slices: Map[tuple[str, str], tuple[int, int]] = Map()

    def hear(self, instance: str, now: int, threshold: int) -> Meaning:
        """R4: a heartbeat."""
        return self._replace(leases=self.leases.put(instance, now + threshold))

    def view(self, key: str, instance: str, now: int) -> View:
        """What the instance sees of the counter at this time."""
        epoch = self.epochs.get(key, 0)
        current = {
            owner: count
            for (k, owner), (count, made_in) in self.slices.items()
            if k == key and made_in == epoch
        }
        live = {name for name, lease in self.leases.items() if name == instance or now < lease}
        total = sum(count for owner, count in current.items() if owner in live)
        return View(total, epoch, current.get(instance, 0))

    def call(
        self, instance: str, key: str, step: Step, now: int, threshold: int
    ) -> tuple[Meaning, CounterState | Change | None]:
        """The state after the step, and the step's result (None: refused, R2)."""
        heard = self.hear(instance, now, threshold)
        view = heard.view(key, instance, now)
        after, result = step_result(view, step)
        if after == view:
            return heard, result
        slices = self.slices.put((key, instance), (after.count, after.epoch))
        return Meaning(heard.leases, self.epochs.put(key, after.epoch), slices), result

    def leave(self, instance: str) -> Meaning:
        """R16: from now on the instance is dead to everyone, and it has no counts to come back
        with."""
        slices = Map({place: s for place, s in self.slices.items() if place[1] != instance})
        return self._replace(leases=self.leases.without(instance), slices=slices)
