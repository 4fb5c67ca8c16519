"""Incidents, what operators say of components, and reports of the wallet."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from aiohttp import web

from holdfast.platform.outcomes import Answer, Report
from holdfast.status.board import Corrected, Declared, Merged, Opened, Split, Told
from holdfast.status.desks.common import Desk, Reason, RequestWrong, Spoken, answer
from holdfast.status.model import Cause, Period, Stage, Standing
from holdfast.status.postmortem import draft
from holdfast.status.updates import TEMPLATES
from holdfast.status.words import Words


class IncidentAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An incident to open."""

    name: Spoken
    body: Spoken
    components: dict[str, Standing]
    cause: Cause = "unknown"
    stage: Stage = "investigating"
    started_at: datetime | None = None


class UpdateAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to tell of an incident, in words of one's own or by a template (`GET /v1/templates`)."""

    stage: Stage | None = None
    body: Spoken = Spoken()
    template: str = ""
    components: dict[str, Standing] = {}
    name: Spoken | None = None
    cause: Cause | None = None


class PeriodsAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The periods in which an incident really touched a component."""

    component: str
    periods: Annotated[tuple[Period, ...], msgspec.Meta(max_length=100)]
    reason: Reason


class MergeAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The incident that another one is part of."""

    into: str


class SplitAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of an incident is told of apart, and its name."""

    name: Spoken
    components: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=100)]


class DeclaredAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a component stands, as operators say."""

    standing: Standing


class Incidents(Desk):
    """The routes."""

    def routes(self) -> list[web.RouteDef]:
        """Return them."""
        return [
            web.post("/v1/facts", self.facts),
            web.get("/v1/board", self.board),
            web.post("/v1/incidents", self.open),
            web.post("/v1/incidents/{id}/updates", self.tell),
            web.get("/v1/templates", self.templates),
            web.get("/v1/incidents/{id}/postmortem", self.postmortem),
            web.post("/v1/incidents/{id}/periods", self.correct),
            web.post("/v1/incidents/{id}/merge", self.merge),
            web.post("/v1/incidents/{id}/split", self.split),
            web.put("/v1/components/{id}/declared", self.declare),
        ]

    async def facts(self, request: web.Request) -> web.Response:
        """Take a report of the wallet."""
        self.who(request, "facts")
        report = await self.read(request, Report)
        return answer(Answer(self.keeper.take(report), self.keeper.planned_rails()))

    async def board(self, request: web.Request) -> web.Response:
        """Show operators everything."""
        self.who(request)
        board = self.keeper.board
        return answer(
            {
                "standings": self.keeper.view().standings,
                "measured": board.measured,
                "declared": board.declared,
                "open": board.open,
                "waiting": self.keeper.waiting,
                "published_at": self.keeper.published_at,
            }
        )

    async def open(self, request: web.Request) -> web.Response:
        """Open an incident."""
        by = self.who(request)
        return self._shown(self.opened(by, await self.read(request, IncidentAsked)), 201)

    def opened(self, by: str, asked: IncidentAsked) -> str:
        """Open an incident, and return its id."""
        components = asked.components
        self.known(*components)
        if not components:
            raise RequestWrong("An incident touches one component at least.")
        now = self.keeper.view().at
        started_at = asked.started_at or now
        if started_at.tzinfo is None or started_at > now:
            raise RequestWrong("`started_at` has an offset, and is not in the future.")
        id_ = self.keeper.new_id("inc")
        fact = Opened(
            id_, self.keeper.new_id("upd"), asked.name.words(), asked.body.words(), asked.cause,
            asked.stage, components, started_at,
        )  # fmt: skip
        self.keeper.add(by, fact)
        return id_

    async def tell(self, request: web.Request) -> web.Response:
        """Tell how an incident goes."""
        by, id_ = self.who(request), request.match_info["id"]
        self.told(by, id_, await self.read(request, UpdateAsked))
        return self._shown(id_, 201)

    def told(self, by: str, id_: str, asked: UpdateAsked) -> None:
        """Tell how an incident goes."""
        self.known(*asked.components)
        stage, body = _said(asked)
        renamed = asked.name.words() if asked.name else None
        fact = Told(
            id_, self.keeper.new_id("upd"), stage, body,
            asked.components, renamed, asked.cause,
        )  # fmt: skip
        self.keeper.add(by, fact)

    async def correct(self, request: web.Request) -> web.Response:
        """Correct when an incident touched a component."""
        by = self.who(request)
        asked = await self.read(request, PeriodsAsked)
        id_ = request.match_info["id"]
        self.keeper.add(by, Corrected(id_, asked.component, asked.periods, asked.reason))
        return self._shown(id_)

    async def merge(self, request: web.Request) -> web.Response:
        """Make an incident part of another one."""
        by = self.who(request)
        asked = await self.read(request, MergeAsked)
        id_ = request.match_info["id"]
        self.keeper.add(by, Merged(id_, asked.into, self.keeper.new_id("upd")))
        return self._shown(asked.into)

    async def split(self, request: web.Request) -> web.Response:
        """Tell of some of what an incident touches apart, as a new incident."""
        by, id_ = self.who(request), request.match_info["id"]
        return self._shown(self.parted(by, id_, await self.read(request, SplitAsked)), 201)

    def parted(self, by: str, id_: str, asked: SplitAsked) -> str:
        """Split an incident, and return the id of the new one. Raises: as `Board.check`."""
        new, keeper = self.keeper.new_id("inc"), self.keeper
        updates = keeper.new_id("upd"), keeper.new_id("upd")
        keeper.add(by, Split(id_, new, asked.name.words(), asked.components, *updates))
        return new

    async def declare(self, request: web.Request) -> web.Response:
        """Say how a component stands."""
        by = self.who(request)
        asked = await self.read(request, DeclaredAsked)
        component = request.match_info["id"]
        self.known(component)
        self.keeper.add(by, Declared(component, asked.standing))
        return answer({"component": component, "standing": asked.standing})

    def _shown(self, id_: str, status: int = 200) -> web.Response:
        return answer(self.keeper.board.incident(id_), status)

    async def postmortem(self, request: web.Request) -> web.Response:
        """Show the draft of a postmortem; what people make of it is told as an update of that stage."""
        self.who(request)
        one = self.keeper.board.incident(request.match_info["id"])
        return answer({"draft": draft(one, self.keeper.graph), "numbers": one.numbers})

    async def templates(self, request: web.Request) -> web.Response:
        """Show the templates of updates."""
        self.who(request)
        return answer({name: {"stage": stage, "body": body} for name, (stage, body) in TEMPLATES.items()})


def _said(asked: UpdateAsked) -> tuple[Stage, Words]:
    """Return the stage and the words of an update. Raises: `RequestWrong`."""
    if asked.template and asked.template not in TEMPLATES:
        raise RequestWrong(f"There is no template {asked.template[:60]!r}: {', '.join(TEMPLATES)}.")
    stage, body = TEMPLATES.get(asked.template, (None, None))
    stage = asked.stage or stage
    if stage is None:
        raise RequestWrong("A `stage` is needed, or a `template`.")
    spoken = bool(asked.body.en.strip() or asked.body.zh.strip())
    return stage, asked.body.words() if spoken or body is None else body
