"""The service over HTTP: the site for everybody, an API for operators, and a door for the wallet's reports.

The desks (`holdfast.status.desks`) have the API, each its part; here is what holds for all, and the site.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from aiohttp import web

from holdfast.base.errors import HoldfastError, Refused, Unavailable
from holdfast.platform.log import logger
from holdfast.status.access import Doorman, TokenMissing, TokenWrong
from holdfast.status.board import IncidentNotFound
from holdfast.status.desks.common import BODY_BYTES_MAX, ComponentUnknown, Desk, RequestWrong, answer
from holdfast.status.desks.incidents import Incidents
from holdfast.status.desks.subscribers import SubscribersBusy
from holdfast.status.desks.windows import Windows
from holdfast.status.keeper import Keeper
from holdfast.status.maintenance.book import MaintenanceNotFound, SecondPersonNeeded
from holdfast.status.subscriptions.links import LinkWrong
from holdfast.status.subscriptions.store import SubscribersFull
from holdfast.status.target import content_type

_log: Final = logger(__name__)
_PAGE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "public, max-age=5",
    "Access-Control-Allow-Origin": "*",
}
_HTML_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}


class Routed(Protocol):
    """Something with routes."""

    def routes(self) -> list[web.RouteDef]:
        """Return them."""
        ...


def make_app(
    keeper: Keeper, doorman: Doorman, *desks: Routed, metrics: Callable[[], list[str]] | None = None
) -> web.Application:
    """Return the application over a keeper, with further desks."""
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_problems])
    app.on_response_prepare.append(_nameless)
    app.add_routes(Incidents(keeper, doorman).routes())
    app.add_routes(Windows(keeper, doorman).routes())
    for desk in desks:
        app.add_routes(desk.routes())
    public = _Public(keeper, doorman)
    public.more = metrics or list
    app.add_routes(
        [
            web.get("/healthz", public.healthz),
            web.get("/metrics", public.metrics),
            web.get("/{path:.*}", public.page),
        ]
    )
    return app


async def _nameless(_request: web.Request, response: web.StreamResponse) -> None:
    """Do not tell which server, in which version, this is."""
    response.headers["Server"] = "holdfast"


@web.middleware
async def _problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer every error as a problem (RFC 9457)."""
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except web.HTTPException as error:
        return _problem(error.status, "http_error", error.reason)
    except Refused as error:
        return _problem(_STATUSES.get(type(error), 422), error.code, error.message)
    except Unavailable as error:
        return _problem(503, error.code, error.message)
    except HoldfastError as error:
        _log.exception("request failed", path=request.path)
        return _problem(500, error.code, error.message)


_STATUSES: Final[dict[type[Refused], int]] = {
    TokenMissing: 401,
    TokenWrong: 403,
    SecondPersonNeeded: 403,
    IncidentNotFound: 404,
    MaintenanceNotFound: 404,
    ComponentUnknown: 404,
    LinkWrong: 404,
    SubscribersBusy: 429,
    SubscribersFull: 503,
    RequestWrong: 400,
}


def _problem(status: int, code: str, detail: str) -> web.Response:
    body = {"type": f"/problems/{code}", "title": code.replace("_", " "), "status": status, "code": code}
    return answer(body | {"detail": detail}, status, "application/problem+json")


class _Public(Desk):
    """What everybody may read. `more`: further lines of the metrics."""

    more: Callable[[], list[str]] = staticmethod(list)

    async def healthz(self, _request: web.Request) -> web.Response:
        """Tell whether it works: whether the site was made within twice its time."""
        return answer({"ok": True, "published_at": self.keeper.published_at})

    async def metrics(self, _request: web.Request) -> web.Response:
        """Show the standings and open incidents to Prometheus."""
        view = self.keeper.view()
        lines = [
            "# HELP holdfast_status_component How a component stands: 1 for its standing.",
            "# TYPE holdfast_status_component gauge",
            *(
                f'holdfast_status_component{{component="{id_}",standing="{standing}"}} 1'
                for id_, standing in view.standings.items()
            ),
            "# HELP holdfast_status_incidents_open Incidents that go on.",
            "# TYPE holdfast_status_incidents_open gauge",
            f"holdfast_status_incidents_open {len(view.board.open)}",
            *self.more(),
        ]
        return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")

    async def page(self, request: web.Request) -> web.Response:
        """Give a file of the site."""
        path = request.match_info["path"] or "index.html"
        if path.endswith("/"):
            path += "index.html"
        content = self.keeper.files.get(path)
        if content is None:
            raise web.HTTPNotFound
        headers: dict[str, Any] = dict(_PAGE_HEADERS)
        if path.endswith(".html"):
            headers |= _HTML_HEADERS
        if path.endswith("banner.html"):
            policy = headers["Content-Security-Policy"].replace("frame-ancestors 'none'", "frame-ancestors *")
            headers["Content-Security-Policy"] = policy
        return web.Response(body=content, headers=headers | {"Content-Type": content_type(path)})
