"""The processes that count, as their parent sees them, and the observer of a total."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from distkit import DistkitError, StrictInstanceAwareCounter
from distkit.core.partitions import name_of, partition_of
from tests.chaos.books import GlobalCall, Reset, unexplained
from tests.chaos.clients import Steering, client_of
from tests.chaos.worker import PROBE
from tests.harness.deployments import Address
from tests.harness.servers import die_with_the_parent

THRESHOLD_MS: Final = 3_000
"""Of the instances, where a fault is about those that are presumed dead."""
LONG_THRESHOLD_MS: Final = 60_000
"""Of the instances, where none of them may be presumed dead, however slow the machine is."""
ROOT: Final = Path(__file__).parents[2]
ANSWER_S: Final = 60.0
ATTEMPTS: Final = 3
OBSERVES_EVERY_S: Final = 0.05
PATIENCE_S: Final = 0.3
"""After so long without an answer, the observer takes Redis to be unreachable."""
STYLES: Final = ("threads", "tasks")


class Planted(NamedTuple):
    """A defect: of the script (`tests.equivalence.mutants`), or of a process (`defects`)."""

    mutant: str = ""
    defect: str = ""


NOTHING: Final = Planted()


class Process:
    """A worker.

    Args:
        settings: of `worker.Worker`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.global_calls: dict[tuple[str, float], GlobalCall] = {}
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.worker", json.dumps(settings)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_the_parent(),
        )
        self._reader = threading.Thread(target=self._hear, daemon=True)
        self._reader.start()

    def _hear(self) -> None:
        assert self._popen.stdout
        for line in self._popen.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # it was killed in the middle of a line
                message = json.loads(line)
                if message.get("event") == "global":
                    self._note(message)
                else:
                    self._answers.put(message)

    def _note(self, message: dict[str, Any]) -> None:
        key, began, ended = message["key"], message["began"], message.get("ended")
        call = GlobalCall(key, began, float("inf") if ended is None else ended)
        self.global_calls[key, began] = call

    def tell(self, do: str, **arguments: Any) -> None:
        assert self._popen.stdin
        self._popen.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._popen.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Its next answer."""
        return self._answers.get(timeout=ANSWER_S)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.tell(do, **arguments)
        return self.hear()

    def kill(self) -> None:
        self._popen.kill()
        self._end()

    def leave(self) -> None:
        self.tell("leave")
        while not self.hear().get("left"):
            pass
        self._end()

    def _end(self) -> None:
        self._popen.wait()
        self._reader.join()
        for stream in (self._popen.stdin, self._popen.stdout):
            assert stream
            with contextlib.suppress(OSError):
                stream.close()

    def freeze(self) -> None:
        self._popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._popen.send_signal(signal.SIGCONT)


class Observed(NamedTuple):
    """What became of a total.

    Attributes:
        wrong_s: how long it was answered, and wrong.
        unreachable_s: how long there was no answer, or an error.
    """

    wrong_s: float
    unreachable_s: float


class Observer(threading.Thread):
    """Reads the total of PROBE all the time, and compares it with what it should be."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        self._fleet = fleet
        self._stopped = threading.Event()
        self._times = {"wrong": 0.0, "unreachable": 0.0, "right": 0.0}

    def run(self) -> None:
        counter = self._fleet.counter(f"observer-{self._fleet.prefix}")
        last = time.monotonic()
        while not self._stopped.wait(OBSERVES_EVERY_S):
            asked = time.monotonic()
            try:
                right = counter.get(PROBE).cumulative == self._fleet.expected()
                found = "right" if right else "wrong"
            except (DistkitError, RedisError):
                found = "unreachable"
            now = time.monotonic()
            if now - asked > PATIENCE_S:  # an answer that comes late is no answer until then
                self._times["unreachable"] += now - last
            else:
                self._times[found] += now - last
            last = now

    def stop(self) -> Observed:
        self._stopped.set()
        self.join()
        return Observed(self._times["wrong"], self._times["unreachable"])


