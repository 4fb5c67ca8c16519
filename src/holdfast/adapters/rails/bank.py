"""Bank transfers in the shape of an instant credit transfer.

Pushed at once, confirmed later, never cancelled.

What makes it safe (fence class F1): the bank settles nothing for an attempt from the moment `expires_at`
that we gave it, also when our request reaches it later than that. So after `RailTraits.expires_s` and a
fresh query, "not found" and "expired" are definite. The bank is told to stop `BANK_CLOCK_SKEW_S` earlier
than we stop waiting, for clocks differ.

The caller's `end_to_end_id` is our reference: a repeated request answers with the transfer as it stands, so
no separate key is needed. The protocol is the one documented in `docs/reference/sandbox.md`; messages are
signed per Standard Webhooks. The settlement file is CSV with a trailer that counts and sums its lines, so
that half a file is never taken for a whole one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from holdfast.adapters.rails.wire import (
    UNREADABLE,
    RailEventInvalid,
    RailSettings,
    SettlementFileInvalid,
    Wire,
    document,
    unanswered,
    unreadable,
)
from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.base.limits import BANK_CLOCK_SKEW_S, BANK_EXPIRES_S, SETTLEMENT_FILE_TIMEOUT_S
from holdfast.base.money import Money, asset
from holdfast.domains.payments.ports import (
    Answer,
    Evidence,
    FenceClass,
    Op,
    Order,
    RailEvent,
    RailTraits,
    Said,
    SettlementRow,
)
from holdfast.platform.http import HttpClient, NoAnswer, NotSent, Reply

COLUMNS: Final = ("kind", "end_to_end_id", "transfer_id", "amount_minor", "currency", "at")
_PAYER_REASONS: Final = frozenset(("AC01", "AC04", "AC06", "AM02", "AM04", "AG01", "MD07"))
"""ISO 20022 external status reasons that lie with the payer's account.

Wrong, closed, blocked, limit, funds.
"""

_STATUS: Final = {
    "received": Said.PENDING,
    "settled": Said.CAPTURED,
    "rejected": Said.DECLINED,
    "expired": Said.DECLINED,
}


class BankRail:
    """The bank rail named `settings.name`."""

    def __init__(
        self, settings: RailSettings, http: HttpClient, clock: Clock, *, expires_s: float = BANK_EXPIRES_S
    ) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._traits = RailTraits(
            name=settings.name,
            kind="bank",
            fence=FenceClass.F1,
            one_step=True,
            replay_key_s=round(expires_s),
            methods=("bank",),
            assets=settings.assets,
            expires_s=expires_s,
            backup=settings.backup_url is not None,
            cost_bp=settings.cost_bp,
            timeout_s=settings.timeout_s,
            concurrency_max=settings.concurrency_max,
            live=settings.live,
            confirms_later=True,
        )

    @property
    def traits(self) -> RailTraits:
        """What this rail is like."""
        return self._traits

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()

    async def send(self, order: Order) -> Answer:
        """Carry out `order.op`; never raises for what the network or the bank does."""
        if order.amount.asset.code not in self._traits.assets:
            return Answer(
                Said.NOT_SENT, code="asset_unsupported", message="This rail does not take that asset."
            )
        wire = Wire(self._http, self._settings, self._traits, self._clock, order)
        try:
            return await self._carry_out(wire, order)
        except UNREADABLE as error:
            return unreadable(error)

    async def _carry_out(self, wire: Wire, order: Order) -> Answer:
        match order.op:
            case Op.AUTHORIZE:
                return await self._initiate(wire, order)
            case Op.QUERY:
                return await self._query(wire, order)
            case Op.REFUND:
                return await self._give_back(wire, order)
            case Op.CANCEL | Op.CAPTURE:
                text = "A bank transfer is taken in one step and cannot be cancelled; it expires."
                return Answer(Said.NOT_SENT, code="operation_unsupported", message=text)

    async def _initiate(self, wire: Wire, order: Order) -> Answer:
        now = self._clock.now()
        ends_at = order.expires_at or now + timedelta(seconds=self._traits.expires_s or BANK_EXPIRES_S)
        expires_at = ends_at - timedelta(seconds=BANK_CLOCK_SKEW_S)
        if expires_at <= now:
            return Answer(
                Said.NOT_SENT, code="expired", message="The attempt had expired before it was sent."
            )
        body = {
            "amount_minor": order.amount.amount_minor,
            "currency": order.amount.asset.code,
            "debtor_account": order.token,
            "expires_at": expires_at.isoformat(timespec="milliseconds"),
        }
        return _read(await self._call(wire, "POST", _path(order), body), order)

    async def _query(self, wire: Wire, order: Order) -> Answer:
        return _read(await self._call(wire, "GET", _path(order)), order)

    async def _give_back(self, wire: Wire, order: Order) -> Answer:
        path = f"{_path(order)}/returns/{quote(order.key, safe='')}"
        reply = await self._call(wire, "POST", path, {"amount_minor": order.amount.amount_minor})
        if isinstance(reply, Answer):
            return reply
        doc = document(reply)
        if reply.status not in (200, 202) or doc is None:
            return _read_error(reply, doc)
        said = Said.REFUNDED if doc.get("status") == "settled" else Said.PENDING
        return Answer(said, Evidence.QUERY, amount=Money(order.amount.asset, int(doc["amount_minor"])))

    async def _call(self, wire: Wire, method: str, path: str, body: object = None) -> Reply | Answer:
        if body is None:
            return await wire.call(method, path, self._headers())
        headers = self._headers() | {"content-type": "application/json"}
        return await wire.call(method, path, headers, json.dumps(body).encode())

    def _headers(self) -> dict[str, str]:
        return {"authorization": "Bearer " + self._settings.secret_key.reveal()}

    # messages and files

    def read_event(self, headers: Mapping[str, str], body: bytes) -> RailEvent | None:
        """Check a message's signature and read it; None when it tells nothing. Raises: `RailEventInvalid`."""
        try:
            event = Webhook(self._settings.webhook_secret.reveal()).verify(body, dict(headers))
        except (WebhookVerificationError, ValueError) as error:
            raise RailEventInvalid("The signature of the message is wrong, or too old.") from error
        try:
            return _event(self._settings.name, event)
        except (ValueError, KeyError, TypeError, HoldfastError) as error:
            raise RailEventInvalid("The message is signed but cannot be read.") from error

    async def settlement(self, since: datetime, until: datetime) -> tuple[SettlementRow, ...]:
        """Fetch what was settled and returned from `since` until before `until`.

        Raises: `SettlementFileInvalid`.
        """
        span = urlencode({"from": since.isoformat(), "to": until.isoformat()})
        url = f"{self._settings.base_url.rstrip('/')}/v1/settlement?{span}"
        try:
            reply = await self._http.call(
                "GET", url, timeout_s=SETTLEMENT_FILE_TIMEOUT_S, headers=self._headers()
            )
        except (NotSent, NoAnswer) as error:
            raise SettlementFileInvalid(f"The settlement file was not fetched: {error.message}") from error
        if reply.status != 200:
            raise SettlementFileInvalid(f"The settlement file was answered with {reply.status}.")
        return read_settlement(self._settings.name, reply.body)


