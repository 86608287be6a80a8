"""R20: when everything is quiescent, each slice is what is held, whatever happened before.

Tasks hold keys and leave, wait for slots and are cancelled, in virtual time. Requests are lost,
replies are lost, outages last for any time, sessions are lost, Redis is flushed, epochs move.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Literal

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from distkit.asyncio import StrictInstanceAwareCounter
from distkit.errors import LimitReached, NotExecutedError, OutcomeUnknownError
from tests.harness.profiles import scaled
from tests.harness.virtual import FAILURES, Holder, World

KEYS = ("a", "b")
MOST = 3
EXPECTED = (LimitReached, NotExecutedError, OutcomeUnknownError)
Policy = Literal["raise", "allow", "refuse"]


class Holding(RuleBasedStateMachine):
    """`exact`: no case of R20 has happened in which more than MOST can hold a limit."""

    @initialize(instances=st.integers(1, 3))
    def begin(self, instances: int) -> None:
        self.world = World()
        self.counters = [self.world.join() for _ in range(instances)]
        self.holders: list[tuple[StrictInstanceAwareCounter, Holder]] = []
        self.exact = True

    def teardown(self) -> None:
        self.quiesce()
        self.world.close()

    def _who(self, data: st.DataObject) -> StrictInstanceAwareCounter:
        return data.draw(st.sampled_from(self.counters), label="who")

    def _hold(self, counter: StrictInstanceAwareCounter, key: str, n: int, context: Any) -> None:
        self.holders.append((counter, Holder(self.world, key, n, context)))

    @rule(data=st.data(), key=st.sampled_from(KEYS), count=st.sampled_from([1, 1, 2, 7]))
    def hold(self, data: st.DataObject, key: str, count: int) -> None:
        counter = self._who(data)
        policy: Literal["raise", "allow"] = data.draw(st.sampled_from(["raise", "allow"]))
        self._hold(counter, key, count, counter.held(key, count, when_unreachable=policy))

    @rule(data=st.data(), timeout=st.sampled_from([None, 0.0, 1.0, 50.0]))
    def take_a_slot(self, data: st.DataObject, timeout: float | None) -> None:
        counter = self._who(data)
        policy: Policy = data.draw(st.sampled_from(["raise", "raise", "refuse", "allow"]))
        self.exact = self.exact and policy != "allow"
        limit = counter.limit("limit", MOST, when_unreachable=policy)
        self._hold(counter, "limit", 1, limit.slot(timeout=timeout))

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), cancelled=st.booleans())
    def leave(self, data: st.DataObject, cancelled: bool) -> None:
        _, holder = data.draw(st.sampled_from(self.holders), label="holder")
        holder.cancel() if cancelled else holder.leave()

    @rule(turns=st.integers(1, 12))
    def let_them_run(self, turns: int) -> None:
        async def run() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.world.run(run())

    @rule(ms=st.sampled_from([1, 5, 600, 3_000, 29_000, 30_000, 61_000]))
    def wait(self, ms: int) -> None:
        self.world.run(asyncio.sleep(ms / 1000))
        self.exact = self.exact and ms < 10_000

    @rule(failures=st.lists(st.sampled_from(FAILURES), max_size=3))
    def fail_next(self, failures: list[str]) -> None:
        self.world.failures.extend(failures)

    @rule()
    def begin_an_outage(self) -> None:
        self.world.is_down = True

    @rule()
    def end_the_outage(self) -> None:
        self.world.is_down = False

    @rule(key=st.sampled_from([*KEYS, "limit"]), count=st.integers(0, 5))
    def start_an_epoch(self, key: str, count: int) -> None:
        """Somebody sets the counter and goes."""
        self.exact = self.exact and key != "limit"

        async def move() -> None:
            client = self.world.client()
            async with StrictInstanceAwareCounter(
                client, "p", clock_ms=self.world.wall_ms
            ) as other:
                await other.set(key, count)

        self.world.run(move())

    @rule()
    def lose_everything(self) -> None:
        self.exact = False
        self.world.run(self.world.client().flushall())

    @rule(data=st.data())
    def end_a_life(self, data: st.DataObject) -> None:
        """The instance leaves while its holders are inside: they hold nothing any more (R16)."""
        counter = self._who(data)

        async def leave() -> None:
            await counter.__aexit__(None, None, None)

        self.world.run(leave())
        self.exact = False
        for owner, holder in self.holders:
            if owner is counter:
                holder.cancel()
        self.holders = [(owner, held) for owner, held in self.holders if owner is not counter]

    @invariant()
    def no_more_than_the_limit_hold_it(self) -> None:
        if not getattr(self, "exact", False):
            return
        inside = sum(h.is_inside for _, h in self.holders if h.key == "limit")
        assert inside <= MOST

    @rule()
    def quiesce(self) -> None:
        """All is well again: each instance beats twice, and each slice is what it holds."""
        self.world.is_down = False
        self.world.failures.clear()

        async def settle() -> None:
            for _ in range(2):
                await asyncio.sleep(self.world.threshold_ms / 3000 + 0.01)
                for counter in self.counters:
                    await counter.heartbeat()
            await asyncio.sleep(2.5)

        was_exact, self.exact = self.exact, False
        self.world.run(settle())
        for key in (*KEYS, "limit"):
            held = sum(h.count for _, h in self.holders if h.key == key and h.is_inside)
            assert self.world.run(self.world.total(key)) == held, key
        for _, holder in self.holders:
            assert holder.error is None or isinstance(holder.error, EXPECTED), holder.error
        self.holders = [(c, h) for c, h in self.holders if not h.task.done()]
        inside = sum(h.is_inside for _, h in self.holders if h.key == "limit")
        self.exact = was_exact or inside <= MOST


TestHolding = Holding.TestCase
TestHolding.settings = settings(max_examples=scaled(150), stateful_step_count=40)


def test_a_thousand_outages_leak_nothing() -> None:
    """Holders of 10 slots come and go in three instances while Redis is unreachable again and
    again, at any moment and for any time. After each outage and one heartbeat, slots in use are
    holders."""
    world, dice = World(), random.Random(20)
    counters = [world.join() for _ in range(3)]
    holders: list[Holder] = []
    leaked = most_inside = 0

    def come_and_go(counter: StrictInstanceAwareCounter) -> None:
        limit = counter.limit("k", 10, when_unreachable=dice.choice(["raise", "refuse"]))
        holders.extend(
            Holder(world, "k", 1, limit.slot(timeout=dice.choice([0, 5])))
            for _ in range(dice.randrange(8))
        )
        for holder in dice.sample(holders, len(holders) // 5):
            holder.cancel() if dice.random() < 0.3 else holder.leave()

    async def live(seconds: float) -> None:
        nonlocal most_inside
        for _ in range(4):
            come_and_go(dice.choice(counters))
            await asyncio.sleep(seconds / 4)
            most_inside = max(most_inside, sum(h.is_inside for h in holders))

    async def outage() -> int:
        await live(dice.choice([0.004, 0.02]))
        world.failures.extend(dice.choices(FAILURES, k=dice.randrange(3)))
        world.is_down = dice.random() < 0.9
        await live(dice.choice([0.004, 1, 20]))
        world.is_down = False
        world.failures.clear()
        for holder in holders:
            holder.leave() if dice.random() < 0.5 else None
        await asyncio.sleep(6)  # waiters have got a slot, or have given up
        for counter in counters:
            await counter.heartbeat()
        return await world.total("k") - sum(h.is_inside for h in holders)

    outages = scaled(1_000)
    for number in range(outages):
        leaked += world.run(outage())
        assert leaked == 0, f"after outage {number}"
        holders[:] = [holder for holder in holders if not holder.task.done()]
    assert most_inside == 10, "at some time every slot was taken, and never more"
    world.close()
