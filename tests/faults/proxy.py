"""A TCP proxy whose connections can be cut and held, so that a network fails where the servers themselves do not."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

_PIECE = 2**16
_ANSWER_S = 10

# A port on loopback, or a Unix socket.
Target = int | Path


class Proxy:
    """Stands between programs and a server. Its address stays, wherever the server goes."""

    def __init__(self, target: Target = 0) -> None:
        self.target = target
        self._holds = 0
        self._ends: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.port: int = self._run(self._open())

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        self._run(self._cut())

    def hold(self) -> None:
        """Forward nothing more, on old connections and new ones, and tell nobody. Holds add up."""
        self._run(self._change_holds(+1))

    def release(self) -> None:
        """Take one hold back; what was kept goes on its way after the last."""
        self._run(self._change_holds(-1))

    def close(self) -> None:
        """Cut everything and take no connection any more."""
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_S)

    async def _open(self) -> int:
        self._flows = asyncio.Event()
        self._flows.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            await self._flows.wait()
            far_reader, far_writer = await self._connect()
        except OSError:
            # Accepted and reset at once: as near as a proxy comes to a port where nobody listens.
            self._drop(writer)
            return
        self._ends.add(far_writer)
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, Path):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection("127.0.0.1", self.target)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(_PIECE):
                await self._flows.wait()
                sink.write(piece)
                await sink.drain()
            await self._flows.wait()
            sink.close()
        except OSError:
            sink.transport.abort()
        self._ends.discard(sink)

    async def _cut(self) -> None:
        for end in list(self._ends):
            self._drop(end)

    def _drop(self, end: asyncio.StreamWriter) -> None:
        # A close without lingering is a reset and not an orderly end. What is closed already needs none.
        with suppress(OSError):
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.transport.abort()
        self._ends.discard(end)

    async def _change_holds(self, change: int) -> None:
        self._holds += change
        if self._holds:
            self._flows.clear()
        else:
            self._flows.set()

    async def _shut(self) -> None:
        self._server.close()
        self._flows.set()
        await self._cut()
        # Each sees its connection end, and ends.
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=_ANSWER_S / 2)