def _path(order: Order) -> str:
    return "/v1/transfers/" + quote(order.reference, safe="")


def _read(reply: Reply | Answer, order: Order) -> Answer:
    if isinstance(reply, Answer):
        return reply
    doc = document(reply)
    if reply.status not in (200, 202) or doc is None:
        return _read_error(reply, doc)
    said = _STATUS.get(str(doc.get("status")))
    if said is None:
        return unanswered("status_unknown", f"The bank named a status {doc.get('status')!r}.")
    reason = str(doc.get("reason") or "")
    return Answer(
        said,
        Evidence.QUERY,
        str(doc["transfer_id"]),
        "expired" if doc["status"] == "expired" else reason,
        str(doc.get("message") or ""),
        Money(order.amount.asset, int(doc["amount_minor"])),
        int(doc.get("returned_minor", 0)),
        reason in _PAYER_REASONS,
    )


def _read_error(reply: Reply, doc: Mapping[str, Any] | None) -> Answer:
    """Say what an error answer proves. Anything that is not in this table proves nothing: unknown."""
    found = doc.get("error") if doc is not None else None
    error: Mapping[str, Any] = found if isinstance(found, dict) else {}
    code, message = str(error.get("code") or reply.status), str(error.get("message", ""))[:500]
    match reply.status:
        case 401 | 403 | 429 if error:
            return Answer(Said.NOT_DONE, Evidence.QUERY, code=code, message=message)
        case 404 if code == "transfer_unknown":
            return Answer(Said.NOT_FOUND, Evidence.QUERY, code=code, message=message)
        case 409 if code == "not_settled":
            return Answer(Said.NOT_DONE, Evidence.QUERY, code=code, message=message)
        case 422 if error:
            return Answer(Said.DECLINED, Evidence.QUERY, code=code, message=message)
        case _:
            return unanswered(code, message or f"The bank answered {reply.status}.")


def _event(rail: str, event: Mapping[str, Any]) -> RailEvent | None:
    data = event["data"]
    at = datetime.fromisoformat(event["timestamp"])
    reference, remote_id = str(data["end_to_end_id"]), str(data["transfer_id"])
    money = asset(data["currency"])
    match event["type"]:
        case "transfer.settled" | "transfer.rejected" | "transfer.expired":
            said, amount = _STATUS[data["status"]], Money(money, int(data["amount_minor"]))
        case "return.settled":
            said, amount = Said.REFUNDED, Money(money, int(data["returned_minor"]))
        case _:
            return None
    code, message = str(data.get("reason") or ""), str(data.get("message") or "")
    return RailEvent(str(event["id"]), rail, reference, remote_id, said, amount, at, code, message)


def read_settlement(rail: str, content: bytes) -> tuple[SettlementRow, ...]:
    """Read a settlement file, whole or not at all. Raises: `SettlementFileInvalid`."""
    try:
        lines = list(csv.reader(io.StringIO(content.decode())))
        if not lines or tuple(lines[0]) != COLUMNS or lines[-1][:1] != ["trailer"]:
            raise SettlementFileInvalid("The settlement file has no header or no trailer: it is not whole.")
        rows = tuple(_settlement_row(rail, line) for line in lines[1:-1])
        count, total = int(lines[-1][1]), int(lines[-1][3])
    except (ValueError, IndexError, HoldfastError) as error:
        raise SettlementFileInvalid(f"The settlement file cannot be read: {error}") from error
    summed = sum(r.amount.amount_minor if r.kind == "charge" else -r.amount.amount_minor for r in rows)
    if (count, total) != (len(rows), summed):
        raise SettlementFileInvalid("The trailer of the settlement file does not fit its lines.")
    return rows


def _settlement_row(rail: str, line: list[str]) -> SettlementRow:
    kind, reference, remote_id, amount, currency, at = line
    if kind not in ("charge", "return"):
        raise ValueError(f"a line of kind {kind!r}")
    return SettlementRow(
        rail, reference, remote_id, kind, Money(asset(currency), int(amount)), datetime.fromisoformat(at)
    )
