"""Holding, without I/O: who holds what in this process, and what Redis is to be told of it (R20).

The process's own holders are the truth. An instance's slice of a key is set to what they hold; it
is never counted up and down. Whatever was lost on the way (a release during an outage, a reply, a
session, an epoch), the next request that gets through makes the slice right again.

`Books` knows the holders and the waiters of every key. Each request of the instance carries an
`Errand` for them, if there is anything to say: the queue of callers asks for it (`batching.Queue`).

The rules this file keeps:
  * A `Slot` is one holder. Whoever refers to it owns it, one at a time. A slot that nobody refers
    to any more is released: no interrupt, no cancelled task and no forgotten object can leak it.
  * Releasing only notes what is owed. It takes no lock and cannot fail, so it can run anywhere: in
    `__del__`, in a signal handler, in any thread, between any two lines of this file.
  * `errand` and `Errand.finish` run in one thread at a time. An interrupted `finish` is run again,
    and changes nothing that it had changed already.
  * A slot that is given back goes to the first who waits in this process, without a request. After
    `TENURE_S` it goes back to Redis, so that other processes get their turn.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from distkit.core.batching import MOST_KEYS, MOST_STEPS
from distkit.core.instance import Kind, Outcome
from distkit.core.operations import (
    INC,
    SET_ON_INSTANCE,
    Change,
    Comparator,
    CounterState,
    Step,
)
from distkit.errors import CounterOverflowError, NotExecutedError, OutcomeUnknownError
from distkit.keys import LIMIT

UNREACHABLE: Final = (NotExecutedError, OutcomeUnknownError)
"""The errors that `when_unreachable` is about: no reply came."""

FIRST_PAUSE_S: Final = 0.025
LONGEST_PAUSE_S: Final = 0.5
"""The pause between two polls grows from the first to the longest, each with jitter."""

TENURE_S: Final = 2.0
"""How long the waiters of a process may pass a slot among themselves."""

AWAY_S: Final = 1.0
"""How long after a request without a reply Redis is taken to be unreachable."""

AGAIN: Final = 50
"""How many keys one request sets again although nothing is owed on them."""


class Slot:
    """One holder of a key. It counts until it is closed, or until nobody refers to it.

    Attributes:
        ledger: where it counts.
        count: how much.
        most: the limit under which it was admitted; None if there is none.
        since: when it was admitted, in the seconds of the books' clock.
        over: whether it was closed.
        told: what came of the request that told Redis of a holder without a limit: a CounterState
            or an Exception; None: there was none yet.
    """

    __slots__ = ("_token", "count", "ledger", "most", "over", "since", "told")

    def __init__(self, ledger: Ledger, count: int, most: int | None, since: float) -> None:
        self.ledger: Ledger = ledger
        self.count: int = count
        self.most: int | None = most
        self.since: float = since
        self.over: bool = False
        self.told: Outcome | None = None
        self._token = object()

    def open(self) -> None:
        """Count from now on. After `close` this does nothing, however the two interleave."""
        if self.count == 1:
            self.ledger.ones[self._token] = None
        else:
            self.ledger.weights[self._token] = self.count
        if self.over:
            self.close()

    def close(self) -> bool:
        """Count no more. Returns whether the slice is to be set again because of that."""
        self.over = True
        ledger, token = self.ledger, self._token
        if ledger.ones.pop(token, self) is self and ledger.weights.pop(token, self) is self:
            return False
        ledger.dirty[ledger.key] = None
        return True

    def __del__(self) -> None:
        self.close()


class Wish:
    """Somebody who wants a slot of a limit.

    Attributes:
        slot: what it will hold, unless somebody hands it another.
        asked: whether Redis has answered a request for it.
        wake: called once it is decided, by any thread.
    """

    __slots__ = ("_fate", "asked", "slot", "wake")

    def __init__(self, slot: Slot, wake: Callable[[], None]) -> None:
        self.slot: Slot = slot
        self.asked: bool = False
        self.wake: Callable[[], None] = wake
        self._fate: dict[str, object] = {}

    @property
    def most(self) -> int:
        """The limit that it is subject to."""
        assert self.slot.most is not None
        return self.slot.most

    @property
    def fate(self) -> object:
        """A Slot, an Exception; None: undecided."""
        return self._fate.get("")

    def decide(self, fate: object) -> object:
        """Decide it, if it is not decided yet. Returns what was decided first."""
        return self._fate.setdefault("", fate)


GAVE_UP: Final = TimeoutError("nobody waits for it any more")


class Ledger:
    """The holders and the waiters of one key.

    Attributes:
        ones, weights: the holders: those of 1, and those of any other count.
        entering: the holders without a limit of which Redis has to be told.
        waiting: who waits for a slot, in order.
        full: whether Redis refused the last who asked for a slot.
        dirty: the books' keys whose slice has to be set.
    """

    __slots__ = ("dirty", "entering", "full", "key", "ones", "waiting", "weights")

    def __init__(self, key: str, dirty: dict[str, None]) -> None:
        self.key: str = key
        self.dirty: dict[str, None] = dirty
        self.ones: dict[object, None] = {}
        self.weights: dict[object, int] = {}
        self.entering: dict[Slot, None] = {}
        self.waiting: dict[Wish, None] = {}
        self.full: bool = False

    def held(self) -> int:
        """What all holders together hold: what the slice has to be."""
        return len(self.ones) + (sum(list(self.weights.values())) if self.weights else 0)

    def is_unused(self) -> bool:
        return not (self.ones or self.weights or self.entering or self.waiting)


class Guard(Protocol):
    """A lock: `threading.Lock`, which this file must not know."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *_: Any) -> None: ...
    def acquire(self, blocking: bool = True) -> bool: ...
    def release(self) -> None: ...


