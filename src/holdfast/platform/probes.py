"""Three addresses for a process that serves nothing else: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from holdfast.platform import metrics

_REQUEST_TIMEOUT_S: Final = 5.0
_REQUEST_BYTES_MAX: Final = 8_192
_PHRASES: Final = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


@asynccontextmanager
async def probes(port: int, ready: Callable[[], bool]) -> AsyncIterator[None]:
    """Answer on `port` (0: do not) until the block ends. `ready` tells whether the process can work."""
    if not port:
        yield
        return

    def answer(method: str, path: str) -> tuple[int, str, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, "text/plain", b"only GET\n"
        if path == "/healthz":
            return 200, "application/json", b'{"status":"ok"}\n'
        if path == "/readyz":
            return (
                (200, "application/json", b'{"status":"ready"}\n')
                if ready()
                else (503, "application/json", _NOT_YET)
            )
        if path == "/metrics":
            return 200, metrics.CONTENT_TYPE, metrics.render()
        return 404, "text/plain", b"/healthz, /readyz, /metrics\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
                status, kind, body = answer(method, rest.partition(" ")[0].partition("?")[0])
                writer.write(
                    f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: {kind}\r\n"
                    f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
                )
                writer.write(b"" if method == "HEAD" else body)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # whoever asked went away or talks something else: they see a closed connection
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=_REQUEST_BYTES_MAX)
    async with server:
        yield


_READY: Final = b'{"status":"ready"}\n'
_NOT_YET: Final = b'{"status":"not ready"}\n'
