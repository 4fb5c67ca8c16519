"""What regulators ask: evidence, what each place's rules say of it, reports, downtime in twelve months."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from holdfast.status.access import Doorman
from holdfast.status.board import Evidenced
from holdfast.status.desks.common import Desk, RequestWrong, answer
from holdfast.status.evidence import checked, record_of, stops
from holdfast.status.keeper import Keeper
from holdfast.status.rules.assessment import Assessment
from holdfast.status.rules.dora_pdf import as_pdf
from holdfast.status.rules.dora_report import SUBMISSIONS, Report, Stage, as_json, fill
from holdfast.status.rules.downtime import ledger, worst
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.packs import assess_all
from holdfast.status.rules.packs.recurring import recurring
from holdfast.status.words import Tag

ALLOWANCE_S = 4 * 3_600
"""Four hours in twelve months: Singapore's and Malaysia's allowance."""
EVIDENCE_FIELDS_MAX = 100


class Regulators(Desk):
    """The routes."""

    def __init__(self, keeper: Keeper, doorman: Doorman, firm: Firm) -> None:
        super().__init__(keeper, doorman)
        self._firm = firm

    def routes(self) -> list[web.RouteDef]:
        """Return them."""
        return [
            web.get("/v1/incidents/{id}/evidence", self.evidence),
            web.put("/v1/incidents/{id}/evidence", self.tell),
            web.get("/v1/incidents/{id}/assessments", self.assessments),
            web.get("/v1/incidents/{id}/dora", self.dora),
            web.get("/v1/downtime", self.downtime),
            web.get("/v1/recurring", self.recurring),
        ]

    async def evidence(self, request: web.Request) -> web.Response:
        """Show the evidence record of an incident."""
        self.who(request)
        one = self.keeper.board.incident(request.match_info["id"])
        record = record_of(one, self.keeper.board)
        return answer({"record": record, "told": one.evidenced or {}})

    async def tell(self, request: web.Request) -> web.Response:
        """Add what only people know; null takes a field back."""
        by, id_ = self.who(request), request.match_info["id"]
        self.told(by, id_, await self.read(request, dict[str, Any]))
        one = self.keeper.board.incident(id_)
        return answer({"told": one.evidenced or {}})

    def told(self, by: str, id_: str, evidence: dict[str, Any]) -> None:
        """Keep what people tell. Raises: `RecordInvalid`, `RequestWrong`."""
        one = self.keeper.board.incident(id_)
        merged = {**(one.evidenced or {}), **evidence}
        if len(merged) > EVIDENCE_FIELDS_MAX:
            raise RequestWrong(f"Evidence has at most {EVIDENCE_FIELDS_MAX} fields.")
        checked(one, self.keeper.board, merged)
        self.keeper.add(by, Evidenced(id_, {k: v for k, v in merged.items() if v is not None}))

    async def assessments(self, request: web.Request) -> web.Response:
        """Show what the rules of each place say."""
        self.who(request)
        return answer(self.assessed(request.match_info["id"]))

    def assessed(self, id_: str) -> tuple[Assessment, ...]:
        """Return what the rules of each place say. Raises: `IncidentNotFound`, `RecordInvalid`."""
        one, now = self.keeper.board.incident(id_), self.keeper.now()
        return assess_all(record_of(one, self.keeper.board), now, self._firm)

    async def dora(self, request: web.Request) -> web.Response:
        """Give the EU's report of a stage, as JSON or PDF."""
        self.who(request)
        return self.report_file(request)

    def report_file(self, request: web.Request) -> web.Response:
        """Return the report that a request asks for."""
        stage: Stage | None = next(
            (s for s in SUBMISSIONS if s == request.query.get("stage", "initial")), None
        )
        if stage is None:
            raise RequestWrong(f"`stage` is one of: {', '.join(SUBMISSIONS)}.")
        id_ = request.match_info["id"]
        report = self.reported(id_, stage)
        if request.query.get("format", "json") == "json":
            return web.Response(body=as_json(report), content_type="application/json", headers=_PRIVATE)
        tag: Tag = "zh-CN" if request.query.get("lang") == "zh-CN" else "en"
        headers = _PRIVATE | {"Content-Disposition": f'attachment; filename="dora-{id_}-{stage}.pdf"'}
        return web.Response(body=as_pdf(report, tag), content_type="application/pdf", headers=headers)

    def reported(self, id_: str, stage: Stage) -> Report:
        """Return the EU's report of a stage.

        Raises: `IncidentNotFound`, `RecordInvalid`, `ChoiceImpossible`.
        """
        one, now = self.keeper.board.incident(id_), self.keeper.now()
        return fill(record_of(one, self.keeper.board), self._firm, stage, now)

    async def downtime(self, request: web.Request) -> web.Response:
        """Show how much of four hours in twelve months each component has used: now, and when it was most."""
        self.who(request)
        board, now, found = self.keeper.board, self.keeper.now(), {}
        for id_ in self.keeper.graph.components:
            past = stops(board, [id_])
            fullest = worst(past, now, ALLOWANCE_S)
            found[id_] = {"now": ledger(past, now, ALLOWANCE_S), "fullest": fullest}
        return answer(found)

    async def recurring(self, request: web.Request) -> web.Response:
        """Show incidents of one root cause, not major each, and how they stand together in the EU."""
        self.who(request)
        board = self.keeper.board
        records = [record_of(one, board) for one in board.incidents.values() if one.evidenced]
        return answer(recurring(records, self.keeper.now(), self._firm))


_PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
