"""One process that counts, as one instance, and keeps the books of its slices.

`python -m tests.chaos.worker SETTINGS` makes calls in several lanes at once, which are threads or
tasks. Each lane has keys of its own, so that the order of the calls on a slice is known; all
workers use the same keys. The worker is told by lines of JSON on stdin what to do, and answers each
with a line on stdout:

    {"do": "pause"}         finish the calls in progress, and make no more
    {"do": "resume"}
    {"do": "steer", "port", "among"} which master to use (`clients.Steering`)
    {"do": "beat"}          make a heartbeat
    {"do": "read"}          read every counter, and check the slices against the books
    {"do": "report"}        tell the figures
    {"do": "leave"}         leave, and end

It tells each global call without being asked, before it is made and after it: the parent has to
know of it even if this process is killed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import redis

import distkit
import distkit.asyncio
from distkit import DistkitError, OutcomeUnknownError
from distkit.testing import use_script
from tests.chaos.books import HOLDS, Book, Call
from tests.chaos.clients import Steering, client_of
from tests.chaos.defects import DEFECTS
from tests.chaos.recording import KEYS as RECORDED_KEYS
from tests.chaos.recording import LANES as RECORDED_LANES
from tests.chaos.recording import RecordedLane, record
from tests.equivalence.mutants import MUTANTS

LANES: Final = 8
KEYS_OF_A_LANE: Final = 3
PROBE: Final = "probe"
"""Each instance sets its slice of this counter once: its total is known at any time."""

PAUSE_AFTER_AN_ERROR_S: Final = 0.02
WAIT_S: Final = 0.01
OPERATIONS: Final = {
    "inc": 40, "dec": 15, "get": 8, "set_on_instance": 8, "delete_on_instance": 3,
    "inc_if": 8, "set_on_instance_if": 5, "batch": 5,
}  # fmt: skip
GLOBAL_OPERATIONS: Final = {"inc": 70, "get": 20, "set": 6, "delete": 4}
BATCH: Final = 3
OPERAND: Final = 20


class Lane:
    """The calls of one thread or task, on keys that no other lane of this process uses."""

    def __init__(self, number: int, seed: str, tell: Callable[..., None]) -> None:
        self._chance = random.Random(f"{seed}-{number}")
        self._tell = tell
        self.local = [f"k{number}-{index}" for index in range(KEYS_OF_A_LANE)]
        self.shared = f"e{number}"
        self.books = {key: Book(key) for key in self.local}
        self.books[self.shared] = Book(self.shared, can_reset=True)
        self.acknowledged = 0
        self.worst_s = 0.0
        self.errors: Counter[str] = Counter()

    def choose(self) -> list[Call]:
        """The next call, as its steps: several if it is a batch."""
        if self._chance.random() < 0.15:
            op = self._draw(GLOBAL_OPERATIONS)
            return [Call(op, self.shared, self._chance.randrange(1, 10))]
        op = self._draw(OPERATIONS)
        if op == "batch":
            keys = [self._chance.choice(self.local) for _ in range(BATCH)]
            return [Call("inc", key, self._chance.randrange(1, 10)) for key in keys]
        key, n = self._chance.choice(self.local), self._chance.randrange(-5, 10)
        if op.endswith("_if"):
            test = self._chance.choice(sorted(HOLDS))
            return [Call(op, key, n, (test, self._chance.randrange(-OPERAND, OPERAND)))]
        return [Call(op, key, 1 if op == "inc" else n)]

    def _draw(self, weights: dict[str, int]) -> str:
        return self._chance.choices([*weights], [*weights.values()])[0]

    def begin(self, steps: list[Call]) -> float:
        began = time.monotonic()
        if steps[0].is_global:
            self._tell(event="global", key=self.shared, began=began)
        return began

    def end(self, steps: list[Call], outcome: Any, began: float) -> float:
        """Note what became of the call. Returns how long to wait before the next one, in
        seconds."""
        ended = time.monotonic()
        self.worst_s = max(self.worst_s, ended - began)
        failed = isinstance(outcome, Exception)
        if failed:
            self.errors[type(outcome).__name__] += 1
        else:
            self.acknowledged += 1
        for step, each in zip(steps, _outcomes(steps, outcome), strict=True):
            self.books[step.key].note(step, each, began, ended)
        if steps[0].is_global:
            known = not isinstance(outcome, OutcomeUnknownError)
            self._tell(event="global", key=self.shared, began=began, ended=ended if known else None)
        return PAUSE_AFTER_AN_ERROR_S if failed else 0.0


def _outcomes(steps: list[Call], outcome: Any) -> Sequence[Any]:
    """The outcome of each step of a call."""
    if len(steps) == 1:
        return [outcome]
    if isinstance(outcome, DistkitError) and outcome.outcomes:
        return outcome.outcomes
    return [outcome] * len(steps) if isinstance(outcome, Exception) else outcome


def method_and_arguments(steps: list[Call]) -> tuple[str, tuple[Any, ...]]:
    """How the call is made on a counter."""
    if len(steps) > 1:
        return "inc_all", ([(step.key, step.n) for step in steps],)
    op, key, n, condition = steps[0]
    if condition is not None:
        test, operand = condition
        return op, (key, getattr(distkit, test)(operand), n)
    return op, (key,) if op in ("get", "delete", "delete_on_instance") else (key, n)


class Worker(ABC):
    """What the threads and the tasks have in common.

    Args:
        settings: `address`, `prefix`, `instance_id`, `threshold_ms`, `partitions`, `weight` (the
            slice of PROBE), `style` ("threads" or "tasks"), `seed`, whether calls are `recorded`,
            and the `mutant` or the `defect` that is planted, if any.
    """

    kind: Any
    is_async: bool

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.steering = Steering()
        self.is_over = False
        self._is_paused = False
        self._inside = 0  # lanes inside a call
        self._lock = threading.Lock()
        seed = str(settings["seed"])
        self._recorded = [RecordedLane(n, seed) for n in range(RECORDED_LANES)]
        self.lanes: list[Lane | RecordedLane] = [
            *(Lane(number, seed, self.tell) for number in range(LANES)),
            *(self._recorded if settings["recorded"] else ()),
        ]
        self.probe = Book(PROBE)
        self._reads: list[tuple[Any, ...]] = []  # the records of `_read`

    # --- What differs ----------------------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """Begin the instance's life."""

    @abstractmethod
    def start_lanes(self) -> None: ...

    @abstractmethod
    def finish(self) -> None:
        """Wait for the lanes, and leave."""

    @abstractmethod
    def call(self, method: str, *arguments: Any) -> Any:
        """Make a call on the counter, from the main thread."""

    # --- What the parent asks for ----------------------------------------------------------------

    def run(self) -> None:
        self.begin()
        self._set_probe()
        self.start_lanes()
        self.tell(ready=True)
        for line in sys.stdin:
            asked = json.loads(line)
            if asked["do"] == "leave":
                break
            try:
                self.tell(**self._answer(asked))
            except (DistkitError, redis.exceptions.RedisError) as error:
                self.tell(error=repr(error))
        self.is_over = True
        self.finish()
        self.tell(left=True)

    def tell(self, **message: Any) -> None:
        with self._lock:
            print(json.dumps(message), flush=True)

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["do"] == "pause":
            self._pause()
        elif asked["do"] == "resume":
            self._is_paused = False
        elif asked["do"] == "steer":
            self.steering.steer(asked["port"], asked["among"])
        elif asked["do"] == "beat":
            self.call("heartbeat")
        elif asked["do"] == "read":
            return self._read()
        elif asked["do"] == "report":
            return self._report()
        return {}

    def _pause(self) -> None:
        with self._lock:
            self._is_paused = True
        while self._inside:
            time.sleep(WAIT_S)

    def enter(self) -> bool:
        """Whether a lane may make a call now; if so, it has to say `exit` afterwards."""
        with self._lock:
            self._inside += not self._is_paused
            return not self._is_paused

    def exit(self) -> None:
        with self._lock:
            self._inside -= 1

    def counter(self) -> Any:
        settings = self.settings
        counter = self.kind(
            client_of(settings["address"], self.steering, is_async=self.is_async),
            settings["prefix"],
            instance_id=settings["instance_id"],
            dead_instance_threshold_ms=settings["threshold_ms"],
            partitions=settings["partitions"],
        )
        for mutant in MUTANTS:
            if mutant.name == settings["mutant"]:
                use_script(counter, mutant.script())
        if settings["defect"] and not self.is_async:
            DEFECTS[settings["defect"]](counter)
        return counter

    def _books(self) -> list[Book]:
        return [self.probe, *(book for lane in self.lanes for book in lane.books.values())]

    def _set_probe(self) -> None:
        call, began, outcome = Call("set_on_instance", PROBE, self.settings["weight"]), 0.0, None
        while outcome is None:
            try:
                began = time.monotonic()
                outcome = self.call("set_on_instance", PROBE, call.n)
            except (DistkitError, redis.exceptions.RedisError):
                time.sleep(PAUSE_AFTER_AN_ERROR_S)
        self.probe.note(call, outcome, began, time.monotonic())

    def _read(self) -> dict[str, Any]:
        """Check the slices against the books. Returns each counter's total and slice."""
        books, began = self._books(), time.monotonic()
        keys = [*(book.key for book in books), *RECORDED_KEYS]
        states = dict(zip(keys, self.call("get_all", keys), strict=True))
        ended = time.monotonic()
        for book in books:
            book.check(states[book.key].instance_count, began, ended)
        for key in RECORDED_KEYS:
            self._reads += record([Call("get", key)], states[key], began, ended)
        return {"states": states}

    def _report(self) -> dict[str, Any]:
        books = self._books()
        return {
            "acknowledged": sum(lane.acknowledged for lane in self.lanes),
            "worst_s": max(lane.worst_s for lane in self.lanes),
            "errors": sum((lane.errors for lane in self.lanes), Counter()),
            "violations": [each for book in books for each in book.violations],
            "resets": [each for book in books for each in book.resets],
            "instance_id": self.settings["instance_id"],
            "recorded": [*(each for lane in self._recorded for each in lane.records), *self._reads],
        }


