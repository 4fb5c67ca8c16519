"""Transfers of the bank: initiated, settled later, returned."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.base.limits import AMOUNT_MINOR_MAX
from holdfast.sandbox.faults import Verdict, draw
from holdfast.sandbox.magic import ACCOUNTS, Account, outages_of
from holdfast.sandbox.model import Instance, Outgoing
from holdfast.sandbox.store import Doc, Store

_ID: Final = re.compile(r"^[A-Za-z0-9_.:-]{1,120}$")
_CURRENCY: Final = re.compile(r"^[A-Z]{3}$")
JITTER: Final = 0.4
"""A transfer settles within this share around its usual time."""


class HarbourError(Exception):
    """An error answer of the bank."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Bank:
    """One request's view of the bank."""

    store: Store
    instance: Instance
    now_ms: int
    emit: Callable[[Outgoing], None]

    def find(self, end_to_end_id: str) -> Doc:
        """Return a transfer as it stands now, or refuse."""
        doc = self.store.get(self.instance.name, "transfer", end_to_end_id)
        if doc is None:
            raise HarbourError(404, "transfer_unknown", f"There is no transfer {end_to_end_id}.")
        return self.caught_up(doc)

    def caught_up(self, doc: Doc) -> Doc:
        """Let time do what it has done.

        The bank settles or expires on the dot, however late its timers run.
        """
        if doc["status"] != "received":
            return doc
        if doc["_settles_ms"] is not None and doc["_settles_ms"] <= min(self.now_ms, doc["_expires_ms"] - 1):
            return self._end(doc, "settled", at_ms=doc["_settles_ms"])
        if doc["_expires_ms"] <= self.now_ms:
            reason = ("AB05", "It was not settled before it expired.")
            return self._end(doc, "expired", at_ms=doc["_expires_ms"], reason=reason)
        return doc

    def initiate(self, end_to_end_id: str, body: dict[str, Any], verdict: Verdict) -> tuple[Doc, bool]:
        """Accept a transfer; return it and whether it is new.

        The same id again gives the transfer as it stands.
        """
        if not _ID.match(end_to_end_id):
            raise HarbourError(
                422, "end_to_end_id_invalid", "An end_to_end_id has 1 to 120 plain characters."
            )
        asked = _read(body)
        before = self.store.get(self.instance.name, "transfer", end_to_end_id)
        if before is not None:
            same = ("amount_minor", "currency", "debtor_account")
            if [before["_asked"][name] for name in same] != [asked[name] for name in same]:
                raise HarbourError(
                    409, "reference_conflict", "This end_to_end_id belongs to another transfer."
                )
            return self.caught_up(before), False
        return self._accept(end_to_end_id, asked, verdict), True

    def _accept(self, end_to_end_id: str, asked: dict[str, Any], verdict: Verdict) -> Doc:
        account = ACCOUNTS.get(asked["debtor_account"], ACCOUNTS["HB-0001-OK"])
        doc: Doc = {
            "id": end_to_end_id,
            "end_to_end_id": end_to_end_id,
            "transfer_id": f"hbt_{secrets.token_hex(10)}",
            "status": "received",
            "amount_minor": asked["amount_minor"]
            - (1 if verdict.wrong_amount and asked["amount_minor"] > 1 else 0),
            "currency": asked["currency"],
            "created_at": iso(self.now_ms),
            "expires_at": iso(asked["expires_ms"]),
            "settled_at": None,
            "reason": None,
            "message": None,
            "returned_minor": 0,
            "returns": [],
            "_asked": asked,
            "_expires_ms": asked["expires_ms"],
            "_settles_ms": self._settles_ms(end_to_end_id, account),
        }
        if asked["expires_ms"] <= self.now_ms:
            return self._end(
                doc, "rejected", at_ms=self.now_ms, reason=("TM01", "It arrived after it had expired.")
            )
        if account.reason:
            return self._end(doc, "rejected", at_ms=self.now_ms, reason=(account.reason, account.message))
        if verdict.decline:
            return self._end(doc, "rejected", at_ms=self.now_ms, reason=("MS03", "The bank gives no reason."))
        self._keep(doc)
        due_ms = min(doc["_settles_ms"] or doc["_expires_ms"], doc["_expires_ms"])
        self.store.later(self.instance.name, "settle", end_to_end_id, due_ms)
        return doc

    def _settles_ms(self, end_to_end_id: str, account: Account) -> int | None:
        if account.pace == 0:
            return None
        around = 1 + JITTER * (2 * draw(self.instance.name, end_to_end_id) - 1)
        return self.now_ms + round(self.instance.settle_ms * account.pace * around)

    def _end(self, doc: Doc, status: str, *, at_ms: int, reason: tuple[str, str] | None = None) -> Doc:
        doc["status"] = status
        if reason is not None:
            doc["reason"], doc["message"] = reason
        if status == "settled":
            doc["settled_at"] = iso(at_ms)
            self._enter(doc, "capture", doc["amount_minor"], at_ms)
        self._keep(doc)
        self._tell(f"transfer.{status}", doc)
        return doc

    def give_back(self, end_to_end_id: str, return_id: str, body: dict[str, Any]) -> tuple[Doc, bool]:
        """Return money of a settled transfer; the same `return_id` again gives the return as it stands."""
        doc = self.find(end_to_end_id)
        amount = body.get("amount_minor")
        before = next((one for one in doc["returns"] if one["return_id"] == return_id), None)
        if before is not None:
            if before["amount_minor"] != amount:
                raise HarbourError(409, "reference_conflict", "This return_id belongs to another return.")
            return before, False
        if not _ID.match(return_id) or type(amount) is not int or amount < 1:
            raise HarbourError(422, "return_invalid", "A return has an id and a positive amount_minor.")
        if doc["status"] != "settled":
            raise HarbourError(409, "not_settled", "Only a settled transfer can be returned.")
        if amount > doc["amount_minor"] - sum(one["amount_minor"] for one in doc["returns"]):
            raise HarbourError(422, "above_settled", "Returns cannot exceed what was settled.")
        new = {
            "return_id": return_id,
            "amount_minor": amount,
            "status": "pending",
            "created_at": iso(self.now_ms),
        }
        doc["returns"].append(new)
        self._keep(doc)
        self.store.later(
            self.instance.name, f"return:{return_id}", end_to_end_id, self.now_ms + self.instance.settle_ms
        )
        return new, True

    def settle_return(self, end_to_end_id: str, return_id: str) -> None:
        """Let a return arrive."""
        doc = self.find(end_to_end_id)
        for one in doc["returns"]:
            if one["return_id"] == return_id and one["status"] == "pending":
                one["status"] = "settled"
                doc["returned_minor"] += one["amount_minor"]
                self._enter(doc, "refund", one["amount_minor"], self.now_ms)
                self._keep(doc)
                self._tell("return.settled", doc)

    def _keep(self, doc: Doc) -> None:
        self.store.put(
            self.instance.name, "transfer", doc, now_ms=self.now_ms, reference=doc["end_to_end_id"]
        )

    def _enter(self, doc: Doc, what: str, amount_minor: int, at_ms: int) -> None:
        self.store.enter(
            self.instance.name,
            at_ms=at_ms,
            reference=doc["end_to_end_id"],
            obj=doc["transfer_id"],
            what=what,
            amount_minor=amount_minor,
            currency=doc["currency"],
        )

    def _tell(self, kind: str, doc: Doc) -> None:
        event_id = f"hbe_{secrets.token_hex(10)}"
        body = {"id": event_id, "type": kind, "timestamp": iso(self.now_ms), "data": public(doc)}
        outages = outages_of("", doc["_asked"]["amount_minor"])
        self.emit(Outgoing(event_id, json.dumps(body), outages))


