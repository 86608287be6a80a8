"""Carries the bus of a cluster between its nodes, so that a test can cut one of them off.

Each node announces a gate in place of its own bus port. The gates pass everything on, except to and
from a node that is cut off: then neither side hears the other, as if a cable was pulled, while
clients still reach both.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

from tests.harness.deployments import HOST, Cluster, command, until
from tests.harness.servers import RedisServer

TO_THE_BUS: Final = 10_000
"""The bus port of a node is its port and so much more."""
HEAD: Final = 80
SENDER: Final = slice(40, 80)
"""Every packet begins with a head, which names the node that sends it."""
CHUNK: Final = 65_536

ResultT = TypeVar("ResultT")


class Bus:
    """The gates of a cluster, inside a `with` block."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._gates: dict[int, asyncio.Server] = {}
        self._open: dict[asyncio.Task[Any], frozenset[str]] = {}
        self._away: str | None = None

    def __enter__(self) -> Bus:
        self._thread.start()
        gates = {}
        for server in self._cluster.servers:
            gates[server.port] = self._wait_for(self._gate(server.port))
        self._announce(gates)
        return self

    def __exit__(self, *_: object) -> None:
        """The nodes speak to each other directly again."""
        self.heal()
        self._announce({server.port: 0 for server in self._cluster.servers})
        self._wait_for(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut_off(self, server: RedisServer) -> None:
        """From now on, this node and the others hear nothing of each other."""
        self._away = self._cluster.ids[server.port]
        self._wait_for(self._hang_up([*self._open]))

    def heal(self) -> None:
        self._away = None

    # --- Announcing ------------------------------------------------------------------------------

    def _announce(self, gates: dict[int, int]) -> None:
        for server in self._cluster.servers:
            command(server, "CONFIG", "SET", "cluster-announce-bus-port", gates[server.port])
        expected = {
            f"{HOST}:{port}@{gate or port + TO_THE_BUS}".encode() for port, gate in gates.items()
        }
        until(lambda: self._is_known(expected), "all nodes know the bus ports of all others")

    def _is_known(self, expected: Iterable[bytes]) -> bool:
        tables = [command(server, "CLUSTER", "NODES") for server in self._cluster.servers]
        return all(
            line.count(b" connected") == 1 for table in tables for line in table.splitlines()
        ) and all(address in table for table in tables for address in expected)

    # --- Passing on ------------------------------------------------------------------------------

    def _wait_for(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _gate(self, port: int) -> int:
        """Open the gate of a node. Returns its port."""

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(port, reader, writer)

        gate = await asyncio.start_server(pass_on, HOST)
        self._gates[port] = gate
        found: int = gate.sockets[0].getsockname()[1]
        return found

    async def _serve(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task, ends = asyncio.current_task(), {self._cluster.ids[port]}
        assert task
        writers = [writer]
        try:
            head = await reader.readexactly(HEAD)
            ends.add(head[SENDER].decode())
            self._open[task] = frozenset(ends)
            if self._away in ends:
                return
            there, back = await asyncio.open_connection(HOST, port + TO_THE_BUS)
            writers.append(back)
            back.write(head)
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._open.pop(task, None)
            for each in writers:
                each.transport.abort()

    async def _hang_up(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        for task in tasks:
            if self._away is None or self._away in self._open.get(task, ()):
                task.cancel()

    async def _close(self) -> None:
        for gate in self._gates.values():
            gate.close()
        await self._hang_up([*self._open])
        while self._open:
            await asyncio.sleep(0.01)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on until either side ends."""
    while chunk := await source.read(CHUNK):
        target.write(chunk)
        await target.drain()
    raise EOFError
