"""What must be true of the counter, each property once, apart from how any machine achieves it.

First R13, the shortest statement of what the counter means; then what `oracle.explore` checks in
every state that it visits.
"""

from __future__ import annotations

from typing import NamedTuple

from oracle.model import (
    Change,
    Counter,
    Map,
    Memory,
    Owner,
    Result,
    Serve,
    Server,
    Step,
    View,
    call_at_once,
    step_result,
)


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
    ) -> tuple[Meaning, Result | Change | None]:
        """The step's result (None: refused, R2), and what is so after it."""
        heard = self.heard.put(instance, now)
        view = self._replace(heard=heard).view(key, instance, now, threshold)
        after, result = step_result(view, step)
        if after == view:
            return self._replace(heard=heard), result
        slices = self.slices.put((key, instance), (after.own, after.epoch))
        return Meaning(heard, self.epochs.put(key, after.epoch), slices), result

    def leave(self, instance: str) -> Meaning:
        """R16: it is dead to everyone from now on, and has nothing to come back with."""
        slices = Map({place: s for place, s in self.slices.items() if place[1] != instance})
        return self._replace(heard=self.heard.without(instance), slices=slices)


class Violation(AssertionError):
    """A property does not hold; the message says which, and its rule."""


MARKS = frozenset("-0135")
"""The digits that an explored operation can leave: see `explore.number_of`."""


def check_step(before: Server, after: Server) -> None:
    """What must be true of any transition of the server, whatever the request."""
    for key, counter in after.counters.items():
        if counter.epoch < before.counters.get(key, Counter()).epoch:
            raise Violation(f"R6: the epoch of {key} shrank")
        for name, piece in counter.slices.items():
            if not MARKS.issuperset(str(piece.value)):
                raise Violation(
                    f"R11: an operation counted twice: the slice of {name} is {piece.value}"
                )


def check_quiet(
    server: Server,
    owners: Map[str, Owner],
    unsure: frozenset[str],
    wall: int,
    transition: Serve,
) -> None:
    """R10, at quiescence: no call is under way, and no copy arrives any more.

    Each live instance is heard, and then looks at each counter. Its slices are found as it
    remembers them, or 0 in a newer epoch, unless it is `unsure`: it gave a call up, which may have
    run. Then the total is the sum of what the live instances remember for the counter's epoch.
    """
    looks = tuple((key, Step("get")) for key in sorted(server.counters))
    for steps in ((), looks):
        for name in sorted(owners):
            known = owners[name]
            server, owner, _ = call_at_once(server, known, steps, wall, transition)
            if name not in unsure:
                _check_memory(known, owner)
            owners = owners.put(name, owner)
    for key, counter in server.counters.items():
        remembered = [o.memory.get(key, Memory()) for o in owners.values()]
        total = sum(memory.value for memory in remembered if memory.epoch == counter.epoch)
        live = sum(counter.own(name) for name in owners)
        if live != total:
            raise Violation(f"R10: {key}: Redis holds {live} of the living, who remember {total}")


def _check_memory(before: Owner, after: Owner) -> None:
    for key, was in before.memory.items():
        now = after.memory[key]
        if now.epoch < was.epoch:
            raise Violation(f"R6: the epoch of {key} shrank in the eyes of {after.instance}")
        if now.value != (was.value if now.epoch == was.epoch else 0):
            raise Violation(f"R10: {after.instance} remembered {was} of {key}, and finds {now}")
