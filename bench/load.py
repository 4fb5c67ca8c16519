"""A small HTTP load client: many connections in one process, each with one request under way, latencies kept.

Requests are made before the clock starts, so that the client costs little beside what it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Load:
    """What a run brought: seconds per answered request, answers by status, seconds in all."""

    latencies_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies_s) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """Return the latency below which `share` of the answers came, milliseconds."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


class _Connection(asyncio.Protocol):
    """One connection, one request under way.

    `due` holds the moments at which requests should have been sent.
    """

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = bytearray()
        self._need = -1
        self.transport: asyncio.Transport | None = None
        self.busy = False
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, since: float) -> None:
        self.busy = True
        self._since = since
        if self.transport is not None:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if self._need < 0:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            at = buffer.find(b"content-length: ")
            self._need = end + 4 + int(buffer[at + 16 : buffer.find(b"\r\n", at)])
        if len(buffer) >= self._need:
            status = int(buffer[9:12])
            self._buffer = buffer[self._need :]
            self._need = -1
            self.busy = False
            self._run.answered(self, status, time.perf_counter() - self._since)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self._run.failed(exc or ConnectionError("the server closed the connection"))


class _Run:
    def __init__(self, requests: Sequence[bytes], rate: float | None) -> None:
        self._requests = iter(requests)
        self._left = len(requests)
        self._gap_s = None if rate is None else 1 / rate
        self._idle: list[_Connection] = []
        self._queue: list[float] = []
        self._connections: list[_Connection] = []
        self.load = Load()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def go(self, host: str, port: int, connections: int) -> Load:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, made = await loop.create_connection(lambda: _Connection(self), host, port)
            self._connections.append(made)
        began = time.perf_counter()
        if self._gap_s is None:
            for connection in self._connections:
                self._next(connection, began)
        else:
            self._idle = list(self._connections)
            pacer = asyncio.create_task(self._pace(began, self._left))
        await self.done
        if self._gap_s is not None:
            await pacer
        self.load.seconds = time.perf_counter() - began
        for connection in self._connections:
            if connection.transport is not None:
                connection.transport.close()
        return self.load

    async def _pace(self, began: float, count: int) -> None:
        """Send at an even rate, whatever the server does.

        A request that waits for a connection is late, and counts so.
        """
        gap_s = self._gap_s or 0.0
        for number in range(count):
            due = began + number * gap_s
            ahead = due - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
            if self._idle:
                self._next(self._idle.pop(), due)
            else:
                self._queue.append(due)

    def _next(self, connection: _Connection, since: float) -> None:
        request = next(self._requests, None)
        if request is not None:
            connection.send(request, since)

    def answered(self, connection: _Connection, status: int, seconds: float) -> None:
        self.load.latencies_s.append(seconds)
        self.load.statuses[status] += 1
        self._left -= 1
        if self._left == 0:
            if not self.done.done():
                self.done.set_result(None)
        elif self._gap_s is None:
            self._next(connection, time.perf_counter())
        elif self._queue:
            self._next(connection, self._queue.pop(0))
        else:
            self._idle.append(connection)

    def failed(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def run(
    host: str, port: int, requests: Sequence[bytes], *, connections: int, rate: float | None = None
) -> Load:
    """Send `requests`, each once, over `connections`.

    As fast as answers come, or at an even `rate` per second.

    At a rate, a latency counts from the moment at which the request was due, so a stall is not hidden by
    waiting.
    """
    return await _Run(requests, rate).go(host, port, connections)


def request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return a POST as the bytes that go over the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
