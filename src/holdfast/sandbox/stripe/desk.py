"""What the endpoints work on: one instance's objects, its book and its events, at one moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from holdfast.sandbox.magic import CARDS_BY_TOKEN, Outage, outages_of
from holdfast.sandbox.model import Outgoing
from holdfast.sandbox.store import Doc, Store
from holdfast.sandbox.stripe import errors, objects

REFERENCE_KEYS: Final = ("holdfast_reference", "reference", "order_id")
"""Metadata that the provider's own book shows as the caller's reference: the first that is there."""


def reference_of(metadata: Mapping[str, str]) -> str:
    """Return the caller's reference from an object's metadata, or an empty text."""
    return next((metadata[key] for key in REFERENCE_KEYS if key in metadata), "")


@dataclass(frozen=True, slots=True)
class Desk:
    """One request's view of its instance."""

    store: Store
    instance: str
    now_ms: int
    request_id: str
    key: str | None
    emit: Callable[[Outgoing], None]

    @property
    def now_s(self) -> int:
        """The time as Stripe writes it, Unix seconds."""
        return self.now_ms // 1000

    def intent(self, object_id: str) -> Doc:
        """Return a PaymentIntent, or refuse."""
        return self._get("payment_intent", object_id, "payment_intent")

    def charge(self, object_id: str) -> Doc:
        """Return a Charge, or refuse."""
        return self._get("charge", object_id, "charge")

    def refund(self, object_id: str) -> Doc:
        """Return a Refund, or refuse."""
        return self._get("refund", object_id, "refund")

    def method(self, object_id: str) -> Doc:
        """Return a PaymentMethod: one that was made, or one of the test tokens."""
        card = CARDS_BY_TOKEN.get(object_id)
        if card is not None:
            return objects.payment_method(card, created=self.now_s, object_id=object_id)
        doc = self.store.get(self.instance, "payment_method", object_id)
        if doc is None:
            text = f"No such PaymentMethod: '{object_id}'"
            raise errors.invalid(text, param="payment_method", code="resource_missing")
        return doc

    def _get(self, kind: str, object_id: str, spoken: str) -> Doc:
        doc = self.store.get(self.instance, kind, object_id)
        if doc is None:
            raise errors.no_such(spoken, object_id)
        return doc

    def keep_intent(self, intent: Doc) -> None:
        """Store a PaymentIntent, findable by every one of its metadata values."""
        self.store.put(
            self.instance,
            "payment_intent",
            intent,
            now_ms=self.now_ms,
            reference=reference_of(intent["metadata"]),
        )

    def keep_charge(self, charge: Doc) -> None:
        """Store a Charge."""
        self.store.put(
            self.instance, "charge", charge, now_ms=self.now_ms, reference=charge["payment_intent"]
        )

    def keep_refund(self, refund: Doc) -> None:
        """Store a Refund, findable by its payment."""
        self.store.put(
            self.instance, "refund", refund, now_ms=self.now_ms, reference=refund["payment_intent"]
        )

    def keep_method(self, method: Doc) -> None:
        """Store a PaymentMethod."""
        self.store.put(self.instance, "payment_method", method, now_ms=self.now_ms)

    def enter(self, intent: Doc, what: str, amount_minor: int, source: str) -> None:
        """Write a line into the provider's own book; `source` is the charge or refund that moved it."""
        self.store.enter(
            self.instance,
            at_ms=self.now_ms,
            reference=reference_of(intent["metadata"]),
            obj=intent["id"],
            what=what,
            amount_minor=amount_minor,
            currency=intent["currency"].upper(),
            source=source,
        )

    def tell(self, kind: str, obj: Doc) -> None:
        """Record an event and owe its webhooks."""
        event = objects.event(kind, obj, created=self.now_s, key=self.key, request_id=self.request_id)
        self.store.put(self.instance, "event", event, now_ms=self.now_ms)
        self.emit(Outgoing(event["id"], json.dumps(event), self._outages(obj)))

    def _outages(self, obj: Doc) -> tuple[Outage, ...]:
        """Return what the card and the amount of the payment that `obj` belongs to ask for."""
        if obj["object"] == "refund":
            obj = self.charge(obj["charge"])
        if obj["object"] == "payment_intent":
            method, charge = obj["payment_method"], obj["latest_charge"]
            if method is not None:
                return outages_of(self.method(method)["_token"], obj["amount"])
            if charge is None:
                return outages_of("", obj["amount"])
            return outages_of(self.charge(charge)["_token"], obj["amount"])
        return outages_of(obj["_token"], obj["amount"])
