"""The server's application: the framework with every route, wrapped by the gate."""

from __future__ import annotations

import gc
import math
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, cast

from litestar import Litestar, Router
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from holdfast.api import (
    accounts,
    document,
    events,
    health,
    payers,
    payments,
    rails,
    refunds,
    top_ups,
    transfer_batches,
    transfers,
    webhook_endpoints,
)
from holdfast.api.access_log import AccessLog, Watcher
from holdfast.api.context import Api, Reply, encode
from holdfast.api.errors import MethodNotAllowed, NotFound, Problem, RequestInvalid, problem, unexpected
from holdfast.api.gate import Asgi, Gate, Hot, Wide
from holdfast.api.gate import Request as HotRequest
from holdfast.api.responses import STATE, Call
from holdfast.api.strict import StrictBody
from holdfast.base.clock import SystemClock
from holdfast.base.errors import HoldfastError
from holdfast.base.limits import BATCH_BODY_BYTES_MAX
from holdfast.boot import App, open_app
from holdfast.platform import heartbeat, metrics, outcomes
from holdfast.platform.config import Config
from holdfast.platform.log import logger

_logger: Final = logger(__name__)

SERVER_ERROR: Final = 500
"""Where people read the log, only requests that failed by our fault have a line; machines get them all."""

GC_THRESHOLD: Final = 50_000
"""Allocations between two collections of the youngest objects.

Requests make little that refers to itself; with Python's default of 700, collections would make one request
in a few hundred wait for all others' garbage.
"""


def create_app(source: App | Config, *, pages: Sequence[ControllerRouterHandler] = ()) -> Gate:
    """Return the ASGI application over `source`.

    A configuration, opened when the server starts, or an open `App`.

    `pages` are further route handlers, served beside the API.
    """
    log = AccessLog(SystemClock().now)
    api: list[Api] = []

    @asynccontextmanager
    async def lifespan(framework: Litestar) -> AsyncIterator[None]:
        opened = await open_app(source) if isinstance(source, Config) else source
        api.append(Api(opened))
        framework.state[STATE] = api[0]
        framework.state["app"] = opened
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 100)
        try:
            async with _telling(opened):
                yield
        finally:
            log.flush()
            if isinstance(source, Config):
                await opened.close()

    framework = Litestar(
        route_handlers=[*ROUTES, *pages],
        lifespan=[lifespan],
        exception_handlers={HTTPException: _http, HoldfastError: _refused, Exception: _unforeseen},
        openapi_config=document.CONFIG,
        logging_config=None,
        debug=False,
    )

    async def create_payment(request: HotRequest) -> Reply:
        return await payments.serve(api[0], request)

    async def create_transfers(request: HotRequest) -> Reply:
        return await transfer_batches.serve(api[0], request)

    def enter_transfers(request: HotRequest) -> AbstractAsyncContextManager[None]:
        key = request.header(b"idempotency-key")
        return transfer_batches.place(api[0], request.header(b"authorization"), key)

    hot: dict[tuple[str, str], Hot] = {("POST", "/v1/payments"): create_payment}
    wide = {
        ("POST", "/v1/transfers/batch"): Wide(create_transfers, enter_transfers, BATCH_BODY_BYTES_MAX),
    }
    config = source if isinstance(source, Config) else source.config
    lines = config.log_format == "json" or (config.log_format == "auto" and config.mode == "production")
    watch = Watcher(log, logged_from=0 if lines else SERVER_ERROR)
    gate = Gate(cast("Asgi", framework), hot, ids=secrets.token_hex(3), watch=watch, wide=wide)
    metrics.IN_FLIGHT.set_function(lambda: gate.in_flight)
    return gate


@asynccontextmanager
async def _telling(opened: App) -> AsyncIterator[None]:
    """Tell others that this server lives, and how payments go, for as long as it does."""
    heart = heartbeat.Heart.new(opened.ids.new(), "server", opened.clock.now())
    config, source = opened.config, f"server-{opened.ids.new()}"
    async with (
        heartbeat.beating(opened.database, heart, opened.clock),
        outcomes.telling(
            opened.desk.outcomes, config.status_url, config.status_token, source, opened.desk.router.avoid
        ),
    ):
        yield


ROUTES: Final = (
    health.routes,
    document.routes,
    Router(
        "/",
        route_handlers=[
            payments.routes,
            refunds.routes,
            transfers.routes,
            top_ups.routes,
            accounts.routes,
            payers.routes,
            events.routes,
            webhook_endpoints.routes,
            rails.routes,
        ],
        dto=StrictBody,
        return_dto=None,
        security=[{"key": []}],
    ),
)


def _id(request: Call) -> str:
    id_: str = request.scope.get("state", {}).get("request_id", "")
    return id_


def _problem(written: Problem) -> Response[bytes]:
    headers = {"Retry-After": str(math.ceil(written.retry_after_s))} if written.retry_after_s else {}
    if written.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        encode(written), status_code=written.status, media_type="application/problem+json", headers=headers
    )


def _refused(request: Call, error: HoldfastError) -> Response[bytes]:
    written = problem(error, _id(request))
    if written.status == 500:
        _logger.error("request failed", request_id=_id(request), exc_info=error)
    return _problem(written)


def _http(request: Call, error: HTTPException) -> Response[bytes]:
    """Say what the framework refuses in our own words."""
    if isinstance(error, MethodNotAllowedException):
        return _with_allow(_problem(problem(MethodNotAllowed(), _id(request))), error)
    if isinstance(error, NotFoundException):
        return _problem(problem(NotFound(), _id(request)))
    if error.status_code < 500:
        return _problem(problem(RequestInvalid(_words(error)), _id(request)))
    return _unforeseen(request, error)


def _with_allow(response: Response[bytes], error: HTTPException) -> Response[bytes]:
    for name, value in (error.headers or {}).items():
        response.set_header(name, value)
    return response


def _words(error: HTTPException) -> str:
    extra = error.extra if isinstance(error.extra, list) else []
    told = [
        f"{one.get('key', 'request')}: {one.get('message', '')}" for one in extra if isinstance(one, dict)
    ]
    return ". ".join(told) or error.detail


def _unforeseen(request: Call, error: Exception) -> Response[bytes]:
    _logger.error("request failed", request_id=_id(request), exc_info=error)
    return _problem(unexpected(_id(request)))
