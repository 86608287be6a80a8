"""aiohttp: at most 5 requests at a time to somebody else's server, from all our processes together.

python -m examples.aiohttp_client http://localhost:8000/ 100
"""

from __future__ import annotations

import asyncio
import os
import sys

import aiohttp
import redis.asyncio

from distkit.asyncio import StrictInstanceAwareCounter


async def fetch_all(urls: list[str], most: int = 5) -> list[int]:
    """Fetch every URL, and return the statuses. Whoever waits is served in order."""
    url = os.environ.get("REDIS_URL", "redis://localhost")
    async with (
        redis.asyncio.Redis.from_url(url) as client,
        StrictInstanceAwareCounter(client, "aiohttp") as counter,
        aiohttp.ClientSession() as session,
    ):

        @counter.limit("their server", most)
        async def fetch(url: str) -> int:
            async with session.get(url) as response:
                await response.read()  # the slot is held until the body is here
                return response.status

        return await asyncio.gather(*map(fetch, urls))


if __name__ == "__main__":
    print(asyncio.run(fetch_all([sys.argv[1]] * int(sys.argv[2]))))
