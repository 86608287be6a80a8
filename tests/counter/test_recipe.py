"""The README's ASGI application and its tests run as they are printed (R20)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distkit import StrictInstanceAwareCounter
from oracle import AsyncInMemoryCounter, InMemoryServer
from tests.harness.servers import RedisServer

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, re.S)
(RECIPE,) = (code for code in CODE if "async def app" in code)
(TESTS,) = (code for code in CODE if "def test_" in code)


def _recipe(redis_port: int = 6379, most: int = 100) -> dict[str, Any]:
    """The names that the pasted code defines, with its own server and limit, and work that waits
    for `names["work"]`."""
    code = RECIPE.replace("redis.asyncio.Redis()", f"redis.asyncio.Redis(port={redis_port})")
    code = code.replace('limit("requests", 100)', f'limit("requests", {most})')
    code = code.replace('await answer(send, 200, b"done")', "await work(send)")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


async def _serve(names: dict[str, Any], requests: int) -> list[int]:
    """Start the application, send it requests at once, and stop it. Returns their statuses."""
    begin, stop, sent = asyncio.Event(), asyncio.Event(), asyncio.Queue[Any]()

    async def work(send: Any) -> None:
        await begin.wait()
        await names["answer"](send, 200, b"done")

    names["work"], app = work, names["app"]
    ends = iter([asyncio.sleep(0), stop.wait()])

    async def receive() -> None:
        await next(ends)

    lifespan = asyncio.ensure_future(app({"type": "lifespan"}, receive, sent.put))
    assert (await sent.get())["type"] == "lifespan.startup.complete"
    answers: list[Any] = []

    async def request() -> None:
        async def send(message: Any) -> None:
            answers.append(message)

        await app({"type": "http"}, None, send)

    tasks = [asyncio.ensure_future(request()) for _ in range(requests)]
    while not any(a.get("status") == 503 for a in answers) and requests > 2:
        await asyncio.sleep(0.005)
    begin.set()
    await asyncio.gather(*tasks)
    stop.set()
    await lifespan
    assert (await sent.get())["type"] == "lifespan.shutdown.complete"
    return sorted(answer["status"] for answer in answers if "status" in answer)


def test_no_more_than_the_limit_are_served_at_once(real_server: RedisServer) -> None:
    assert asyncio.run(_serve(_recipe(real_server.port, 2), 3)) == [200, 200, 503]
    assert asyncio.run(_serve(_recipe(real_server.port, 2), 2)) == [200, 200], "all were given back"


def test_a_crash_leaks_no_slot(real_server: RedisServer) -> None:
    """A server took a slot and was never heard again."""
    crashed, survivor = (
        StrictInstanceAwareCounter(real_server.client(), "my_app", dead_instance_threshold_ms=2_000)
        for _ in range(2)
    )
    assert crashed.limit("requests", 2).acquire()
    assert asyncio.run(_serve(_recipe(real_server.port, 2), 1)) == [200]
    assert survivor.get("requests").cumulative == 1
    asyncio.run(asyncio.sleep(2.1))
    assert survivor.get("requests").cumulative == 0


def _on(counter: AsyncInMemoryCounter, most: int) -> dict[str, Any]:
    """The application on a stand-in."""
    names = _recipe()
    names.update(counter=counter, limit=counter.limit("requests", most))
    return names


def test_it_is_tested_with_the_plugin(
    counter_server: InMemoryServer,
    make_async_counter: Callable[..., AsyncInMemoryCounter],
    async_counter: AsyncInMemoryCounter,
) -> None:
    assert asyncio.run(_serve(_on(async_counter, 2), 3)) == [200, 200, 503]
    crashed = make_async_counter()
    assert asyncio.run(crashed.limit("requests", 1).acquire())
    assert asyncio.run(_serve(_on(make_async_counter(), 1), 1)) == [503]
    counter_server.advance(30_000)
    assert asyncio.run(_serve(_on(make_async_counter(), 1), 1)) == [200]


def test_an_outage_in_the_middle_of_a_request_leaks_no_slot(
    counter_server: InMemoryServer, async_counter: AsyncInMemoryCounter
) -> None:
    names = _on(async_counter, 1)

    async def main() -> int:
        async def work(send: Any) -> None:
            counter_server.go_down()

        names["work"] = work
        await names["app"]({"type": "http"}, None, None)
        counter_server.come_back()
        assert (await async_counter.get("requests")).cumulative == 0
        return await async_counter.limit("requests", 1).available()

    assert asyncio.run(main()) == 1


def test_the_readmes_tests_pass(pytester: pytest.Pytester) -> None:
    """In a pytest of their own, which finds the plugin by its entry point."""
    pytester.makepyfile(TESTS)
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=2)
