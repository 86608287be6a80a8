"""Ports that are wrong on purpose: `python -m tests.ports.wrong_port FAULT`.

Each is the Python port with a few lines changed. The suite must find every one of them, and shrink
it; tests/ports/test_ports.py has the rules that they break.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from distkit.testing import use_script
from tests.equivalence.mutants import MUTANTS
from tests.ports.python_port import Port

Message = dict[str, Any]


class TakesAnyKey(Port):
    def call(self, message: Message) -> Message:
        if "key" in message:
            message["key"] = message["key"].replace(":", "")
        return super().call(message)


class JumpsBackCount(Port):
    """Time goes on when the clock goes back."""

    last = now = 0

    def call(self, message: Message) -> Message:
        self.now += abs(message["wall_ms"] - self.last)
        self.last = message["wall_ms"]
        return super().call(message | {"wall_ms": self.now})


class HeartbeatDoesNothing(Port):
    def call(self, message: Message) -> Message:
        return {} if message["op"] == "heartbeat" else super().call(message)


class DeadTooLate(Port):
    def reset(self, message: Message) -> Message:
        return super().reset(message | {"threshold_ms": message["threshold_ms"] + 1})


class NeverDead(Port):
    def reset(self, message: Message) -> Message:
        return super().reset(message | {"threshold_ms": 10**12})


class SetKeepsTheOthers(Port):
    def call(self, message: Message) -> Message:
        op = message["op"]
        return super().call(message | {"op": "set_on_instance" if op == "set" else op})


class DecAdds(Port):
    def call(self, message: Message) -> Message:
        return super().call(message | {"op": message["op"].replace("dec", "inc")})


class DeleteForgetsWhatWas(Port):
    def call(self, message: Message) -> Message:
        answer = super().call(message)
        gone = message["op"] == "delete" and "error" not in answer
        return {"cumulative": 0, "instance_count": 0} if gone else answer


class ComesBackWithNothing(Port):
    """After a loss the instance starts again instead of putting its slices back."""

    def empty(self, message: Message) -> Message:
        self.instances.clear()
        return super().empty(message)


class CountsRetriesTwice(Port):
    def call(self, message: Message) -> Message:
        if message.pop("lose_reply", False):
            super().call(message)
        return super().call(message)


def planted(defect: str) -> type[Port]:
    """The port with one of the defects of tests/equivalence/mutants.py in its script."""
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == defect)

    class Planted(Port):
        def join(self, name: str) -> Any:
            counter = super().join(name)
            use_script(counter, mutant.script())
            return counter

    return Planted


FAULTS: dict[str, Callable[[], Port]] = {
    "takes any key": TakesAnyKey,
    "jumps back count": JumpsBackCount,
    "heartbeat does nothing": HeartbeatDoesNothing,
    "dead 1 ms too late": DeadTooLate,
    "never dead": NeverDead,
    "set keeps the others": SetKeepsTheOthers,
    "dec adds": DecAdds,
    "delete forgets what was": DeleteForgetsWhatWas,
    "comes back with nothing": ComesBackWithNothing,
    "counts retries twice": CountsRetriesTwice,
    "takes counts beyond 2^53": planted("counts beyond 2^53 are accepted"),
    "subtracts dead stale slices": planted("a dead stale slice is subtracted from the total"),
    "a read revives": planted("a read adopts the epoch and revives the stale slice"),
    "negative slices stay away": planted("only positive slices are restored"),
}

if __name__ == "__main__":
    FAULTS[sys.argv[1]]().run()
