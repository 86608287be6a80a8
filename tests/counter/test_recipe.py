"""The README's recipe: a limit on requests over all servers, which no crash can leak (R15, R16)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

import distkit.asyncio
from distkit import StrictInstanceAwareCounter, lt
from tests.harness.servers import RedisServer

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
(RECIPE,) = (code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "App" in code)


def _recipe(server: RedisServer, most: int) -> dict[str, Any]:
    """The names that the pasted code defines, with its own server and limit."""
    code = RECIPE.replace("redis.asyncio.Redis()", f"redis.asyncio.Redis(port={server.port})")
    code = code.replace("MOST = 100", f"MOST = {most}").replace("asyncio.sleep(1)", "work.wait()")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


async def _serve(names: dict[str, Any], requests: int) -> list[int]:
    """Start the application, send it requests at once, and stop it. Returns their statuses."""
    names["work"] = work = asyncio.Event()
    app, sent, stop = names["app"], asyncio.Queue[Any](), asyncio.Event()
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
    work.set()
    await asyncio.gather(*tasks)
    stop.set()
    await lifespan
    assert (await sent.get())["type"] == "lifespan.shutdown.complete"
    return sorted(answer["status"] for answer in answers if "status" in answer)


def test_no_more_than_the_limit_are_served_at_once(real_server: RedisServer) -> None:
    names = _recipe(real_server, 2)
    assert asyncio.run(_serve(names, 3)) == [200, 200, 503]
    assert asyncio.run(_serve(names, 2)) == [200, 200], "all slots were given back"


def test_a_crash_leaks_no_slot(real_server: RedisServer) -> None:
    """A server took a slot and was never heard again."""
    crashed = StrictInstanceAwareCounter(
        real_server.client(), "my_app", dead_instance_threshold_ms=300
    )
    crashed.inc_if("requests", lt(2))
    names = _recipe(real_server, 2)
    assert asyncio.run(_serve(names, 1)) == [200]
    survivor = StrictInstanceAwareCounter(
        real_server.client(), "my_app", dead_instance_threshold_ms=300
    )
    assert survivor.get("requests").cumulative == 1
    asyncio.run(asyncio.sleep(0.35))
    assert survivor.get("requests").cumulative == 0


def test_a_cancelled_request_leaks_no_slot(real_server: RedisServer) -> None:
    """Whether it was cancelled before the slot was taken, just then, or with the slot in hand."""
    slot = _recipe(real_server, 2)["slot"]

    async def main() -> None:
        async with redis.asyncio.Redis(port=real_server.port) as client:
            counter = distkit.asyncio.StrictInstanceAwareCounter(client, "my_app")

            async def hold() -> None:
                async with slot(counter, "requests", 5):
                    await asyncio.sleep(20)

            for turns in range(12):
                task = asyncio.ensure_future(hold())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await asyncio.sleep(0.05)
            assert await counter.get("requests") == (0, 0)

    asyncio.run(main())