class Books:
    """The holders of every key in this process, and what Redis has to be told.

    Args:
        clock: the monotonic time in seconds.
        guard: keeps those who enter apart. Releasing does not use it.
        again_s: how often every key is set again although nothing is owed, in seconds.

    Attributes:
        news: the keys on which something is owed from now on (True), or was paid (False).
    """

    news: deque[tuple[str, bool]]

    def __init__(self, clock: Callable[[], float], guard: Guard, again_s: float) -> None:
        self._clock = clock
        self._guard = guard
        self._again_s = again_s
        self._ledgers: dict[str, Ledger] = {}
        self._dirty: dict[str, None] = {}  # the keys whose slice may differ from what is held
        self._asking: dict[str, None] = {}  # the keys on which somebody is to ask for a slot
        self._waiting: dict[Wish, None] = {}  # everybody who waits, on any key, in order
        self._manual: dict[str, deque[Slot]] = {}
        self._round: deque[str] = deque()  # the keys that are still to be set again
        self._again_at = clock() + again_s
        self._pause_s = FIRST_PAUSE_S
        self._poll_at = 0.0
        self._behind: set[str] = set()  # the keys on which something is owed since a failure
        self.news = deque()
        self._away_until = self._rest_until = 0.0  # 0: all is well

    # --- Holders ---------------------------------------------------------------------------------

    def hold(self, key: str, count: int = 1) -> Slot:
        """A new holder, which counts from now on. Redis is told of it with the next request, and
        then its slot says what came of that."""
        with self._guard:
            ledger = self._ledgers.get(key) or self._ledger(key)
            if (count > 1 or ledger.weights) and count > LIMIT - ledger.held():
                raise CounterOverflowError(f"{key!r}: more than 2^53 - 1 would be held")
            slot = Slot(ledger, count, None, 0.0)
            slot.open()
            ledger.entering[slot] = None
        self._dirty[key] = None
        return slot

    def enough(self, slot: Slot) -> None:
        """Nobody waits to hear what came of telling Redis of this holder."""
        slot.ledger.entering.pop(slot, None)

    def want(self, key: str, most: int, wake: Callable[[], None]) -> Wish:
        """Somebody wants one of `most` slots. It asks Redis if `may_ask`, and waits otherwise."""
        with self._guard:
            ledger = self._ledger(key)
            wish = Wish(Slot(ledger, 1, most, self._clock()), wake)
            ledger.waiting[wish] = None
            self._waiting[wish] = None
        return wish

    def ask(self, wish: Wish) -> bool:
        """Whether to make a request for it now, which then asks Redis. If others wait because the
        key is full, polling asks for all of them."""
        ledger = wish.slot.ledger
        if wish.asked or wish.fate is not None:
            return False
        others = (other for other in list(ledger.waiting) if other is not wish)
        if ledger.full and any(other.most >= wish.most for other in others):
            return False
        self._asking[ledger.key] = None
        return True

    def abandon(self, wish: Wish, allowed: bool = False) -> Slot | None:
        """It waits no longer. Returns the slot if it has one: it got it at the last moment, or it
        is `allowed` to hold although Redis did not say so."""
        fate = wish.decide(wish.slot if allowed else GAVE_UP)
        self._cross_off(wish)
        if allowed and not isinstance(fate, Slot):
            fate = wish.slot  # an error was its fate
        if not isinstance(fate, Slot):
            return None
        fate.open()
        if allowed:
            self._dirty[fate.ledger.key] = None
        return fate

    def release(self, slot: Slot) -> bool:
        """Give a slot back, or hand it to the first in this process who waits for one.

        Returns:
            Whether something is owed to Redis now.
        """
        waiting = slot.ledger.waiting
        if waiting and not slot.over and self._clock() - slot.since < TENURE_S:
            for wish in list(waiting):
                if wish.most == slot.most and wish.decide(slot) is slot:
                    self._cross_off(wish)
                    wish.wake()
                    return False
        return slot.close()

    def _cross_off(self, wish: Wish) -> None:
        """It is decided."""
        wish.slot.ledger.waiting.pop(wish, None)
        self._waiting.pop(wish, None)

    def forget(self) -> None:
        """R16: the instance leaves. Nobody holds anything any more, and nobody waits."""
        for ledger in list(self._ledgers.values()):
            ledger.ones.clear()
            ledger.weights.clear()
            error = NotExecutedError("the instance left: nothing can be held any more")
            for slot in list(ledger.entering):
                slot.told = slot.told or error
            for wish in list(ledger.waiting):
                wish.decide(error)
                wish.wake()
        for book in (self._ledgers, self._dirty, self._asking, self._waiting, self._manual):
            book.clear()

    def _ledger(self, key: str) -> Ledger:
        ledger = self._ledgers.get(key)
        if ledger is None:
            ledger = self._ledgers[key] = Ledger(key, self._dirty)
        return ledger

    # --- Slots that are acquired and released by name ---------------------------------------------

    def keep(self, slot: Slot) -> None:
        """Own a slot in the name of its key, until `take_back`."""
        with self._guard:
            self._manual.setdefault(slot.ledger.key, deque()).append(slot)

    def take_back(self, key: str) -> Slot | None:
        """A slot that was kept in the name of this key."""
        try:
            return self._manual[key].pop()
        except (KeyError, IndexError):
            return None

    # --- When to send ----------------------------------------------------------------------------

    @property
    def is_unused(self) -> bool:
        """Whether nobody holds or wants anything, and nothing is owed."""
        return not self._ledgers

    @property
    def is_owed(self) -> bool:
        """Whether there is something to tell Redis, and it did not just fail."""
        if not (self._dirty or self._asking):
            return False
        return self._rest_until <= 0 or self._clock() >= self._rest_until

    @property
    def is_away(self) -> bool:
        """Whether a request without a reply has just shown that Redis cannot be reached."""
        return self._away_until > 0 and self._clock() < self._away_until

    def first_waiting(self) -> Wish | None:
        """Who has waited longest: it polls for everybody."""
        while True:
            try:
                return next(iter(self._waiting), None)
            except RuntimeError:  # another thread came or went just now
                continue

    def poll_in_s(self, late_s: float = 0.0) -> float:
        """How long until the next poll is due, or is so much overdue."""
        return max(0.0, self._poll_at + late_s - self._clock())

    def _schedule(self) -> None:
        """A poll has just been made: when the next one is due."""
        self._poll_at = self._clock() + self._pause_s * random.uniform(0.5, 1)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    # --- Errands ---------------------------------------------------------------------------------

    def errand(self) -> Errand | None:
        """What the next request has to carry, if anything."""
        if not self._ledgers:  # what is noted is of before the instance left
            self._dirty.clear()
            self._asking.clear()
            return None
        # `list(a dict)` is one step for other threads; iterating over the dict itself is many.
        now = self._clock()
        if self._waiting and now >= self._poll_at:
            self._asking.update(dict.fromkeys(wish.slot.ledger.key for wish in list(self._waiting)))
        again = self._due_again(now)
        if not (self._dirty or self._asking or again):
            return None
        return self._compose(again)

    def _due_again(self, now: float) -> list[str]:
        """The keys to set again. It is how a moved epoch is noticed (R20)."""
        if now >= self._again_at and not self._round:
            self._round.extend(sorted([*self._ledgers]))
            self._again_at = now + self._again_s
        return [self._round.popleft() for _ in range(min(AGAIN, len(self._round)))]

    def _compose(self, again: Sequence[str]) -> Errand | None:
        asking = list(self._asking)
        parts: list[Part] = []
        room = MOST_STEPS
        for key in dict.fromkeys([*asking, *list(self._dirty), *again]):
            ledger = self._ledgers.get(key)
            if ledger is None:  # the instance left, and this was noted just then
                self._dirty.pop(key, None)
                self._asking.pop(key, None)
                continue
            part = self._part(ledger, key in self._dirty or key in again, room)
            if not part.steps:  # who asked has given up
                self._asking.pop(key, None)
                continue
            room -= len(part.steps)
            parts.append(part)
            if len(parts) == MOST_KEYS or room < 2:
                break
        return Errand(self, parts) if parts else None

    def _part(self, ledger: Ledger, is_set: bool, room: int) -> Part:
        """One key's part: set the slice to what is held, and then ask for slots."""
        key, entering, asking = ledger.key, tuple(ledger.entering), tuple[Wish, ...]()
        steps: list[Step] = []
        if is_set or entering:
            steps.append(Step(key, SET_ON_INSTANCE, ledger.held()))
        if key in self._asking:
            asking = tuple(islice(_who_may_be_admitted(ledger), room - 1))
            steps += [Step(key, INC, 1, condition=Comparator("lt", w.most)) for w in asking]
        return Part(ledger, steps, entering, asking)

    def settle(self, part: Part, outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of a key's part. It may be run twice."""
        ledger, key = part.ledger, part.ledger.key
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        away = any(isinstance(error, UNREACHABLE) for error in errors)
        answers = outcomes[len(outcomes) - len(part.asking) :]
        self._away_until = self._clock() + AWAY_S if away else 0.0
        self._rest_until = self._clock() + AWAY_S if errors else 0.0
        self._admit(part, outcomes[0])
        for wish, answer in zip(part.asking, answers, strict=True):
            self._answer(ledger, wish, answer, away)
        if self._ledgers.get(key) is not ledger:  # the instance left meanwhile
            return
        self._note_asked(ledger, answers)
        if errors:
            self._dirty[key] = None
            self._behind.add(key)
            self.news.append((key, True))
            return
        if key in self._behind:
            self._behind.discard(key)
            self.news.append((key, False))
        # First as if all was well, then look: what changes from now on is noted after this.
        self._dirty.pop(key, None)
        if _count_after(outcomes[-1]) != ledger.held():
            self._dirty[key] = None
        else:
            self._drop_if_unused(ledger)

    def _admit(self, part: Part, outcome: Outcome) -> None:
        """Those that entered without a limit have their answer."""
        entering: Sequence[Slot] = part.entering
        if isinstance(outcome, CounterOverflowError) and len(entering) > 1:
            entering = [max(entering, key=lambda slot: slot.count)]  # the others go again
        waiting = part.ledger.entering
        for slot in entering:
            slot.told = slot.told or outcome
            waiting.pop(slot, None)

    def _answer(self, ledger: Ledger, wish: Wish, answer: Outcome, away: bool) -> None:
        """One who asked for a slot has the answer; if none came, so have all who wait."""
        if isinstance(answer, Change) and answer.applied:
            self._decide(wish, wish.slot)
        elif isinstance(answer, Exception):
            for other in [wish, *list(ledger.waiting)] if away else [wish]:
                self._decide(other, answer)
        wish.asked = True

    def _decide(self, wish: Wish, fate: object) -> None:
        if fate is wish.slot and wish.fate is None:
            wish.slot.since = self._clock()
        if wish.decide(fate) is wish.slot:
            wish.slot.open()
        self._cross_off(wish)
        wish.wake()

    def _note_asked(self, ledger: Ledger, answers: Sequence[Outcome]) -> None:
        """Whether the key is full, and whether somebody is to ask again at once."""
        if not answers and ledger.key not in self._asking:
            return
        last = answers[-1] if answers else None
        ledger.full = isinstance(last, Change) and not last.applied
        self._asking.pop(ledger.key, None)
        if not self._waiting:
            self._pause_s = FIRST_PAUSE_S
        elif ledger.full:
            if self._poll_at <= self._clock():
                self._schedule()
        elif ledger.waiting:
            self._asking[ledger.key] = None

    def _drop_if_unused(self, ledger: Ledger) -> None:
        """Forget a key that nobody uses. If somebody enters just now, another time will do."""
        if ledger.is_unused() and self._guard.acquire(blocking=False):
            try:
                if ledger.is_unused() and ledger.key not in self._dirty:
                    self._ledgers.pop(ledger.key, None)
            finally:
                self._guard.release()


class Part(NamedTuple):
    """What an errand does on one key: the steps, and for whom."""

    ledger: Ledger
    steps: list[Step]
    entering: tuple[Slot, ...]
    asking: tuple[Wish, ...]


class Errand:
    """What one request carries for the holders; a `batching.Caller` for whom nobody waits."""

    def __init__(self, books: Books, parts: list[Part]) -> None:
        self.steps: Sequence[Step] = [step for part in parts for step in part.steps]
        self.kind = Kind.STEPS
        self._books = books
        self._parts = parts

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def finish(self, outcomes: list[Outcome]) -> None:
        first = 0
        for part in self._parts:
            self._books.settle(part, outcomes[first : first + len(part.steps)])
            first += len(part.steps)


def _who_may_be_admitted(ledger: Ledger) -> Iterator[Wish]:
    """The waiters that one request can admit: of each limit, the first that fit into it."""
    asked: dict[int, int] = {}
    for wish in list(ledger.waiting):
        number = asked.get(wish.most, 0)
        if wish.fate is None and number < wish.most:
            asked[wish.most] = number + 1
            yield wish


def _count_after(outcome: Outcome) -> int:
    """The slice after a step."""
    state = outcome.new if isinstance(outcome, Change) else outcome
    assert isinstance(state, CounterState)
    return state.instance_count
