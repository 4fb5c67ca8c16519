"""Ports of their own for instances, so that `refuse` can refuse connections for real.

Nobody listens any more.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from holdfast.sandbox.app import Silence, make_door
from holdfast.sandbox.engine import Engine
from holdfast.sandbox.faults import Kind

WATCH_S: Final = 0.02
"""How soon a door follows a fault that is set or taken away."""


class Doors:
    """Opens and closes the doors.

    A door is closed while a `refuse` fault with the full share covers its whole instance.
    """

    def __init__(self, engine: Engine, silence: Silence, host: str, ports: Mapping[str, int]) -> None:
        self._engine = engine
        self._silence = silence
        self._host = host
        self._ports = dict(ports)
        self._open: dict[str, web.AppRunner] = {}

    async def open(self) -> Mapping[str, int]:
        """Open all doors; return the ports, also those that were chosen freely."""
        for name, port in list(self._ports.items()):
            self._ports[name] = await self._unlock(name, port)
        return dict(self._ports)

    async def _unlock(self, name: str, port: int) -> int:
        runner = web.AppRunner(
            make_door(self._engine, self._silence, name), access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        listener = socket.create_server((self._host, port), backlog=512)
        await web.SockSite(runner, listener).start()
        self._open[name] = runner
        return int(listener.getsockname()[1])

    async def watch(self, stop: asyncio.Event) -> None:
        """Follow the faults until `stop`."""
        while not stop.is_set():
            for name, port in self._ports.items():
                refusing = self._refuses(name)
                if refusing and name in self._open:
                    await self._open.pop(name).cleanup()
                elif not refusing and name not in self._open:
                    await self._unlock(name, port)
            await asyncio.sleep(WATCH_S)

    def _refuses(self, name: str) -> bool:
        now_ms = self._engine.now_ms()
        return any(
            fault.kind is Kind.REFUSE
            and fault.share >= 1
            and not fault.operations
            and fault.concerns(name, "", now_ms)
            for fault in self._engine.in_force()
        )

    async def close(self) -> None:
        """Close all doors."""
        for runner in self._open.values():
            await runner.cleanup()
        self._open.clear()
