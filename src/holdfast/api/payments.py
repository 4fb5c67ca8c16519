"""`/v1/payments`: create, confirm, capture, cancel, show, list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Final

import msgspec
from litestar import Router, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Response

from holdfast.api import gate, views
from holdfast.api.context import Api, Reply, encode
from holdfast.api.errors import PROBLEM_TYPE, RequestInvalid, line_of
from holdfast.api.lists import LIMIT, After, Limit, cursor, page
from holdfast.api.once import InProgress, Ticket, Wish, claimed_first, once, ticket
from holdfast.api.responses import Call, OnceKey, api_of, body_of, called, send
from holdfast.api.strict import decode
from holdfast.api.wire import CaptureAsked, ConfirmAsked, Page, PaymentAsked, PaymentInFull, PaymentShown
from holdfast.base.errors import Refused
from holdfast.base.ids import InstrumentId, PayerId, PaymentId, parse, public
from holdfast.base.money import Money, asset
from holdfast.domains.instruments import (
    Instrument,
    InstrumentNotFound,
    Kind,
    PayerNotFound,
    Wallet,
    check_instrument,
)
from holdfast.domains.merchants import Caller, Right
from holdfast.domains.payments.errors import PaymentNotFound
from holdfast.domains.payments.model import Method, NewPayment, Payment, PaymentState
from holdfast.flows import pay
from holdfast.flows.explain import explain
from holdfast.platform.unit import Guard, Write

CREATE: Final = "POST /v1/payments"

_OPEN: Final = frozenset({PaymentState.PROCESSING.value, PaymentState.PENDING.value})


class PaymentFailed(Refused):
    """The payment failed: nothing was kept and nothing is under way."""

    code = "payment_failed"


class FailedPayment(msgspec.Struct, frozen=True):
    """The problem that tells of a failed payment, with the payment in it. `decline_code` says why."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    remedy: str
    decline_code: str
    payment: PaymentShown


def told(shown: PaymentShown, *, created: bool = False) -> Reply:
    """Return the answer to an act on a payment that tells how the payment stands now."""
    if shown.failure is not None:
        line = line_of(PaymentFailed())
        words = shown.failure.message or PaymentFailed().message
        failed = FailedPayment(
            PROBLEM_TYPE + PaymentFailed.code,
            line.title,
            line.status,
            PaymentFailed.code,
            words,
            line.remedy,
            shown.failure.code,
            shown,
        )
        return Reply(line.status, encode(failed))
    if shown.state in _OPEN and shown.next is not None:
        return Reply(202, encode(shown), retry_after_s=shown.next.ask_again_after_s)
    return Reply(201 if created else 200, encode(shown))


async def own_wallet(api: Api, caller: Caller, payer: str) -> Wallet:
    """Return the wallet of one of the caller's payers; somebody else's is as absent.

    Raises: `PayerNotFound`.
    """
    id_ = PayerId(parse("pyr", payer))
    instruments = api.app.instruments
    wallet = instruments.known(id_) or await instruments.wallet(id_)
    if wallet.payer.merchant != caller.merchant.id:
        raise PayerNotFound
    return wallet


def method(instrument: Instrument) -> Method:
    """Return an instrument as payments know it."""
    return Method(instrument.id, instrument.kind.value, instrument.label, instrument.token)


def chosen(wallet: Wallet, wanted: list[str]) -> tuple[Instrument, ...]:
    """Return the instruments that are `wanted`, in that order, or all in the payer's own.

    Raises: `InstrumentNotFound`.
    """
    if not wanted:
        return wallet.instruments
    held = {instrument.id: instrument for instrument in wallet.instruments}
    ids = dict.fromkeys(InstrumentId(parse("ins", text)) for text in wanted)
    if not ids.keys() <= held.keys():
        raise InstrumentNotFound
    return tuple(held[id_] for id_ in ids)


async def _whose(api: Api, caller: Caller, asked: PaymentAsked) -> tuple[PayerId | None, tuple[Method, ...]]:
    """Return who pays and by what.

    Raises: `RequestInvalid`, `PayerNotFound`, `InstrumentNotFound`; a guest's card number is refused as an
    instrument's is: `CardNumberRefused`, `InstrumentInvalid`.
    """
    payer, guest = asked.payer, asked.guest
    if (payer is None) == (guest is None):
        raise RequestInvalid("$: exactly one of `payer` and `guest` is needed.")
    if payer is not None:
        wallet = await own_wallet(api, caller, payer)
        return wallet.payer.id, tuple([method(i) for i in chosen(wallet, asked.methods)])
    if guest is None:
        return None, ()
    check_instrument(Kind(guest.kind), guest.label or guest.kind, guest.token)
    return None, (Method(InstrumentId(api.app.ids.new()), guest.kind, guest.label, guest.token),)


