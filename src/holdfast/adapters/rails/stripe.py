"""Cards through Stripe's PaymentIntents, or whoever speaks that protocol.

An authorization takes two requests: create an intent (which cannot move money), then confirm it. The price
is one round trip. What it buys is that every doubt about an attempt is a doubt about an intent whose id is
known or can be had:

- `create` unanswered: nothing can have been held and nothing will, since nobody will confirm that intent.
  Not done.
- `confirm` unanswered: unknown, and `cancel` of that intent is a true fence: Stripe charges nothing on it
  afterwards.
- the id was lost too (a crash between the two): the same `create` with the same key gives it back, because
  the key is made from the attempt's reference alone. If the key itself keeps a saved server error, nobody
  ever had an id to confirm.

`cancel` and `capture` carry no idempotency key on purpose: an intent can be cancelled or captured only
once, so repeating them is harmless, while a key would make Stripe repeat a saved 500 for a day. `confirm`
and `refund` carry the order's key.

The protocol is spoken directly and not through Stripe's library, because whether a failed request has left
this machine must be known with certainty (see `platform/http.py` and the decision record). Sources: Stripe
API reference: PaymentIntents, Refunds, Errors, Idempotent requests, Webhook signatures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from holdfast.adapters.rails.stripe_answers import not_done, read_error, read_intent, read_refund, with_id
from holdfast.adapters.rails.stripe_messages import REFERENCE, check_signature, event_of, settlement_row
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
from holdfast.base.limits import SETTLEMENT_FILE_TIMEOUT_S, SETTLEMENT_PAGES_MAX
from holdfast.domains.payments.ports import (
    Answer,
    FenceClass,
    Op,
    Order,
    RailEvent,
    RailTraits,
    Said,
    SettlementRow,
)
from holdfast.platform.http import HttpClient, NoAnswer, NotSent, Reply

_KEY_LIFE_S: Final = 24 * 3600


class StripeRail:
    """The card rail named `settings.name`."""

    def __init__(self, settings: RailSettings, http: HttpClient, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._traits = RailTraits(
            name=settings.name,
            kind="stripe",
            fence=FenceClass.F4,
            one_step=False,
            replay_key_s=_KEY_LIFE_S,
            methods=("card",),
            assets=settings.assets,
            backup=settings.backup_url is not None,
            cost_bp=settings.cost_bp,
            timeout_s=settings.timeout_s,
            concurrency_max=settings.concurrency_max,
            live=settings.live,
            cancels_unseen=True,
        )

    @property
    def traits(self) -> RailTraits:
        """What this rail is like."""
        return self._traits

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()

    async def send(self, order: Order) -> Answer:
        """Carry out `order.op`; never raises for what the network or Stripe does."""
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
                return await self._authorize(wire, order)
            case Op.QUERY:
                return await self._query(wire, order)
            case Op.CAPTURE:
                return await self._capture(wire, order)
            case Op.CANCEL:
                return await self._cancel(wire, order)
            case Op.REFUND:
                return await self._refund(wire, order)

    # operations

    async def _authorize(self, wire: Wire, order: Order) -> Answer:
        intent_id = order.remote_id
        if intent_id is None:
            created = await self._create(wire, order)
            if isinstance(created, Answer):
                return created
            intent_id = created
        if wire.left_s <= 0:
            return Answer(
                Said.NOT_DONE, remote_id=intent_id, code="no_time", message="No time was left to confirm."
            )
        reply = await self._post(
            wire,
            f"/v1/payment_intents/{quote(intent_id)}/confirm",
            {"error_on_requires_action": "true"},
            order.key,
        )
        if isinstance(reply, Answer):
            return with_id(reply, intent_id)
        return with_id(read_intent(reply, order), intent_id)

    async def _create(self, wire: Wire, order: Order) -> str | Answer:
        """Return the id of the attempt's intent, making it if need be.

        Or what to answer when there is none.
        """
        reply = await self._post_create(wire, order)
        if isinstance(reply, Answer):
            if reply.said is Said.UNKNOWN:
                text = "Creating the payment was not answered; unconfirmed, it cannot charge."
                return Answer(Said.NOT_DONE, code="create_" + reply.code, message=text)
            return reply
        doc = document(reply)
        if reply.status != 200:
            answer = read_error(reply, doc, order)
            return answer if answer.said is Said.DECLINED else not_done(answer)
        if doc is None or not isinstance(doc.get("id"), str):
            return Answer(Said.NOT_DONE, code="create_unreadable", message="The answer could not be read.")
        status = doc.get("status")
        if status == "requires_confirmation" and doc.get("amount") != order.amount.amount_minor:
            text = "The rail made a payment of another amount; it was not confirmed."
            return Answer(Said.NOT_DONE, remote_id=doc["id"], code="amount_mismatch", message=text)
        return str(doc["id"])

    async def _post_create(self, wire: Wire, order: Order) -> Reply | Answer:
        form = {
            "amount": str(order.amount.amount_minor),
            "currency": order.amount.asset.code.lower(),
            "capture_method": "manual",
            "payment_method_types[]": "card",
            "payment_method": order.token,
            f"metadata[{REFERENCE}]": order.reference,
        }
        return await self._post(wire, "/v1/payment_intents", form, "create-" + order.reference)

    async def _capture(self, wire: Wire, order: Order) -> Answer:
        intent_id = order.remote_id or await self._searched(wire, order)
        if isinstance(intent_id, Answer):
            return intent_id
        form = {"amount_to_capture": str(order.amount.amount_minor)}
        reply = await self._post(wire, f"/v1/payment_intents/{quote(intent_id)}/capture", form)
        if isinstance(reply, Answer):
            return with_id(reply, intent_id)
        return with_id(read_intent(reply, order), intent_id)

    async def _cancel(self, wire: Wire, order: Order) -> Answer:
        intent_id = order.remote_id or await self._located(wire, order)
        if isinstance(intent_id, Answer):
            return intent_id
        reply = await self._post(wire, f"/v1/payment_intents/{quote(intent_id)}/cancel", {})
        if isinstance(reply, Answer):
            return with_id(reply, intent_id)
        return with_id(read_intent(reply, order), intent_id)

    async def _located(self, wire: Wire, order: Order) -> str | Answer:
        """Return the id of the attempt's intent by its key.

        A create still under way meets the same intent.
        """
        status = 0
        for _ in range(2):
            reply = await self._post_create(wire, order)
            if isinstance(reply, Answer):
                return reply
            doc = document(reply)
            if reply.status == 200 and doc is not None and isinstance(doc.get("id"), str):
                return str(doc["id"])
            status = reply.status
            if status < 500:
                answer = read_error(reply, doc, order)
                return await self._searched(wire, order) if answer.code == "idempotency_error" else answer
            if reply.headers.get("idempotent-replayed") == "true":
                text = "The rail keeps an error for this attempt's key: no payment was ever made with it."
                return Answer(Said.CANCELED, code="never_created", message=text)
        return unanswered(str(status), "The rail could not say.")

    async def _query(self, wire: Wire, order: Order) -> Answer:
        intent_id = order.remote_id
        if intent_id is None:
            found = await self._searched(wire, order)
            if isinstance(found, Answer):
                return found
            intent_id = found
        reply = await wire.call("GET", f"/v1/payment_intents/{quote(intent_id)}", self._headers())
        if isinstance(reply, Answer):
            return with_id(reply, intent_id)
        answer = with_id(read_intent(reply, order), intent_id)
        if answer.said is not Said.CAPTURED:
            return answer
        return await self._with_refunds(wire, answer)

    async def _searched(self, wire: Wire, order: Order) -> str | Answer:
        query = f"metadata['{REFERENCE}']:'{order.reference}'"
        path = "/v1/payment_intents/search?" + urlencode({"query": query, "limit": "1"})
        reply = await wire.call("GET", path, self._headers())
        if isinstance(reply, Answer):
            return reply
        doc = document(reply)
        if reply.status != 200 or doc is None:
            return read_error(reply, doc, order)
        for intent in doc.get("data", ()):
            return str(intent["id"])
        return Answer(
            Said.NOT_FOUND, code="not_found", message="The rail knows no payment of this reference yet."
        )

    async def _with_refunds(self, wire: Wire, answer: Answer) -> Answer:
        path = "/v1/refunds?" + urlencode({"payment_intent": answer.remote_id, "limit": "100"})
        reply = await wire.call("GET", path, self._headers())
        doc = document(reply) if not isinstance(reply, Answer) and reply.status == 200 else None
        if doc is None:
            return unanswered(
                "refunds_unread", "The payment was read, its refunds were not.", remote_id=answer.remote_id
            )
        refunded = sum(int(one["amount"]) for one in doc["data"] if one.get("status") == "succeeded")
        return replace(answer, refunded_minor=refunded)

    async def _refund(self, wire: Wire, order: Order) -> Answer:
        intent_id = order.remote_id or await self._searched(wire, order)
        if isinstance(intent_id, Answer):
            return intent_id
        form = {
            "payment_intent": intent_id,
            "amount": str(order.amount.amount_minor),
            f"metadata[{REFERENCE}]": order.reference,
        }
        reply = await self._post(wire, "/v1/refunds", form, order.key)
        if isinstance(reply, Answer):
            return with_id(reply, intent_id)
        return with_id(read_refund(reply, order), intent_id)

    # the wire

    def _headers(self, key: str | None = None) -> dict[str, str]:
        headers = {"authorization": "Bearer " + self._settings.secret_key.reveal()}
        return headers if key is None else headers | {"idempotency-key": key}

    async def _post(
        self, wire: Wire, path: str, form: Mapping[str, str], key: str | None = None
    ) -> Reply | Answer:
        headers = self._headers(key) | {"content-type": "application/x-www-form-urlencoded"}
        return await wire.call("POST", path, headers, urlencode(form).encode())

    # messages and files

    async def settlement(self, since: datetime, until: datetime) -> tuple[SettlementRow, ...]:
        """Fetch what was captured and given back from `since` until before `until`, both to the second.

        Raises: `SettlementFileInvalid`.
        """
        span = {"created[gte]": str(int(since.timestamp())), "created[lt]": str(int(until.timestamp()))}
        rows: list[SettlementRow] = []
        after: dict[str, str] = {}
        for _ in range(SETTLEMENT_PAGES_MAX):
            query = urlencode({**span, **after, "limit": "100", "expand[]": "data.source"})
            doc = await self._settlement_page("/v1/balance_transactions?" + query)
            try:
                rows += [row for one in doc["data"] if (row := settlement_row(self._settings.name, one))]
                if not doc["has_more"]:
                    return tuple(reversed(rows))
                after = {"starting_after": str(doc["data"][-1]["id"])}
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise SettlementFileInvalid(f"The list of movements cannot be read: {error!r}") from error
        raise SettlementFileInvalid(
            "The list of movements has more pages than allowed; ask for less time at once."
        )

    async def _settlement_page(self, path: str) -> dict[str, Any]:
        url = self._settings.base_url.rstrip("/") + path
        try:
            reply = await self._http.call(
                "GET", url, timeout_s=SETTLEMENT_FILE_TIMEOUT_S, headers=self._headers()
            )
        except (NotSent, NoAnswer) as error:
            raise SettlementFileInvalid(f"The list of movements was not fetched: {error.message}") from error
        doc = document(reply)
        if reply.status != 200 or doc is None:
            raise SettlementFileInvalid(f"The list of movements was answered with {reply.status}.")
        return doc

    def read_event(self, headers: Mapping[str, str], body: bytes) -> RailEvent | None:
        """Check a webhook's signature and read it; None when it says nothing about an attempt.

        Raises: `RailEventInvalid`.
        """
        check_signature(
            headers, body, self._settings.webhook_secret.reveal(), now_s=self._clock.now().timestamp()
        )
        try:
            event = json.loads(body)
            return event_of(self._settings.name, event, event["data"]["object"])
        except (ValueError, KeyError, TypeError) as error:
            raise RailEventInvalid("The message is signed but cannot be read.") from error
