"""The script is `model.serve`: the same state, the same request, the same reply and state after it.

R2 to R19, one request at a time, from states at random: see `states.py`. The stateful machine
reaches only what a history leads to; this reaches the rest, and a difference shows where it arises.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
import redis

from distkit.redis.sync import COUNTER, Script
from oracle import model
from tests.equivalence.states import KEYS, Chance, Exchange
from tests.harness import wire
from tests.harness.profiles import scaled
from tests.harness.servers import RedisServer

PREFIX = "exchange"
ROOT = f"distkit:{{{PREFIX}}}:"
EVERYTHING = [f"{ROOT}instances", f"{ROOT}keys", *(f"{ROOT}counter:{key}" for key in KEYS)]
LABEL = "a new one"
AT_ONCE = 100
"""How many exchanges share one pipeline."""
SEED = 11


def compare(client: redis.Redis, asked: Iterable[Exchange], script: Script = COUNTER) -> None:
    """AssertionError at the first exchange in which the script differs from the oracle."""
    sha = client.script_load(script.text)
    left = iter(asked)
    while some := list(itertools.islice(left, AT_ONCE)):
        pipeline = client.pipeline(transaction=False)
        places = [_ask(pipeline, sha, exchange) for exchange in some]
        answers = pipeline.execute()
        for exchange, place in zip(some, places, strict=True):
            _check(exchange, answers[place], answers[place + 1 : place + 1 + len(EVERYTHING)])


def _ask(pipeline: Any, sha: str, exchange: Exchange) -> int:
    """Returns where among the pipeline's answers the script's is."""
    pipeline.delete(*EVERYTHING)
    wire.store(pipeline, PREFIX, exchange.before, exchange.labels)
    words = wire.request(exchange.request, PREFIX, exchange.wall, LABEL)
    place = len(pipeline.command_stack)
    pipeline.evalsha(sha, sum(word.startswith(ROOT) for word in words), *words)
    for name in EVERYTHING:
        pipeline.hgetall(name)
    return place


def _check(exchange: Exchange, reply: list[int], held: list[Any]) -> None:
    before, labels, request, wall = exchange
    before = wire.numbered_by_redis(before, request, reply)
    after, right = model.serve(before, request, wall)
    assert reply == wire.reply(right), exchange
    stored = wire.Stored.of(PREFIX, dict(zip(EVERYTHING, held, strict=True)))
    assert stored.server == after, f"{exchange}\n{stored.server}\n{after}"
    if after.opened != before.opened:
        labels = {**labels, request.instance: LABEL}
    assert stored.labels == {name: labels[name] for name in after.sessions}, exchange
    stored.check_what_only_redis_keeps()


def test_the_script_does_what_the_oracle_does(newest_server: RedisServer) -> None:
    compare(newest_server.client(), Chance(SEED).exchanges(scaled(10_000)))


DEFECTS = {
    "the label is lost": (
        "'^[^ ]+ [^ ]+ ([^ ]+) ([^ ]+)(.*)$'",
        "'^[^ ]+ [^ ]+ ([^ ]+) ([^ ]+)()'",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_shows(newest_server: RedisServer, defect: str) -> None:
    """That it can fail."""
    was, becomes = DEFECTS[defect]
    assert COUNTER.text.count(was) == 1
    script = Script(COUNTER.text.replace(was, becomes))
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is that goes wrong
        compare(newest_server.client(), Chance(SEED).exchanges(10_000), script)
