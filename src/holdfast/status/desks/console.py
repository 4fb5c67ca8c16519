"""Pages for operators: how everything stands, and all that can be said, in forms that need no script."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web

from holdfast.base.errors import Refused
from holdfast.status import site
from holdfast.status.access import Doorman
from holdfast.status.board import Declared, Merged
from holdfast.status.desks.common import Desk, RequestWrong
from holdfast.status.desks.incidents import IncidentAsked, Incidents, SplitAsked, UpdateAsked
from holdfast.status.desks.regulators import Regulators
from holdfast.status.desks.windows import ActAsked, NoMoreAsked, SeriesAsked, WindowAsked, Windows
from holdfast.status.keeper import Keeper
from holdfast.status.maintenance.book import Approved
from holdfast.status.maintenance.conflicts import VETO_WORDS, Conflict
from holdfast.status.maintenance.plan import KIND_WORDS, RETRY_WORDS
from holdfast.status.model import STAGES, STANDINGS, Cause
from holdfast.status.operators import SESSION_S, Operators, Session
from holdfast.status.postmortem import draft
from holdfast.status.rules.asked import FIGURES, FLAGS, TEXT_CHARS_MAX, TEXTS
from holdfast.status.rules.assessment import GRADES, show
from holdfast.status.rules.dora_report import SUBMISSIONS
from holdfast.status.rules.firm import Firm
from holdfast.status.updates import TEMPLATES
from holdfast.status.words import TAGS, Tag

_COOKIE: Final = "holdfast_status"
_TAG: Final = "holdfast_status_tag"
_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
}


class Console(Desk):
    """The routes."""

    def __init__(
        self, keeper: Keeper, doorman: Doorman, operators: Operators, firm: Firm, *, secure: bool
    ) -> None:
        super().__init__(keeper, doorman)
        self._operators = operators
        self._secure = secure
        self._incidents = Incidents(keeper, doorman)
        self._windows = Windows(keeper, doorman)
        self._regulators = Regulators(keeper, doorman, firm)

    def routes(self) -> list[web.RouteDef]:
        """Return them."""
        return [
            web.get("/console", self.home),
            web.get("/console/sign-in", self.door),
            web.post("/console/sign-in", self.enter),
            web.post("/console/sign-out", self.leave),
            web.get("/console/incidents/{id}", self.incident),
            web.post("/console/incidents", self.open),
            web.post("/console/incidents/{id}", self.tell),
            web.post("/console/incidents/{id}/merge", self.merge),
            web.post("/console/incidents/{id}/split", self.split),
            web.post("/console/declare", self.declare),
            web.get("/console/incidents/{id}/reports", self.reports),
            web.post("/console/incidents/{id}/reports", self.evidence),
            web.get("/console/incidents/{id}/dora", self.dora),
            web.get("/console/maintenance", self.windows),
            web.post("/console/maintenance", self.plan),
            web.post("/console/maintenance/{id}", self.act),
            web.post("/console/maintenance-series/{id}", self.end_series),
        ]

    def _session(self, request: web.Request) -> Session:
        found = self._operators.session(request.cookies.get(_COOKIE, ""))
        if found is None:
            raise web.HTTPSeeOther("/console/sign-in")
        return found

    def _tag(self, request: web.Request) -> Tag:
        asked = request.query.get("lang") or request.cookies.get(_TAG, "")
        if asked in TAGS:
            return "zh-CN" if asked == "zh-CN" else "en"
        return "zh-CN" if request.headers.get("Accept-Language", "").lower().startswith("zh") else "en"

    async def _form(self, request: web.Request) -> tuple[str, Any]:
        """Return who sends a form of ours, and what it says."""
        session = self._session(request)
        form = await request.post()
        _same_origin(request)
        if not hmac.compare_digest(session.form.encode(), str(form.get("form", "")).encode()):
            raise RequestWrong("The form is old. Go back, load the page again, and send it once more.")
        return session.name, form

    def _page(
        self, request: web.Request, template: str, status: int = 200, **values: Any  # noqa: ANN401 - what a page shows
    ) -> web.Response:  # fmt: skip
        tag = self._tag(request)
        session = self._operators.session(request.cookies.get(_COOKIE, ""))
        html = site.page(
            self.keeper.view(), self.keeper.signer.public_key, tag, template, session=session,
            stages_of=STAGES, every_standing=STANDINGS, every_cause=get_args(Cause),
            templates=TEMPLATES, error=values.pop("error", ""), **values,
        )  # fmt: skip
        response = web.Response(body=html, status=status, headers=_HEADERS)
        if request.query.get("lang") in TAGS:
            response.set_cookie(_TAG, tag, max_age=365 * 86_400, samesite="Lax", secure=self._secure)
        return response

    async def door(self, request: web.Request) -> web.Response:
        """Show the sign-in."""
        return self._page(request, "console_door.html")

    async def enter(self, request: web.Request) -> web.StreamResponse:
        """Sign in."""
        _same_origin(request)
        form = await request.post()
        try:
            token = self._operators.sign_in(
                str(form.get("name", ""))[:60], str(form.get("password", "")), str(form.get("code", ""))
            )
        except Refused as error:
            return self._page(request, "console_door.html", 403, error=error.message)
        response = web.HTTPSeeOther("/console")
        response.set_cookie(
            _COOKIE,
            token,
            max_age=SESSION_S,
            httponly=True,
            secure=self._secure,
            samesite="Strict",
            path="/console",
        )
        return response

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """Sign out."""
        await self._form(request)
        self._operators.sign_out(request.cookies.get(_COOKIE, ""))
        response = web.HTTPSeeOther("/console/sign-in")
        response.del_cookie(_COOKIE, path="/console")
        return response

    async def home(self, request: web.Request) -> web.Response:
        """Show how everything stands."""
        self._session(request)
        return self._home(request)

    def _home(self, request: web.Request, status: int = 200, error: str = "") -> web.Response:
        board = self.keeper.board
        return self._page(
            request, "console.html", status, error=error, open=board.open, board=board,
            published_at=self.keeper.published_at, waiting=self.keeper.waiting,
            planned=board.maintenance.live[:10],
        )  # fmt: skip

    async def incident(self, request: web.Request) -> web.Response:
        """Show one incident and what can be said of it."""
        self._session(request)
        return self._one(request, request.match_info["id"])

    def _one(self, request: web.Request, id_: str, status: int = 200, error: str = "") -> web.Response:
        one = self.keeper.board.incident(id_)
        others = [each for each in self.keeper.board.open if each.id != id_]
        written = draft(one, self.keeper.graph) if not one.open and one.merged_into is None else None
        return self._page(
            request, "console_incident.html", status, error=error, one=one, others=others, draft=written
        )

    async def open(self, request: web.Request) -> web.StreamResponse:
        """Open an incident."""
        by, form = await self._form(request)
        try:
            asked = _converted(
                {
                    "name": _spoken(form, "name"),
                    "body": _spoken(form, "body"),
                    "components": _components(form),
                    "cause": str(form.get("cause", "unknown")),
                },
                IncidentAsked,
            )
            id_ = self._incidents.opened(by, asked)
        except Refused as error:
            return self._home(request, 422, error.message)
        return web.HTTPSeeOther(f"/console/incidents/{id_}")

    async def tell(self, request: web.Request) -> web.StreamResponse:
        """Tell how an incident goes."""
        by, form = await self._form(request)
        id_ = request.match_info["id"]
        raw: dict[str, Any] = {
            "body": _spoken(form, "body"),
            "template": str(form.get("template", "")),
            "components": _components(form),
        }
        if form.get("stage"):
            raw["stage"] = str(form["stage"])
        try:
            self._incidents.told(by, id_, _converted(raw, UpdateAsked))
        except Refused as error:
            return self._one(request, id_, 422, error.message)
        return web.HTTPSeeOther(f"/console/incidents/{id_}")

    async def merge(self, request: web.Request) -> web.StreamResponse:
        """Make an incident part of another."""
        by, form = await self._form(request)
        id_, into = request.match_info["id"], str(form.get("into", ""))
        try:
            self.keeper.add(by, Merged(id_, into, self.keeper.new_id("upd")))
        except Refused as error:
            return self._one(request, id_, 422, error.message)
        return web.HTTPSeeOther(f"/console/incidents/{into}")

    async def split(self, request: web.Request) -> web.StreamResponse:
        """Tell of some of what an incident touches apart."""
        by, form = await self._form(request)
        id_ = request.match_info["id"]
        raw = {"name": _spoken(form, "name"), "components": [str(each) for each in form.getall("apart", [])]}
        try:
            new = self._incidents.parted(by, id_, _converted(raw, SplitAsked))
        except Refused as error:
            return self._one(request, id_, 422, error.message)
        return web.HTTPSeeOther(f"/console/incidents/{new}")

    async def reports(self, request: web.Request) -> web.Response:
        """Show what regulators ask of an incident."""
        self._session(request)
        return self._reports(request, request.match_info["id"])

    def _reports(self, request: web.Request, id_: str, status: int = 200, error: str = "") -> web.Response:
        one = self.keeper.board.incident(id_)
        return self._page(
            request, "console_reports.html", status, error=error, one=one,
            found=self._regulators.assessed(id_),
            told=one.evidenced or {}, flags=FLAGS, figures=FIGURES, texts=TEXTS, grades=GRADES, show=show,
            reports={stage: self._regulators.reported(id_, stage) for stage in SUBMISSIONS},
        )  # fmt: skip

    async def evidence(self, request: web.Request) -> web.StreamResponse:
        """Keep what people tell for regulators."""
        by, form = await self._form(request)
        id_ = request.match_info["id"]
        try:
            self._regulators.told(by, id_, _evidence(form))
        except Refused as error:
            return self._reports(request, id_, 422, error.message)
        return web.HTTPSeeOther(f"/console/incidents/{id_}/reports")

    async def dora(self, request: web.Request) -> web.Response:
        """Give the EU's report as a file."""
        self._session(request)
        return self._regulators.report_file(request)

    async def declare(self, request: web.Request) -> web.StreamResponse:
        """Say how a component stands."""
        by, form = await self._form(request)
        component = str(form.get("component", ""))
        try:
            self.known(component)
            standing = next((each for each in STANDINGS if each == form.get("standing")), None)
            if standing is None:
                raise RequestWrong("There is no such standing.")
            self.keeper.add(by, Declared(component, standing))
        except Refused as error:
            return self._home(request, 422, error.message)
        return web.HTTPSeeOther("/console")

    async def windows(self, request: web.Request) -> web.Response:
        """Show what is planned, and a form to plan more."""
        self._session(request)
        return self._planned(request)

    def _planned(
        self,
        request: web.Request,
        status: int = 200,
        error: str = "",
        form: Mapping[str, Any] | None = None,
        against: Sequence[Conflict] = (),
    ) -> web.Response:
        book = self.keeper.board.maintenance
        return self._page(
            request, "console_windows.html", status, error=error, planned=book.live, given=form or {},
            series=[each for each in book.series.values() if not each.ended],
            against=against, zone=self.keeper.policy.zone, kinds_of=KIND_WORDS, retries_of=RETRY_WORDS,
            vetoes_of=VETO_WORDS,
            past=[one for one in book.every.values() if one.state in ("completed", "cancelled")][-10:],
        )  # fmt: skip

    async def plan(self, request: web.Request) -> web.StreamResponse:
        """Plan a window; what speaks against it is shown, and the form kept."""
        by, form = await self._form(request)
        try:
            zone = self.keeper.policy.time_zone()
            longest = str(form.get("longest_min", "")).strip()
            effect: dict[str, Any] = {
                "component": str(form.get("component", "")),
                "kind": str(form.get("kind", "cut")),
            }
            if longest:
                cuts = str(form.get("cuts", "1")) or "1"
                if not (longest.isdecimal() and cuts.isdecimal()):
                    raise RequestWrong("Cuts and minutes are whole numbers.")
                effect |= {"cuts": int(cuts), "longest_s": 60 * int(longest)}
            window = {
                "name": _spoken(form, "name"),
                "body": _spoken(form, "body"),
                "effects": [effect],
                "starts_at": _local(form, "starts_at", zone),
                "ends_at": _local(form, "ends_at", zone),
                "retry": str(form.get("retry", "wait")),
            }
            if rule := str(form.get("rule", "")).strip():
                self._windows.recurs(by, _converted({**window, "rule": rule}, SeriesAsked))
                return web.HTTPSeeOther("/console/maintenance")
            asked = _converted({**window, "reason": str(form.get("reason", ""))}, WindowAsked)
            against = self._windows.against(asked)
            if against and not asked.reason.strip():
                return self._planned(request, 422, form=form, against=against)
            self._windows.planned(by, asked)
        except Refused as error:
            return self._planned(request, 422, error.message, form)
        return web.HTTPSeeOther("/console/maintenance")

    async def act(self, request: web.Request) -> web.StreamResponse:
        """Approve a window, or say how it goes."""
        by, form = await self._form(request)
        id_, act = request.match_info["id"], str(form.get("act", ""))
        try:
            if act == "approve":
                self.keeper.add(by, Approved(id_, self.keeper.new_id("ntc")))
            else:
                self._windows.acted(by, id_, _converted({"act": act}, ActAsked))
        except Refused as error:
            return self._planned(request, 422, error.message)
        return web.HTTPSeeOther("/console/maintenance")

    async def end_series(self, request: web.Request) -> web.StreamResponse:
        """End windows that recur."""
        by, form = await self._form(request)
        asked = {"reason": str(form.get("reason", ""))}
        try:
            self._windows.recurs_no_more(by, request.match_info["id"], _converted(asked, NoMoreAsked))
        except Refused as error:
            return self._planned(request, 422, error.message)
        return web.HTTPSeeOther("/console/maintenance")


