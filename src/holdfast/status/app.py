"""The service over HTTP: the site for everybody, an API for operators, and a door for the wallet's reports.

GET  /…                               the site: pages, /api/v2/*.json, feeds (HEAD too)
GET  /healthz  /metrics
POST /v1/facts                        token of role `facts`
GET  /v1/board                        token of role `operator`, as all below
POST /v1/incidents                    open one
POST /v1/incidents/{id}/updates       tell how it goes
POST /v1/incidents/{id}/periods       correct when it touched a component
POST /v1/incidents/{id}/merge         make it part of another
PUT  /v1/components/{id}/declared     say how a component stands
"""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web

from holdfast.base.errors import HoldfastError, Refused, Unavailable
from holdfast.platform.log import logger
from holdfast.platform.outcomes import Report
from holdfast.status.access import Doorman, Role, TokenMissing, TokenWrong
from holdfast.status.board import Corrected, Declared, IncidentNotFound, Merged, Opened, Told
from holdfast.status.keeper import Keeper
from holdfast.status.model import Cause, Period, Stage, Standing
from holdfast.status.words import Words

_log: Final = logger(__name__)
BODY_BYTES_MAX: Final = 1_048_576
"""A report of the most rows that one may have fits."""
_PAGE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "public, max-age=5",
    "Access-Control-Allow-Origin": "*",
}
_HTML_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
T = TypeVar("T")
_Text = Annotated[str, msgspec.Meta(max_length=5_000)]


class ComponentUnknown(Refused):
    """There is no such component in the capability graph."""

    code = "status_component_unknown"


class RequestWrong(Refused):
    """The request is not what is expected here; the message says where."""

    code = "status_request_wrong"


class Spoken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text in one or both languages."""

    en: _Text = ""
    zh: _Text = ""

    def words(self) -> Words:
        """Return it. Raises: `RequestWrong` when it says nothing."""
        if not (self.en.strip() or self.zh.strip()):
            raise RequestWrong("A text is needed in English (`en`) or in Chinese (`zh`).")
        return Words(self.en, self.zh)


class IncidentAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An incident to open."""

    name: Spoken
    body: Spoken
    components: dict[str, Standing]
    cause: Cause = "unknown"
    stage: Stage = "investigating"
    started_at: datetime | None = None


class UpdateAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to tell of an incident."""

    stage: Stage
    body: Spoken
    components: dict[str, Standing] = {}
    name: Spoken | None = None
    cause: Cause | None = None


class PeriodsAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The periods in which an incident really touched a component."""

    component: str
    periods: Annotated[tuple[Period, ...], msgspec.Meta(max_length=100)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


class MergeAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The incident that another one is part of."""

    into: str


class DeclaredAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a component stands, as operators say."""

    standing: Standing


def make_app(keeper: Keeper, doorman: Doorman) -> web.Application:
    """Return the application over a keeper."""
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_problems])
    app.on_response_prepare.append(_nameless)
    desk = _Desk(keeper, doorman)
    app.add_routes(
        [
            web.post("/v1/facts", desk.facts),
            web.get("/v1/board", desk.board),
            web.post("/v1/incidents", desk.open),
            web.post("/v1/incidents/{id}/updates", desk.tell),
            web.post("/v1/incidents/{id}/periods", desk.correct),
            web.post("/v1/incidents/{id}/merge", desk.merge),
            web.put("/v1/components/{id}/declared", desk.declare),
            web.get("/healthz", desk.healthz),
            web.get("/metrics", desk.metrics),
            web.get("/{path:.*}", desk.page),
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
    IncidentNotFound: 404,
    ComponentUnknown: 404,
    RequestWrong: 400,
}


def _problem(status: int, code: str, detail: str) -> web.Response:
    body = {"type": f"/problems/{code}", "title": code.replace("_", " "), "status": status, "code": code}
    return _json(body | {"detail": detail}, status, "application/problem+json")


def _json(body: object, status: int = 200, kind: str = "application/json") -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=msgspec.json.encode(body), status=status, content_type=kind, headers=headers)


