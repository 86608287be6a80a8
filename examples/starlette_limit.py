"""Starlette (and FastAPI, which is one): at most 100 requests at a time over all servers.

uvicorn examples.starlette_limit:app
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import redis.asyncio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from distkit.asyncio import StrictInstanceAwareCounter

counter = StrictInstanceAwareCounter(
    redis.asyncio.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost")), "starlette"
)
limit = counter.limit(
    "requests",
    int(os.environ.get("MOST", "100")),
    when_unreachable="allow",  # without Redis, serve rather than refuse
)


class LimitRequests:
    """Middleware: a request that finds no slot within half a second is answered with 503."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/status":
            await self.app(scope, receive, send)
        elif await limit.acquire(timeout=0.5):
            try:
                await self.app(scope, receive, send)
            finally:
                limit.release()
        else:
            await PlainTextResponse("full", status_code=503)(scope, receive, send)


async def work(request: Request) -> PlainTextResponse:
    await asyncio.sleep(float(request.query_params.get("seconds", "0")))
    return PlainTextResponse("done")


async def status(_: Request) -> JSONResponse:
    return JSONResponse({"free": await limit.available()})


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with counter:  # heartbeats inside; at the end, all slots are given back
        yield


app = Starlette(
    routes=[Route("/work", work), Route("/status", status)],
    middleware=[Middleware(LimitRequests)],
    lifespan=lifespan,
)