def _evidence(form: Any) -> dict[str, Any]:  # noqa: ANN401 - a multi-dict of the framework
    """Read what people tell; what is left open is taken back. Raises: `RequestWrong`."""
    found: dict[str, Any] = {}
    for name in FLAGS:
        found[name] = {"yes": True, "no": False}.get(str(form.get(name, "")))
    for name in FIGURES:
        text = str(form.get(name, "")).strip()
        if text and not text.isdecimal():
            raise RequestWrong(f"{text[:20]!r} is not a whole number.")
        found[name] = (
            {"value": int(text), "estimated": form.get(name + "_estimated") == "yes"} if text else None
        )
    for name in TEXTS:
        found[name] = str(form.get(name, "")).strip()[:TEXT_CHARS_MAX] or None
    countries = str(form.get("countries", "")).replace(",", " ").upper().split()
    found["countries"] = countries or None
    return found


def _same_origin(request: web.Request) -> None:
    """Refuse a form that another site sends. Raises: `RequestWrong`."""
    origin = request.headers.get("Origin", "")
    if origin and urlsplit(origin).netloc != request.host:
        raise RequestWrong("The form comes from another site.")


def _spoken(form: Any, name: str) -> dict[str, str]:  # noqa: ANN401 - a multi-dict of the framework
    return {"en": str(form.get(f"{name}_en", "")), "zh": str(form.get(f"{name}_zh", ""))}


def _components(form: Any) -> dict[str, str]:  # noqa: ANN401 - as above
    component, standing = str(form.get("component", "")), str(form.get("standing", ""))
    return {component: standing} if component and standing else {}


def _local(form: Any, name: str, zone: ZoneInfo) -> str:  # noqa: ANN401 - as above
    """Return a moment of a form, which is meant in the zone of the service, with its offset."""
    try:
        at = datetime.fromisoformat(str(form.get(name, "")))
    except ValueError:
        raise RequestWrong("A window has a start and an end, as 2026-12-01T02:00.") from None
    return (at if at.tzinfo else at.replace(tzinfo=zone)).isoformat()


def _converted(raw: dict[str, Any], kind: Any) -> Any:  # noqa: ANN401 - whatever a desk asks
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise RequestWrong(f"{error}.") from None
