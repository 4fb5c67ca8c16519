"""`/healthz`: is the process alive; `/readyz`: can it work; `/metrics`: numbers for Prometheus."""

from __future__ import annotations

import asyncio
from typing import Final

from litestar import Router, get
from litestar.response import Response

from holdfast.api.responses import Call, api_of
from holdfast.api.wire import Health
from holdfast.base.errors import HoldfastError
from holdfast.platform import metrics

READY_TIMEOUT_S: Final = 2.0


@get("/healthz", summary="Is this process alive?")
async def healthz() -> Health:
    """Answer as long as the process runs.

    Looks at nothing else, so that a lost database does not get it restarted.
    """
    return Health("ok", {})


@get("/readyz", summary="Can this process work?", raises=[])
async def readyz(request: Call) -> Response[Health]:
    """Tell whether this process can take requests, and which of its needs is not met."""
    api = api_of(request)
    try:
        async with asyncio.timeout(READY_TIMEOUT_S), api.app.database.connection() as connection:
            await connection.execute("select 1")
    except (HoldfastError, TimeoutError) as error:
        words = "does not answer" if isinstance(error, TimeoutError) else str(error)
        return Response(Health("not ready", {"database": words}), status_code=503)
    return Response(Health("ready", {"database": "ok"}), status_code=200)


@get("/metrics", summary="Numbers for Prometheus", media_type="text/plain")
async def numbers() -> Response[bytes]:
    """Return what this process counts, in Prometheus' text format."""
    return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)


routes = Router("/", route_handlers=[healthz, readyz, numbers], tags=["Health"])
