"""Maintenance: what would speak against a window, planning it, and what people say while it goes on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from aiohttp import web

from holdfast.base.errors import Refused
from holdfast.status.desks.common import Desk, Reason, RequestWrong, Spoken, answer
from holdfast.status.maintenance.book import (
    Approved,
    Changed,
    MaintenanceInvalid,
    MaintenanceNotSo,
    Planned,
    Recurs,
    RecursNoMore,
    Stepped,
)
from holdfast.status.maintenance.conflicts import Conflict, Wanted, conflicts, hit
from holdfast.status.maintenance.lead import tell_by
from holdfast.status.maintenance.life import VERIFYING, completed
from holdfast.status.maintenance.plan import Effect, Maintenance, Retry, Series
from holdfast.status.maintenance.series import rule_of, windows
from holdfast.status.words import Words

_Effects = Annotated[tuple[Effect, ...], msgspec.Meta(min_length=1, max_length=50)]
Act = Literal["done", "confirm", "cancel"]


class MaintenanceVetoed(Refused):
    """Something speaks against the window. Choose another, or give a reason: a second person decides then."""

    code = "status_maintenance_vetoed"


class WindowAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A window to plan. `reason`: why it should take place although something speaks against it."""

    name: Spoken
    body: Spoken
    effects: _Effects
    starts_at: datetime
    ends_at: datetime
    retry: Retry = "wait"
    reason: Annotated[str, msgspec.Meta(max_length=1_000)] = ""


class SeriesAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Windows that recur: the first of them, and an RRULE (RFC 5545) in the hours of a zone."""

    name: Spoken
    body: Spoken
    effects: _Effects
    starts_at: datetime
    ends_at: datetime
    rule: str
    zone: str = ""
    retry: Retry = "wait"


class ChangeAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes of a window, and what to tell people."""

    said: Spoken
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    effects: _Effects | None = None


class ActAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says: the work is `done`, all works again (`confirm`), or it does not take place."""

    act: Act
    said: Spoken | None = None


class NoMoreAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why windows recur no more."""

    reason: Reason


