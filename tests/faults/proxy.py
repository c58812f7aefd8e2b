"""A TCP proxy in front of a server, which misbehaves as it is told."""

import asyncio
import threading
from contextlib import suppress
from typing import Literal

Fault = Literal["none", "refused", "silent", "500", "slow", "cut"]
FAULTS: tuple[Fault, ...] = ("refused", "silent", "500", "slow", "cut")

_SLOW_S = 0.3
_CUT_AFTER = 40
_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


class FaultProxy:
    """Listens on a free port of this machine and passes everything on to `upstream`, unless `fault` says otherwise.

    `refused` drops connections, `silent` takes them and never answers, `500` answers so, `slow` holds every piece back
    for a while, and `cut` passes requests on and ends each reply after a few bytes. Open connections are dropped when
    the fault changes, or a client that keeps them would not meet it.
    """

    def __init__(self, upstream: int) -> None:
        self.met = 0  # connections that met a fault
        self._upstream = upstream
        self._fault: Fault = "none"
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(30)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def set(self, fault: Fault) -> None:
        """From now on."""
        asyncio.run_coroutine_threadsafe(self._change(fault), self._loop).result(30)

    def close(self) -> None:
        """Drop everything."""
        asyncio.run_coroutine_threadsafe(self._change("refused"), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _change(self, fault: Fault) -> None:
        self._fault = fault
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.met += self._fault != "none"
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.transport.abort()
            self._open.discard(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match self._fault:
            case "refused":
                return
            case "silent":
                await reader.read(-1)  # until the client has had enough
            case "500":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_ERROR)
                await writer.drain()
            case _:
                await self._pass_on(reader, writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            requests = asyncio.create_task(self._pump(reader, ahead, reply=False))
            replies = asyncio.create_task(self._pump(behind, writer, reply=True))
            _, left = await asyncio.wait({requests, replies}, return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
        finally:
            ahead.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, reply: bool) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if self._fault == "slow":
                    await asyncio.sleep(_SLOW_S)
                if self._fault == "cut" and reply:
                    target.write(data[:_CUT_AFTER])
                    await target.drain()
                    return
                target.write(data)
                await target.drain()