class _Desk:
    """The routes."""

    def __init__(self, keeper: Keeper, doorman: Doorman) -> None:
        self._keeper = keeper
        self._doorman = doorman

    def _who(self, request: web.Request, role: Role) -> str:
        return self._doorman.name_of(request.headers.get("Authorization"), role)

    async def _read(self, request: web.Request, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(await request.read(), type=kind)
        except msgspec.DecodeError as error:
            raise RequestWrong(f"{error}.") from None

    def _known(self, components: dict[str, Standing]) -> dict[str, Standing]:
        for component in components:
            if component not in self._keeper.graph.components:
                raise ComponentUnknown(f"There is no component {component[:60]!r}.")
        return components

    async def facts(self, request: web.Request) -> web.Response:
        """Take a report of the wallet."""
        self._who(request, "facts")
        report = await self._read(request, Report)
        return _json({"taken": self._keeper.take(report)})

    async def board(self, request: web.Request) -> web.Response:
        """Show operators everything."""
        self._who(request, "operator")
        board = self._keeper.board
        return _json(
            {
                "standings": self._keeper.view().standings,
                "measured": board.measured,
                "declared": board.declared,
                "open": board.open,
                "waiting": self._keeper.waiting,
                "published_at": self._keeper.published_at,
            }
        )

    async def open(self, request: web.Request) -> web.Response:
        """Open an incident."""
        by = self._who(request, "operator")
        asked = await self._read(request, IncidentAsked)
        components = self._known(asked.components)
        if not components:
            raise RequestWrong("An incident touches one component at least.")
        now = self._keeper.view().at
        started_at = asked.started_at or now
        if started_at.tzinfo is None or started_at > now:
            raise RequestWrong("`started_at` has an offset, and is not in the future.")
        id_ = self._keeper.new_id("inc")
        fact = Opened(
            id_, self._keeper.new_id("upd"), asked.name.words(), asked.body.words(), asked.cause,
            asked.stage, components, started_at,
        )  # fmt: skip
        self._keeper.add(by, fact)
        return self._shown(id_, 201)

    async def tell(self, request: web.Request) -> web.Response:
        """Tell how an incident goes."""
        by = self._who(request, "operator")
        asked = await self._read(request, UpdateAsked)
        id_ = request.match_info["id"]
        renamed = asked.name.words() if asked.name else None
        fact = Told(
            id_, self._keeper.new_id("upd"), asked.stage, asked.body.words(),
            self._known(asked.components), renamed, asked.cause,
        )  # fmt: skip
        self._keeper.add(by, fact)
        return self._shown(id_, 201)

    async def correct(self, request: web.Request) -> web.Response:
        """Correct when an incident touched a component."""
        by = self._who(request, "operator")
        asked = await self._read(request, PeriodsAsked)
        id_ = request.match_info["id"]
        self._keeper.add(by, Corrected(id_, asked.component, asked.periods, asked.reason))
        return self._shown(id_)

    async def merge(self, request: web.Request) -> web.Response:
        """Make an incident part of another one."""
        by = self._who(request, "operator")
        asked = await self._read(request, MergeAsked)
        id_ = request.match_info["id"]
        self._keeper.add(by, Merged(id_, asked.into, self._keeper.new_id("upd")))
        return self._shown(asked.into)

    async def declare(self, request: web.Request) -> web.Response:
        """Say how a component stands."""
        by = self._who(request, "operator")
        asked = await self._read(request, DeclaredAsked)
        component = request.match_info["id"]
        self._known({component: asked.standing})
        self._keeper.add(by, Declared(component, asked.standing))
        return _json({"component": component, "standing": asked.standing})

    def _shown(self, id_: str, status: int = 200) -> web.Response:
        return _json(self._keeper.board.incident(id_), status)

    async def healthz(self, _request: web.Request) -> web.Response:
        """Tell whether it works: whether the site was made within twice its time."""
        return _json({"ok": True, "published_at": self._keeper.published_at})

    async def metrics(self, _request: web.Request) -> web.Response:
        """Show the standings and open incidents to Prometheus."""
        view = self._keeper.view()
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
        ]
        return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")

    async def page(self, request: web.Request) -> web.Response:
        """Give a file of the site."""
        path = request.match_info["path"] or "index.html"
        if path.endswith("/"):
            path += "index.html"
        content = self._keeper.files.get(path)
        if content is None:
            raise web.HTTPNotFound
        kind = _KINDS.get(path.rpartition(".")[2]) or mimetypes.guess_type(path)[0]
        headers: dict[str, Any] = dict(_PAGE_HEADERS)
        if path.endswith(".html"):
            headers |= _HTML_HEADERS
        return web.Response(
            body=content, headers=headers | {"Content-Type": kind or "application/octet-stream"}
        )


_KINDS: Final = {
    "html": "text/html; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "json": "application/json",
    "atom": "application/atom+xml",
    "rss": "application/rss+xml",
    "ics": "text/calendar; charset=utf-8",
    "svg": "image/svg+xml",
}
