"""The programs in `examples/` do what they say, and give back what they hold when they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiohttp import web
from websockets.sync.client import connect

from distkit import StrictInstanceAwareCounter
from tests.examples.programs import end, get, program, wait_until
from tests.harness.servers import RedisServer, free_port
from tests.harness.wire import sessions_of


def _total(server: RedisServer, prefix: str, key: str) -> int:
    with server.client() as client:
        return StrictInstanceAwareCounter(client, prefix).get(key).cumulative


def _sessions(server: RedisServer, prefix: str) -> int:
    """How many instances have a session, or have not been found dead."""
    with server.client() as client:
        return len(sessions_of(client, prefix))


def test_starlette_admits_no_more_than_the_limit(newest_server: RedisServer) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["uvicorn", "examples.starlette_limit:app", "--port", str(port)]
    with program(newest_server, *words, MOST="2") as server, ThreadPoolExecutor() as pool:
        wait_until(lambda: get(f"{url}/status") == (200, '{"free":2}'))
        slow = [pool.submit(get, f"{url}/work?seconds=2") for _ in range(2)]
        wait_until(lambda: json.loads(get(f"{url}/status")[1])["free"] == 0)
        assert get(f"{url}/work") == (503, "full")
        assert [answer.result() for answer in slow] == [(200, "done")] * 2
        assert get(f"{url}/work") == (200, "done")
        end(server)
        assert _sessions(newest_server, "starlette") == 0
        assert _total(newest_server, "starlette", "requests") == 0


def test_people_in_a_room_are_counted_over_all_servers(newest_server: RedisServer) -> None:
    ports = [free_port(), free_port()]
    uvicorn = ["uvicorn", "examples.websocket_rooms:app", "--port"]
    with (
        program(newest_server, *uvicorn, str(ports[0])) as one,
        program(newest_server, *uvicorn, str(ports[1])),
    ):
        for port in ports:
            wait_until(lambda port=port: get(f"http://127.0.0.1:{port}/")[0] == 404)  # type: ignore[misc]
        first, second = (f"ws://127.0.0.1:{port}/lobby" for port in ports)
        with connect(first) as ann, connect(second) as bob:
            assert {ann.recv(), bob.recv()} == {"1", "2"}
            with connect(first.replace("lobby", "attic")) as eve:
                assert eve.recv() == "1"
            ann.send("?")
            assert ann.recv() == "2"
        with connect(first) as ann:
            ann.recv()
            wait_until(lambda: _total(newest_server, "rooms", "lobby") == 1)
            end(one)
            assert _total(newest_server, "rooms", "lobby") == 0, "nobody is on a server that ended"
        with (
            connect(second.replace("lobby", "a%3Ab")) as odd,
            pytest.raises(Exception, match="key"),
        ):
            odd.recv()


@pytest.mark.parametrize("preload", [True, False])
def test_gunicorns_workers_are_instances_of_their_own(
    newest_server: RedisServer, preload: bool
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["gunicorn", "--config", "examples/gunicorn_conf.py", "--bind", f"127.0.0.1:{port}"]
    words += ["--workers", "2", "--threads", "4"]
    words += ["--preload"] * preload + ["examples.flask_app:app"]
    with (
        program(newest_server, *words, MOST="3", THRESHOLD_MS="1500") as server,
        ThreadPoolExecutor() as pool,
    ):
        wait_until(lambda: get(f"{url}/status") == (200, "3"))
        slow = [pool.submit(get, f"{url}/report?seconds=1.5") for _ in range(3)]
        wait_until(lambda: get(f"{url}/status")[1] == "0")
        assert get(f"{url}/report") == (503, "full")
        pids = {int(answer.result()[1]) for answer in slow}
        assert get(f"{url}/status") == (200, "3")
        os.kill(pids.pop(), signal.SIGKILL)
        wait_until(lambda: get(f"{url}/status") == (200, "3"), 20)
        last = [pool.submit(get, f"{url}/report?seconds=1") for _ in range(2)]
        wait_until(lambda: get(f"{url}/status")[1] == "1")
        end(server)
        assert [answer.result()[0] for answer in last] == [200, 200]
        assert _sessions(newest_server, "flask") <= 1, "of the one that was killed"
        assert _total(newest_server, "flask", "reports") == 0


def test_celery_limits_a_task_over_all_workers(
    newest_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{newest_server.port}")
    from examples.celery_worker import app

    url = f"redis://127.0.0.1:{newest_server.port}"
    app.conf.update(broker_url=url, result_backend=url)
    worker = ["celery", "-A", "examples.celery_worker", "worker", "--concurrency", "3"]
    with (
        program(newest_server, *worker, "-n", "one@h") as one,
        program(newest_server, *worker, "-n", "two@h"),
    ):
        results = [app.send_task("examples.celery_worker.export", [0.3]) for _ in range(8)]
        inside = [result.get(timeout=60) for result in results]
        assert max(inside) == 2
        assert _sessions(newest_server, "celery") >= 2
        end(one)
        wait_until(lambda: _total(newest_server, "celery", "exports") == 0)


def test_the_aiohttp_client_spares_the_other_server(
    newest_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes have one limit."""
    from examples.aiohttp_client import fetch_all

    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{newest_server.port}")
    inside = most = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1
        return web.Response(text="hello")

    async def main() -> None:
        server = web.Application()
        server.router.add_get("/", answer)
        runner = web.AppRunner(server)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        urls = [f"http://127.0.0.1:{port}/"] * 60
        with program(newest_server, "examples.aiohttp_client", urls[0], "60") as other:
            assert await fetch_all(urls) == [200] * 60
            printed, _ = await asyncio.to_thread(other.communicate, timeout=60)
            assert json.loads(printed) == [200] * 60
        await runner.cleanup()

    asyncio.run(main())
    assert most == 5