def _read(body: dict[str, Any]) -> dict[str, Any]:
    amount, currency, account = body.get("amount_minor"), body.get("currency"), body.get("debtor_account")
    if type(amount) is not int or not 1 <= amount <= AMOUNT_MINOR_MAX:
        raise HarbourError(422, "amount_invalid", "amount_minor is a positive whole number.")
    if not isinstance(currency, str) or not _CURRENCY.match(currency):
        raise HarbourError(422, "currency_invalid", "currency is three capital letters.")
    if not isinstance(account, str) or not account.startswith("HB-"):
        raise HarbourError(422, "account_invalid", "debtor_account begins with HB-.")
    try:
        expires = datetime.fromisoformat(str(body.get("expires_at")))
    except ValueError:
        raise HarbourError(
            422, "expires_at_invalid", "expires_at is a moment with its offset from UTC."
        ) from None
    if expires.tzinfo is None:
        raise HarbourError(422, "expires_at_invalid", "expires_at is a moment with its offset from UTC.")
    return {
        "amount_minor": amount,
        "currency": currency,
        "debtor_account": account,
        "expires_ms": round(expires.timestamp() * 1000),
    }


def iso(unix_ms: int) -> str:
    """Write a moment as ISO 8601, UTC, milliseconds."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")


def public(doc: Doc) -> Doc:
    """Return a transfer without what stays inside."""
    return {key: value for key, value in doc.items() if not key.startswith("_") and key != "id"}
