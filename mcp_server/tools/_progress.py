"""Progress of a call, from the threads that work on it to the client that asked for it."""

import asyncio
import math
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.mcpserver import Context

STEP = 1e-3
MESSAGE_LIMIT = 200  # what hosts show

_Report = tuple[float, float | None, str | None]


class Reporter:
    """A function that any thread may call with `(done, total, message)` while the call runs; later it does nothing."""

    def __init__(self, context: Context[Any, Any] | None) -> None:
        self._context = context
        self._reports: MemoryObjectSendStream[_Report] | None = None

    async def __aenter__(self) -> Self:
        if self._context is not None and self._context.protocol_version is not None:
            self._loop = asyncio.get_running_loop()
            self._reports, received = anyio.create_memory_object_stream[_Report](math.inf)
            self._forwarding = anyio.create_task_group()
            await self._forwarding.__aenter__()
            self._forwarding.start_soon(self._forward, self._context, received)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reports is not None:
            self._reports.close()
            await self._forwarding.__aexit__(kind, exc, trace)

    def __call__(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell the client; returns at once."""
        if self._reports is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it the client's interest
                self._loop.call_soon_threadsafe(self._offer, (done, total, message))

    def _offer(self, report: _Report) -> None:
        if self._reports is not None:
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                self._reports.send_nowait(report)

    async def _forward(self, context: Context[Any, Any], received: MemoryObjectReceiveStream[_Report]) -> None:
        last = -math.inf
        with received:
            async for done, total, message in received:
                # The protocol wants every value larger than the one before; hosts that wait want signs of life.
                last = max(float(done), last + STEP)
                with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                    await context.report_progress(last, total, message[:MESSAGE_LIMIT] if message else None)