class Fleet:
    """Several workers on one prefix.

    Args:
        address: the deployment.
        prefix: the namespace; no other fleet has used it.
        workers: how many.
        partitions: into how many the prefix is divided (R21).
        is_ordered: whether calls are recorded, to look for their order (`orders`). Then instances
            have a long threshold.
        planted: the defect that is planted, if any.

    Attributes:
        place: the prefix; or the partition of PROBE, which is the one that faults happen to.
    """

    def __init__(
        self,
        address: Address,
        prefix: str,
        workers: int,
        *,
        partitions: int = 1,
        is_ordered: bool = False,
        planted: Planted = NOTHING,
    ) -> None:
        self.address, self.prefix = address, prefix
        self.is_ordered = is_ordered
        self._planted = planted
        self._threshold_ms = LONG_THRESHOLD_MS if is_ordered else THRESHOLD_MS
        self.place = prefix
        self._partitions = partitions
        if partitions > 1:
            self.place = name_of(prefix, partition_of(PROBE, partitions), partitions)
        self.steering = Steering()
        self.workers: list[Process] = []
        self.gone: list[Process] = []
        self.last_words: list[dict[str, Any]] = []  # the reports of those that were killed
        self._number = 0
        self.join(workers)

    def join(self, workers: int) -> list[Process]:
        """More of them."""
        joined = []
        for _ in range(workers):
            self._number += 1
            settings = {
                "address": self.address,
                "prefix": self.prefix,
                "instance_id": f"worker-{self._number}",
                "threshold_ms": self._threshold_ms,
                "partitions": self._partitions,
                "weight": 1000 + self._number,
                "style": STYLES[self._number % 2],
                "seed": f"{self.prefix}/{self._number}",
                "recorded": self.is_ordered,
                **self._planted._asdict(),
            }
            joined.append(Process(settings))
        for worker in joined:
            worker.hear()
        self.workers += joined
        return joined

    def counter(self, name: str) -> StrictInstanceAwareCounter:
        """A counter of this process on the same prefix."""
        client = client_of(self.address, self.steering)
        options: Any = {"dead_instance_threshold_ms": self._threshold_ms, "instance_id": name}
        return StrictInstanceAwareCounter(
            client, self.prefix, partitions=self._partitions, **options
        )

    def expected(self) -> int:
        """What the total of PROBE should be."""
        return sum(int(worker.settings["weight"]) for worker in list(self.workers))

    def kill(self, worker: Process) -> None:
        """kill -9."""
        self.last_words.append(worker.ask("report"))
        self.workers.remove(worker)
        worker.kill()
        self.gone.append(worker)

    def revive(self, worker: Process) -> None:
        """Start a new life of an instance that was killed, with the same id."""
        reborn = Process({**worker.settings, "seed": f"{worker.settings['seed']}'"})
        reborn.hear()
        self.workers.append(reborn)

    def each(self, do: str, **arguments: Any) -> list[dict[str, Any]]:
        """Ask all of them at once."""
        for worker in self.workers:
            worker.tell(do, **arguments)
        return [worker.hear() for worker in self.workers]

    def divide(self, ports: Sequence[int]) -> None:
        """Have a half of the workers use one master, and the others the other one."""
        for number, worker in enumerate(self.workers):
            worker.ask("steer", port=ports[number // 2 % 2], among=ports)
        self.steering.steer(ports[0], ports)  # the observer stays

    def unite(self) -> None:
        """Have all of them use the master that Sentinel, or the cluster, says."""
        self.each("steer", port=None, among=())
        self.steering.steer(None)

    def leave(self) -> None:
        for worker in self.workers:
            worker.leave()
        self.gone += self.workers
        self.workers = []

    def stop(self) -> None:
        """End what still runs, after a failure."""
        for worker in self.workers:
            worker.kill()

    # --- Judging ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Have every instance find what was lost, and put back what it has (R10)."""
        self.each("read")
        self.each("beat")

    def judge(self) -> tuple[list[dict[str, Any]], int]:
        """Compare the totals with the slices, once everybody is quiescent and Redis is whole.

        A busy machine can let an instance be presumed dead in between, so this is tried a few
        times. Returns what is wrong after the last attempt, and how many attempts there were.
        """
        wrong: list[dict[str, Any]] = []
        for attempt in range(1, ATTEMPTS + 1):
            self.settle()
            answers = self.each("read")
            wrong = [*_errors(answers), *_unequal(answers)]
            if not wrong:
                return [], attempt
            time.sleep(1)
        return wrong, ATTEMPTS

    def unexplained(self, reports: Iterable[dict[str, Any]], loses: bool) -> list[dict[str, Any]]:
        """The resets of slices that no global call explains."""
        resets = [Reset(*each) for report in reports for each in report["resets"]]
        workers = [*self.workers, *self.gone]
        calls = [call for worker in workers for call in worker.global_calls.values()]
        return [
            {"why": "reset without a global call", **reset._asdict()}
            for reset in unexplained(resets, calls, loses)
        ]


def _errors(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"why": "no answer", **answer} for answer in answers if "states" not in answer]


def _unequal(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The counters whose total is not the sum of the slices, as any instance sees them."""
    seen = [answer["states"] for answer in answers if "states" in answer]
    wrong = []
    for key in seen[0] if seen else ():
        totals = [states[key][0] for states in seen]
        slices = [states[key][1] for states in seen]
        if set(totals) != {sum(slices)}:
            wrong.append({"why": "unequal", "key": key, "totals": totals, "slices": slices})
    return wrong
