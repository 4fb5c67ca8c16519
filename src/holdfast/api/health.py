"""`/healthz`: is the process alive; `/readyz`: can it work; `/metrics`: numbers for Prometheus."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from litestar import Router, get, head
from litestar.response import Response

from holdfast.api.responses import Call, api_of
from holdfast.api.wire import Health
from holdfast.base.errors import HoldfastError
from holdfast.platform import metrics

READY_TIMEOUT_S: Final = 2.0
_ALIVE: Final = Health("ok", {})


@get("/healthz", summary="Is this process alive?")
async def healthz() -> Health:
    """Answer as long as the process runs.

    Looks at nothing else, so that a lost database does not get it restarted.
    """
    return _ALIVE


@head("/healthz", include_in_schema=False)
async def healthz_head() -> Response[None]:
    """Answer like `healthz`, without a body."""
    return _without_body(200, _ALIVE)


@get("/readyz", summary="Can this process work?", raises=[])
async def readyz(request: Call) -> Response[Health]:
    """Tell whether this process can take requests, and which of its needs is not met."""
    status, health = await _ready(request)
    return Response(health, status_code=status)


@head("/readyz", include_in_schema=False)
async def readyz_head(request: Call) -> Response[None]:
    """Answer like `readyz`, without a body."""
    return _without_body(*await _ready(request))


def _without_body(status: int, health: Health) -> Response[None]:
    """Return the answer's head alone, with the headers that it has with its body (RFC 9110, 9.3.2)."""
    size = len(msgspec.json.encode(health))
    headers = {"content-type": "application/json", "content-length": str(size)}
    return Response(None, status_code=status, headers=headers)


async def _ready(request: Call) -> tuple[int, Health]:
    api = api_of(request)
    try:
        async with asyncio.timeout(READY_TIMEOUT_S), api.app.database.connection() as connection:
            await connection.execute("select 1")
    except (HoldfastError, TimeoutError) as error:
        words = "does not answer" if isinstance(error, TimeoutError) else str(error)
        return 503, Health("not ready", {"database": words})
    return 200, Health("ready", {"database": "ok"})


@get("/metrics", summary="Numbers for Prometheus", media_type="text/plain")
async def numbers() -> Response[bytes]:
    """Return what this process counts, in Prometheus' text format."""
    return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)


routes = Router("/", route_handlers=[healthz, healthz_head, readyz, readyz_head, numbers], tags=["Health"])