async def _wanted(api: Api, caller: Caller, asked: PaymentAsked) -> NewPayment:
    payer, methods = await _whose(api, caller, asked)
    merchant, amount = caller.merchant, asked.amount
    wait_s = asked.deadline_s or api.app.desk.settings.deadline_s
    return NewPayment(
        merchant.id,
        payer,
        Money(asset(amount.asset), amount.amount_minor),
        methods,
        asked.capture or merchant.rules.capture,
        asked.funding,
        api.now() + timedelta(seconds=wait_s),
        asked.reference,
        asked.description,
        asked.metadata,
        merchant.rules.allowed_kinds,
        merchant.rules.rail_order,
        merchant.live,
    )


class Kept:
    """Builds the writes that keep the answer, and gives that very answer when nothing came after it."""

    __slots__ = ("_api", "_caller", "_last", "_mine", "_version")

    def __init__(self, api: Api, caller: Caller, mine: Ticket) -> None:
        self._api = api
        self._caller = caller
        self._mine = mine
        self._last: Reply | None = None
        self._version = 0

    def __call__(self, payment: Payment) -> tuple[Write, ...]:
        """Return the writes for `payment` as the commit leaves it."""
        shown = views.payment(payment, live=self._caller.merchant.live, now=self._api.now())
        self._last = told(shown, created=True)
        self._version = payment.version
        return (self._mine.answer(self._last),)

    async def reply(self, made: Payment) -> Reply:
        """Return the answer for `made`."""
        if self._last is not None and self._version == made.version:
            return self._last
        return told(await standing(self._api, self._caller, made), created=True)


def resumed(api: Api, caller: Caller) -> Callable[[str, bool], Awaitable[Reply]]:
    """Return what tells how the payment stands that a key had begun, when no answer was kept."""

    async def resume(subject: str, stale: bool) -> Reply:
        found = await api.app.desk.book.payment(PaymentId(parse("pay", subject)))
        if found is None or (found.state is PaymentState.PROCESSING and not stale):
            raise InProgress
        return replace(told(await standing(api, caller, found), created=True), replayed=True)

    return resume


async def create(api: Api, authorization: str | None, key: str | None, body: bytes) -> Reply:
    """Carry out `POST /v1/payments`: the one way, whichever layer took the request."""
    caller = await api.caller(authorization, Right.MOVE_MONEY)
    held = ticket(caller, key, CREATE, body)
    asked = decode(body, PaymentAsked)
    id_ = PaymentId(api.app.ids.new())

    async def do(claim: Guard, mine: Ticket) -> Reply:
        wanted = await _wanted(api, caller, asked)
        kept = Kept(api, caller, mine)
        made = await pay.create(api.app.desk, wanted, id=id_, confirm=asked.confirm, claim=claim, answer=kept)
        return await kept.reply(made)

    return await once(api, held, public("pay", id_), Wish(do, resumed(api, caller)))


async def standing(api: Api, caller: Caller, payment: Payment) -> PaymentShown:
    """Show how `payment` stands, with other methods to offer while it is in doubt."""
    others: tuple[Instrument, ...] = ()
    if payment.state is PaymentState.PENDING and payment.asked.payer_id is not None:
        others = await api.app.untried(payment, await api.app.desk.book.attempts(payment.id))
    return views.payment(payment, live=caller.merchant.live, now=api.now(), others=others)


async def own_payment(api: Api, caller: Caller, text: str) -> Payment:
    """Return one of the caller's payments; somebody else's is as absent. Raises: `PaymentNotFound`."""
    found = await api.app.desk.book.payment(PaymentId(parse("pay", text)))
    if found is None or found.asked.merchant_id != caller.merchant.id:
        raise PaymentNotFound
    return found


@post(
    "/",
    status_code=201,
    summary="Make a payment",
    description=(
        "Carries the payment out (unless `confirm` is false) and tells how it stands: 201 when settled, "
        "202 when something is open (`next` says what happens), 402 when it failed: nothing was kept."
    ),
)
async def create_payment(
    request: Call, data: JSONBody[PaymentAsked], idempotency_key: OnceKey = None
) -> Response[PaymentShown]:
    """Make a payment.

    `gate.Gate` serves this path itself, by the same function; this is what the document shows.
    """
    del data
    return send(
        await create(api_of(request), request.headers.get("authorization"), idempotency_key, body_of(request))
    )


@get("/", summary="List payments, newest first")
async def list_payments(
    request: Call,
    limit: Limit = LIMIT,
    after: After = None,
    payment_state: Annotated[
        PaymentState | None, QueryParameter(name="state", description="Only those in it.")
    ] = None,
) -> Page[PaymentShown]:
    """List the caller's payments."""
    api, caller = await called(request, Right.READ)
    from_id = cursor("pay", after)
    rows = await api.app.desk.book.listing(
        caller.merchant.id,
        after=None if from_id is None else PaymentId(from_id),
        limit=limit + 1,
        state=payment_state,
    )
    now = api.now()
    return page(rows, limit, lambda row: views.payment(row, live=caller.merchant.live, now=now))


