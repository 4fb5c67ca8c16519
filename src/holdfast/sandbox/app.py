"""The network side.

Reads requests, lets the engine judge and perform them, and fails on the wire as the verdict says.

An ordinary web framework answers requests; this one must also not answer, close the connection before it
has read, reset it, or leave it open. aiohttp's server hands out the transport, which is what that takes
(see the decision record).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from aiohttp import web

from holdfast.base.limits import BODY_BYTES_MAX, SANDBOX_SILENCE_S_MAX
from holdfast.sandbox.control import control_routes
from holdfast.sandbox.engine import Engine, InstanceUnknown
from holdfast.sandbox.faults import Verdict
from holdfast.sandbox.model import Call, Response

ENGINE: Final = web.AppKey("engine", Engine)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Silence:
    """Connections that are left without an answer, so that stopping need not wait for them."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    async def keep(self) -> None:
        """Say nothing until the sandbox stops or the longest silence is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), SANDBOX_SILENCE_S_MAX)

    def end(self) -> None:
        """Let everybody go."""
        self._over.set()


def reset(request: web.Request) -> web.Response:
    """Send a reset instead of an answer."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)


def hang_up(request: web.Request) -> web.Response:
    """Close the connection in an orderly way without an answer."""
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=500)


class Front:
    """Serves instances: each under its own path prefix, or one of them alone on a door of its own."""

    def __init__(self, engine: Engine, silence: Silence) -> None:
        self._engine = engine
        self._silence = silence
        self._busy: set[tuple[str, str]] = set()

    def at_prefix(self) -> _Handler:
        """Return the handler for `/{instance}/…`."""

        async def handle(request: web.Request) -> web.StreamResponse:
            instance = request.match_info["instance"]
            path = request.path.removeprefix(f"/{instance}")
            return await self._serve(request, instance, path)

        return handle

    def alone(self, instance: str) -> _Handler:
        """Return the handler for an instance that has the whole port."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, instance, request.path)

        return handle

    async def _serve(self, request: web.Request, instance: str, path: str) -> web.StreamResponse:
        key = request.headers.get("idempotency-key")
        try:
            heard = self._engine.judge(instance, request.method, path, key)
        except InstanceUnknown as error:
            return web.json_response({"error": {"message": error.message}}, status=404)
        if heard.verdict.refuse:
            return reset(request)
        if heard.verdict.dark:
            await self._silence.keep()
            return hang_up(request)
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.method, path, request.query_string, headers, body, self._engine.now_ms())
        verdict = self._engine.sharpen(instance, call, heard)
        return await self._answer(request, instance, call, verdict)

    async def _answer(
        self, request: web.Request, instance: str, call: Call, verdict: Verdict
    ) -> web.StreamResponse:
        provider = self._engine.provider(instance)
        if verdict.refuse:
            return reset(request)
        if verdict.dark or verdict.hang:
            await self._silence.keep()
            return hang_up(request)
        if verdict.rate_limit or verdict.bad_key or verdict.error_before:
            return _written(provider.refusal(verdict))
        slot = (instance, call.headers.get("idempotency-key", ""))
        if slot[1] and slot in self._busy:
            return _written(provider.busy())
        self._busy.add(slot)
        try:
            if verdict.delay_ms:
                await asyncio.sleep(verdict.delay_ms / 1000)
            response = self._engine.perform(instance, _later(call, self._engine.now_ms()), verdict)
        finally:
            self._busy.discard(slot)
        if verdict.lost:
            return hang_up(request)
        if verdict.mute:
            await self._silence.keep()
            return hang_up(request)
        return _written(response)


def _later(call: Call, now_ms: int) -> Call:
    return Call(call.method, call.path, call.query, call.headers, call.body, now_ms)


def _written(response: Response) -> web.Response:
    headers = {**response.headers, "content-type": response.content_type}
    return web.Response(status=response.status, body=response.body, headers=headers)


def make_app(engine: Engine, silence: Silence) -> web.Application:
    """Return the application: control under `/_control`, a page at `/`, instances under their names."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app[ENGINE] = engine
    app.add_routes(control_routes(engine))
    app.router.add_route("*", "/{instance}/{tail:v1/.*}", Front(engine, silence).at_prefix())
    return app


def make_door(engine: Engine, silence: Silence, instance: str) -> web.Application:
    """Return the application of an instance that has a port to itself."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_route("*", "/{tail:.*}", Front(engine, silence).alone(instance))
    return app
