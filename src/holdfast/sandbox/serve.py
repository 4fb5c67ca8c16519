"""Runs the sandbox until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from holdfast.base.clock import Clock, SystemClock
from holdfast.platform.processes import check_port
from holdfast.sandbox import webhooks
from holdfast.sandbox.app import Silence, make_app
from holdfast.sandbox.doors import Doors
from holdfast.sandbox.engine import Engine
from holdfast.sandbox.model import DEFAULT_INSTANCES, Instance
from holdfast.sandbox.store import Store


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run.

    `port` 0 takes any free one. `doors`: instance -> port of its own. `hooks`: addresses for webhooks, in
    which `{instance}` stands for the instance's name.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    hooks: tuple[str, ...] = ()
    doors: Mapping[str, int] = field(default_factory=dict)
    instances: Sequence[Instance] = DEFAULT_INSTANCES


async def serve(
    settings: Settings, *, ready: Callable[[int, Mapping[str, int]], None], clock: Clock | None = None
) -> None:
    """Serve until SIGTERM or SIGINT.

    `ready` is told the port, and the ports of the doors. Raises: `PortTaken`.
    """
    now = clock or SystemClock()
    store = Store(settings.folder / "books.sqlite3")
    engine = Engine(
        store, settings.instances, seed=settings.seed, now_ms=lambda: int(now.now().timestamp() * 1000)
    )
    if settings.hooks:
        for name in engine.instances:
            engine.set_hooks(name, [hook.replace("{instance}", name) for hook in settings.hooks])
    stop, silence = asyncio.Event(), Silence()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(make_app(engine, silence), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    doors = Doors(engine, silence, settings.host, settings.doors)
    courier = asyncio.create_task(webhooks.run(engine, stop=stop))
    try:
        port = await _listen(runner, settings)
        ready(port, await doors.open())
        watcher = asyncio.create_task(doors.watch(stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((stopping, courier, watcher), return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        silence.end()
        await asyncio.gather(courier, watcher, stopping)
    finally:
        stop.set()
        silence.end()
        courier.cancel()
        await doors.close()
        await runner.cleanup()
        store.close()


async def _listen(runner: web.AppRunner, settings: Settings) -> int:
    if settings.port:
        check_port(settings.host, settings.port, option="--port")
    listener = socket.create_server((settings.host, settings.port), backlog=512)
    await web.SockSite(runner, listener).start()
    return int(listener.getsockname()[1])