@get("/{payment_id:str}", summary="Show a payment")
async def show_payment(request: Call, payment_id: FromPath[str]) -> PaymentShown:
    """Show a payment as it stands.

    While it is in doubt, with other methods that could be offered to the payer.
    """
    api, caller = await called(request, Right.READ)
    return await standing(api, caller, await own_payment(api, caller, payment_id))


@get("/{payment_id:str}/story", summary="Show a payment with its attempts, journal and explanation")
async def show_story(request: Call, payment_id: FromPath[str]) -> PaymentInFull:
    """Show all that was tried for a payment, and why, in words."""
    api, caller = await called(request, Right.READ)
    payment = await own_payment(api, caller, payment_id)
    book = api.app.desk.book
    attempts = await book.attempts(payment.id)
    entries = await book.journal(payment.id)
    refunds = await book.refunds(payment.id)
    return PaymentInFull(
        await standing(api, caller, payment),
        [views.attempt(a) for a in attempts],
        [views.refund(r) for r in refunds],
        [views.journal(e) for e in entries],
        list(explain(payment, attempts, entries)),
    )


async def _act(
    request: Call,
    payment_id: str,
    key: str | None,
    act: Callable[[Api, PaymentId], Awaitable[Payment]],
    reached: frozenset[PaymentState],
) -> Response[PaymentShown]:
    """Carry out `act` once.

    When an earlier try was cut off, a state in `reached` says that it had been done.
    """
    api, caller = await called(request, Right.MOVE_MONEY)
    held = ticket(caller, key, f"POST {request.scope['path']}", body_of(request))
    payment = await own_payment(api, caller, payment_id)

    async def work(_: str, again: bool) -> Reply:
        if again:
            now = await own_payment(api, caller, payment_id)
            if now.state in reached:
                return told(await standing(api, caller, now))
        return told(await standing(api, caller, await act(api, payment.id)))

    return send(await once(api, held, payment_id, claimed_first(api, held, payment_id, work)))


@post("/{payment_id:str}/confirm", status_code=200, summary="Confirm a payment")
async def confirm_payment(
    request: Call,
    payment_id: FromPath[str],
    data: JSONBody[ConfirmAsked | None] = None,
    idempotency_key: OnceKey = None,
) -> Response[PaymentShown]:
    """Carry out a payment that was made with `confirm: false`, by its own methods or by those named here."""

    async def act(api: Api, id_: PaymentId) -> Payment:
        wanted = data.methods if data is not None else []
        return await pay.confirm(api.app.desk, id_, methods=await _renamed(request, payment_id, wanted))

    done = frozenset(PaymentState) - {PaymentState.REQUIRES_CONFIRMATION}
    return await _act(request, payment_id, idempotency_key, act, done)


async def _renamed(request: Call, payment_id: str, wanted: list[str]) -> tuple[Method, ...] | None:
    if not wanted:
        return None
    api, caller = await called(request, Right.MOVE_MONEY)
    payment = await own_payment(api, caller, payment_id)
    if payment.asked.payer_id is None:
        raise InstrumentNotFound
    wallet = await api.app.instruments.wallet(payment.asked.payer_id)
    return tuple(method(i) for i in chosen(wallet, wanted))


@post("/{payment_id:str}/capture", status_code=200, summary="Capture a held payment")
async def capture_payment(
    request: Call,
    payment_id: FromPath[str],
    data: JSONBody[CaptureAsked | None] = None,
    idempotency_key: OnceKey = None,
) -> Response[PaymentShown]:
    """Take what is held, all or `amount_minor` of it; the rest is released."""

    async def act(api: Api, id_: PaymentId) -> Payment:
        return await pay.capture(api.app.desk, id_, None if data is None else data.amount_minor)

    return await _act(request, payment_id, idempotency_key, act, frozenset({PaymentState.SUCCEEDED}))


@post("/{payment_id:str}/cancel", status_code=200, summary="Cancel a payment")
async def cancel_payment(
    request: Call, payment_id: FromPath[str], idempotency_key: OnceKey = None
) -> Response[PaymentShown]:
    """Cancel a payment that is not settled: what is held is released."""

    async def act(api: Api, id_: PaymentId) -> Payment:
        return await pay.cancel(api.app.desk, id_)

    return await _act(request, payment_id, idempotency_key, act, frozenset({PaymentState.CANCELED}))


async def serve(api: Api, request: gate.Request) -> Reply:
    """Carry out `POST /v1/payments` for the gate, which does not go through the framework."""
    key = request.header(b"idempotency-key")
    return await create(api, request.header(b"authorization"), key, request.body)


routes = Router(
    "/v1/payments",
    route_handlers=[
        create_payment,
        list_payments,
        show_payment,
        show_story,
        confirm_payment,
        capture_payment,
        cancel_payment,
    ],
    tags=["Payments"],
)
