"""The Python port as ports often are: Redis's own clock, and one instance to a process.

`python -m tests.ports.real_time_port [FAULT]`, with `DISTKIT_URL`: `slow` answers so late that no
verdict is possible, `never dead` is wrong.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from distkit import StrictInstanceAwareCounter
from tests.ports.python_port import Port

Message = dict[str, Any]


class RealTime(Port):
    def hello(self, message: Message) -> Message:
        return super().hello(message) | {
            "port": "in real time", "clock": "real", "instances": "one", "faults": ["lose_reply"],
        }  # fmt: skip

    def join(self, name: str) -> Any:
        counter = self.instances[name] = StrictInstanceAwareCounter(
            self.client, self.prefix, dead_instance_threshold_ms=self.threshold_ms
        )
        return counter


class Slow(RealTime):
    def call(self, message: Message) -> Message:
        time.sleep(0.1)
        return super().call(message)


class NeverDead(RealTime):
    def reset(self, message: Message) -> Message:
        return super().reset(message | {"threshold_ms": 10**12})


FAULTS = {"none": RealTime, "slow": Slow, "never dead": NeverDead}

if __name__ == "__main__":
    FAULTS[sys.argv[1] if len(sys.argv) > 1 else "none"]().run()
