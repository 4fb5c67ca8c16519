"""The bank's endpoints.

POST /v1/transfers/{end_to_end_id}                       initiate: 202, or 200 when it is known already
GET  /v1/transfers/{end_to_end_id}                       query: 200, or 404
POST /v1/transfers/{end_to_end_id}/returns/{return_id}   give back: 202, or 200 when it is known already
GET  /v1/settlement?from=…&to=…                          the settlement file, CSV with a trailer
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from standardwebhooks.webhooks import Webhook

from holdfast.sandbox.faults import Verdict
from holdfast.sandbox.harbour.transfers import Bank, HarbourError, iso, public
from holdfast.sandbox.magic import Outage, outages_of
from holdfast.sandbox.model import Call, Instance, Outgoing, Response, as_json
from holdfast.sandbox.store import Store, Timer

_TRANSFER: Final = re.compile(r"/v1/transfers/([^/]+)")
_RETURN: Final = re.compile(r"/v1/transfers/([^/]+)/returns/([^/]+)")
SETTLEMENT_COLUMNS: Final = ("kind", "end_to_end_id", "transfer_id", "amount_minor", "currency", "at")
DAY_MS: Final = 24 * 3600 * 1000


class HarbourProvider:
    """One instance that speaks the bank's protocol."""

    def __init__(self, instance: Instance, store: Store, emit: Callable[[Outgoing], None]) -> None:
        self._instance = instance
        self._store = store
        self._emit = emit

    def operation(self, method: str, path: str) -> str:
        """Name the operation from the first line of the request."""
        if _TRANSFER.fullmatch(path):
            return {"POST": "initiate", "GET": "query"}.get(method, "other")
        if _RETURN.fullmatch(path) and method == "POST":
            return "return"
        return "settlement" if path == "/v1/settlement" else "other"

    def makes(self, method: str, path: str) -> bool:
        """Never: every path here names what it is about, and repeating a request repeats nothing."""
        del method, path
        return False

    def refined(self, call: Call, operation: str) -> str:
        """The first line says it all here."""
        del call
        return operation

    def magic(self, call: Call, operation: str) -> tuple[Outage, ...]:
        """Return the failure asked for by the amount of a transfer."""
        return outages_of("", _body(call).get("amount_minor")) if operation == "initiate" else ()

    def refusal(self, verdict: Verdict) -> Response:
        """Rate limited, expired key, or a server error."""
        if verdict.rate_limit:
            return _error(HarbourError(429, "rate_limited", "Too many requests."))
        if verdict.bad_key:
            return _error(HarbourError(401, "key_expired", "This API key has expired."))
        return self.failure(verdict.error_before)

    def busy(self) -> Response:
        """Answer that a request with the same key is being carried out."""
        return _error(HarbourError(409, "in_progress", "The same request is being carried out right now."))

    def failure(self, status: int) -> Response:
        """A server error."""
        return _error(HarbourError(status, "internal", "The bank cannot answer properly right now."))

    def perform(self, call: Call, verdict: Verdict) -> Response:
        """Authenticate and carry out."""
        bank = Bank(self._store, self._instance, call.now_ms, self._emit)
        if not call.headers.get("authorization", "").startswith("Bearer sk_test_"):
            return _error(HarbourError(401, "key_invalid", "A key that begins with sk_test_ is needed."))
        try:
            answer = self._endpoint(bank, call, verdict)
        except HarbourError as error:
            return _error(error)
        return self.failure(verdict.error_after) if verdict.error_after else answer

    def _endpoint(self, bank: Bank, call: Call, verdict: Verdict) -> Response:
        if call.path == "/v1/settlement" and call.method == "GET":
            return self._settlement(call)
        transfer, giving = _TRANSFER.fullmatch(call.path), _RETURN.fullmatch(call.path)
        if transfer is not None and call.method == "POST":
            doc, new = bank.initiate(unquote(transfer[1]), _body(call), verdict)
            return as_json(202 if new else 200, public(doc))
        if transfer is not None and call.method == "GET":
            return as_json(200, public(bank.find(unquote(transfer[1]))))
        if giving is not None and call.method == "POST":
            doc, new = bank.give_back(unquote(giving[1]), unquote(giving[2]), _body(call))
            return as_json(202 if new else 200, doc)
        raise HarbourError(404, "endpoint_unknown", "There is no such endpoint.")

    def _settlement(self, call: Call) -> Response:
        """Return the file: a header, a line per movement, and a trailer that counts and sums them."""
        query = parse_qs(call.query)
        to_ms = _moment(query, "to", call.now_ms)
        from_ms = _moment(query, "from", to_ms - DAY_MS)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(SETTLEMENT_COLUMNS)
        count = total = 0
        moved = self._store.settled(self._instance.name, from_ms=from_ms, to_ms=to_ms)
        for one in reversed(moved):
            kind = "charge" if one.what == "capture" else "return"
            line = (kind, one.reference, one.object, one.amount_minor, one.currency, iso(one.at_ms))
            writer.writerow(line)
            count += 1
            total += one.amount_minor if kind == "charge" else -one.amount_minor
        writer.writerow(("trailer", count, "", total, "", iso(to_ms)))
        return Response(200, out.getvalue().encode(), content_type="text/csv; charset=utf-8")

    def fire(self, timer: Timer, now_ms: int) -> None:
        """Settle or expire a transfer, or let a return arrive."""
        bank = Bank(self._store, self._instance, now_ms, self._emit)
        if timer.what.startswith("return:"):
            bank.settle_return(timer.object, timer.what.removeprefix("return:"))
        else:
            bank.find(timer.object)

    def sign(self, body: str, event_id: str, now_ms: int, *, spoilt: bool) -> Mapping[str, str]:
        """Sign per Standard Webhooks 1.0.0."""
        secret = self._instance.webhook_secret if not spoilt else "whsec_" + "c3BvaWx0" * 4
        at = datetime.fromtimestamp(now_ms // 1000, UTC)
        return {
            "webhook-id": event_id,
            "webhook-timestamp": str(now_ms // 1000),
            "webhook-signature": Webhook(secret).sign(event_id, at, body),
            "content-type": "application/json",
        }


def _body(call: Call) -> dict[str, Any]:
    try:
        body = json.loads(call.body)
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}


def _moment(query: dict[str, list[str]], name: str, default_ms: int) -> int:
    if name not in query:
        return default_ms
    try:
        moment = datetime.fromisoformat(query[name][0])
    except ValueError:
        raise HarbourError(422, f"{name}_invalid", f"{name} is a moment with its offset from UTC.") from None
    if moment.tzinfo is None:
        raise HarbourError(422, f"{name}_invalid", f"{name} is a moment with its offset from UTC.")
    return round(moment.timestamp() * 1000)


def _error(error: HarbourError) -> Response:
    return as_json(error.status, {"error": {"code": error.code, "message": error.message}})