class Threads(Worker):
    """The synchronous counter, shared by threads."""

    kind = distkit.StrictInstanceAwareCounter
    is_async = False

    def begin(self) -> None:
        self._counter = self.counter()
        self._counter.__enter__()

    def start_lanes(self) -> None:
        self._threads = [threading.Thread(target=self._serve, args=(lane,)) for lane in self.lanes]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        for thread in self._threads:
            thread.join()
        self._counter.__exit__(None, None, None)

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._counter, method)(*arguments)

    def _serve(self, lane: Lane | RecordedLane) -> None:
        while not self.is_over:
            if not self.enter():
                time.sleep(WAIT_S)
                continue
            steps = lane.choose()
            method, arguments = method_and_arguments(steps)
            began = lane.begin(steps)
            try:
                outcome = self.call(method, *arguments)
            except Exception as error:
                outcome = error
            pause = lane.end(steps, outcome, began)
            self.exit()
            if pause:
                time.sleep(pause)


class Tasks(Worker):
    """The asyncio counter, shared by tasks of a loop in a thread of its own."""

    kind = distkit.asyncio.StrictInstanceAwareCounter
    is_async = True

    def begin(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._counter = self._wait_for(self._begin())

    async def _begin(self) -> Any:
        return await self.counter().__aenter__()

    def start_lanes(self) -> None:
        self._tasks = [
            asyncio.run_coroutine_threadsafe(self._serve(lane), self._loop) for lane in self.lanes
        ]

    def finish(self) -> None:
        for task in self._tasks:
            task.result()
        self._wait_for(self._counter.__aexit__(None, None, None))

    def call(self, method: str, *arguments: Any) -> Any:
        return self._wait_for(getattr(self._counter, method)(*arguments))

    def _wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _serve(self, lane: Lane | RecordedLane) -> None:
        while not self.is_over:
            if not self.enter():
                await asyncio.sleep(WAIT_S)
                continue
            steps = lane.choose()
            method, arguments = method_and_arguments(steps)
            began = lane.begin(steps)
            try:
                outcome = await getattr(self._counter, method)(*arguments)
            except Exception as error:
                outcome = error
            pause = lane.end(steps, outcome, began)
            self.exit()
            if pause:
                await asyncio.sleep(pause)


if __name__ == "__main__":
    chosen: dict[str, Any] = json.loads(sys.argv[1])
    (Tasks if chosen["style"] == "tasks" else Threads)(chosen).run()
