"""Chat rooms over WebSockets: how many people are in a room, over all servers. A key for each room.

    uvicorn examples.websocket_rooms:app

A room that everybody has left costs nothing: its counter is 0.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

import redis.asyncio
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from distkit import InvalidKeyError
from distkit.asyncio import StrictInstanceAwareCounter

rooms = StrictInstanceAwareCounter(
    redis.asyncio.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost")), "rooms"
)


async def join(socket: WebSocket) -> None:
    """Answer each message with the number of people in the room."""
    await socket.accept()
    name = socket.path_params["room"]
    try:
        inside = rooms.held(name, when_unreachable="allow")
    except InvalidKeyError as error:
        await socket.close(reason=str(error))
        return
    async with inside as state:
        await socket.send_text(str(state.cumulative) if state else "?")
        async for _ in socket.iter_text():
            await socket.send_text(str((await rooms.get(name)).cumulative))


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with rooms:
        yield


app = Starlette(routes=[WebSocketRoute("/{room}", join)], lifespan=lifespan)