class Windows(Desk):
    """The routes, and what they do."""

    def routes(self) -> list[web.RouteDef]:
        """Return them."""
        return [
            web.get("/v1/maintenances", self.every),
            web.post("/v1/maintenances", self.plan),
            web.post("/v1/maintenances/check", self.check),
            web.post("/v1/maintenances/{id}/approve", self.approve),
            web.post("/v1/maintenances/{id}/change", self.change),
            web.post("/v1/maintenances/{id}/act", self.act),
            web.post("/v1/maintenance-series", self.recur),
            web.post("/v1/maintenance-series/{id}/end", self.end_series),
        ]

    async def every(self, request: web.Request) -> web.Response:
        """Show operators all windows that are not over, and series."""
        self.who(request)
        book = self.keeper.board.maintenance
        going = [one for one in book.series.values() if not one.ended]
        return answer({"maintenances": book.live, "series": going})

    async def check(self, request: web.Request) -> web.Response:
        """Tell what would speak against a window, and whom it would hit."""
        self.who(request)
        asked = await self.read(request, WindowAsked)
        against = self.against(asked)
        by, lead = tell_by(asked.starts_at, self.keeper.policy.all_leads(), self.keeper.policy.time_zone())
        told = {"by": by, "rule": lead}
        return answer({"conflicts": against, "hits": hit(asked.effects, self.keeper.graph), "tell": told})

    def against(self, asked: WindowAsked, id_: str = "") -> list[Conflict]:
        """Return what speaks against a window. Raises: `ComponentUnknown`, `RequestWrong`."""
        self.known(*(effect.component for effect in asked.effects))
        if asked.starts_at.tzinfo is None or asked.ends_at.tzinfo is None:
            raise RequestWrong("Moments have an offset, as 2026-12-01T02:00:00+08:00.")
        keeper = self.keeper
        wanted = Wanted(asked.effects, asked.starts_at, asked.ends_at, id_)
        live, left_s = keeper.board.maintenance.live, keeper.budget_left_s()
        return conflicts(wanted, live, keeper.policy, keeper.graph, left_s, keeper.now())

    async def plan(self, request: web.Request) -> web.Response:
        """Plan a window."""
        by = self.who(request)
        return self._shown(self.planned(by, await self.read(request, WindowAsked)), 201)

    def planned(self, by: str, asked: WindowAsked) -> str:
        """Plan a window, and return its id. Raises: `MaintenanceVetoed`, and as `Book.check`."""
        if asked.starts_at.tzinfo is None or not asked.starts_at < asked.ends_at:
            raise MaintenanceInvalid
        against = self.against(asked)
        if against and not asked.reason.strip():
            raise MaintenanceVetoed(
                " ".join(each.words.en for each in against)
                + " Choose another window, or give a `reason`: then a second person decides."
            )
        id_ = self.keeper.new_id("mnt")
        codes = tuple(dict.fromkeys(each.code for each in against))
        fact = Planned(
            id_, self.keeper.new_id("ntc"), asked.name.words(), asked.body.words(), asked.effects,
            asked.retry, asked.starts_at, asked.ends_at, None, None, codes,
            asked.reason if against else "",
        )  # fmt: skip
        self.keeper.add(by, fact)
        return id_

    async def approve(self, request: web.Request) -> web.Response:
        """Say, as a second person, that a window may take place nevertheless."""
        by, id_ = self.who(request), request.match_info["id"]
        self.keeper.add(by, Approved(id_, self.keeper.new_id("ntc")))
        return self._shown(id_)

    async def change(self, request: web.Request) -> web.Response:
        """Move a window, or change what it does; everybody who was told is told again."""
        by, id_ = self.who(request), request.match_info["id"]
        self.changed(by, id_, await self.read(request, ChangeAsked))
        return self._shown(id_)

    def changed(self, by: str, id_: str, asked: ChangeAsked) -> None:
        """Change a window. Raises: `MaintenanceVetoed`, and as `Book.check`."""
        one = self.keeper.board.maintenance.one(id_)
        starts_at, ends_at = asked.starts_at or one.starts_at, asked.ends_at or one.ends_at
        fact = Changed(
            id_, self.keeper.new_id("ntc"), asked.said.words(), asked.starts_at, asked.ends_at, asked.effects
        )
        self.keeper.board.check(fact, self.keeper.now(), by)
        if not one.running:
            spoken = Spoken(one.name.en, one.name.zh)
            effects = asked.effects or one.effects
            against = self.against(WindowAsked(spoken, spoken, effects, starts_at, ends_at), id_)
            if against:
                raise MaintenanceVetoed(
                    " ".join(each.words.en for each in against)
                    + " Choose another time, or cancel this window and plan a new one with a `reason`."
                )
        self.keeper.add(by, fact)

    async def act(self, request: web.Request) -> web.Response:
        """Say that the work is done, that all works again, or that a window does not take place."""
        by, id_ = self.who(request), request.match_info["id"]
        self.acted(by, id_, await self.read(request, ActAsked))
        return self._shown(id_)

    def acted(self, by: str, id_: str, asked: ActAsked) -> None:
        """Do what a person says. Raises: `MaintenanceNotFound`, `MaintenanceNotSo`."""
        one, keeper = self.keeper.board.maintenance.one(id_), self.keeper
        said = asked.said.words() if asked.said else None
        if asked.act == "done":
            keeper.add(by, Stepped(id_, keeper.new_id("ntc"), "verifying", "verifying", said or VERIFYING))
        elif asked.act == "cancel":
            keeper.add(by, Stepped(id_, keeper.new_id("ntc"), "cancelled", "cancelled", said or _CANCELLED))
        else:
            if one.state != "verifying":
                raise MaintenanceNotSo("It is not being checked. Say first that the work is done.")
            if keeper.life.checks.verdict(one) == "bad":
                raise MaintenanceNotSo("By what is measured it does not work. It cannot be confirmed.")
            keeper.add(by, *completed(one, keeper.board, keeper.new_id, said or _CONFIRMED))

    async def recur(self, request: web.Request) -> web.Response:
        """Plan windows that recur."""
        by = self.who(request)
        series = self.recurs(by, await self.read(request, SeriesAsked))
        return answer({"series": series, "maintenances": self._of_series(series.id)}, 201)

    def recurs(self, by: str, asked: SeriesAsked) -> Series:
        """Plan windows that recur. Raises: `MaintenanceInvalid`, `ComponentUnknown`."""
        self.known(*(effect.component for effect in asked.effects))
        if asked.starts_at.tzinfo is None or not asked.starts_at < asked.ends_at:
            raise MaintenanceInvalid
        series = Series(
            self.keeper.new_id("mns"), asked.name.words(), asked.body.words(), asked.effects, asked.retry,
            asked.starts_at, asked.ends_at, asked.rule, asked.zone or self.keeper.policy.zone, by,
        )  # fmt: skip
        rule_of(series)
        if not windows(series, self.keeper.now()):
            raise MaintenanceInvalid("By this rule nothing starts within the next 60 days.")
        self.keeper.add(by, Recurs(series))
        self.keeper.recur()
        return series

    async def end_series(self, request: web.Request) -> web.Response:
        """End a series, and cancel what is planned of it."""
        by, id_ = self.who(request), request.match_info["id"]
        self.recurs_no_more(by, id_, await self.read(request, NoMoreAsked))
        return answer({"series": id_, "ended": True})

    def recurs_no_more(self, by: str, id_: str, asked: NoMoreAsked) -> None:
        """End a series, and cancel what is planned of it. Raises: `MaintenanceNotFound`."""
        self.keeper.add(by, RecursNoMore(id_))
        for one in self._of_series(id_):
            if one.state in ("proposed", "scheduled"):
                body = Words(asked.reason)
                self.keeper.add(
                    by, Stepped(one.id, self.keeper.new_id("ntc"), "cancelled", "cancelled", body)
                )

    def _of_series(self, id_: str) -> list[Maintenance]:
        return [one for one in self.keeper.board.maintenance.live if one.series == id_]

    def _shown(self, id_: str, status: int = 200) -> web.Response:
        one = self.keeper.board.maintenance.one(id_)
        return answer(one, status)


_CANCELLED = Words("It does not take place.", "本次维护取消。")
_CONFIRMED = Words(
    "It is over: our team has checked that all works again.", "维护结束：工作人员已确认恢复正常。"
)
