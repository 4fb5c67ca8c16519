"""A merchant's server that takes webhooks, and does with them what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Arrived:
    """One request that came in."""

    headers: dict[str, str]
    body: str


@dataclass
class Receiver:
    """Remembers what arrived and answers as `answer` says: (status, headers), or None to never answer."""

    url: str = ""
    arrived: list[Arrived] = field(default_factory=list)
    answer: Callable[[Arrived], tuple[int, dict[str, str]] | None] = lambda _arrived: (204, {})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        it = Arrived({k.lower(): v for k, v in request.headers.items()}, await request.text())
        self.arrived.append(it)
        said = self.answer(it)
        if said is None:
            await asyncio.sleep(3600)
            raise AssertionError
        return web.Response(status=said[0], headers=said[1], text="" if said[0] == 204 else f"said {said[0]}")


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Run a receiver on a free port."""
    it = Receiver()
    app = web.Application()
    app.router.add_post("/{tail:.*}", it.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    try:
        yield it
    finally:
        await runner.cleanup()
