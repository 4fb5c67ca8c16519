"""Another way to pay, as the payer's own choice, while a payment is in doubt (protocol rule R6).

The first payment is cancelled, durably, before anything else is opened: from then on it starts nothing new
and keeps nothing, so two charges can never be kept. The payment that takes its place carries the first one's
number as its idempotency key: a payment has one successor at most, however often and on however many pages a
button is pressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.base.ids import IdInvalid, PaymentId, parse, public
from holdfast.boot import App
from holdfast.domains.instruments import Instrument
from holdfast.domains.payments.errors import KeyClaimed, PaymentNotFound
from holdfast.domains.payments.model import Attempt, Method, Payment, PaymentState, changed
from holdfast.flows import demo, pay
from holdfast.platform import idempotency
from holdfast.web.locale import N_, Language

FIRST: Final = "instead_of"
"""In the metadata of a successor: the payment that it takes the place of."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A button: cancel this payment and pay with `id` instead."""

    id: str
    words: str


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be known of another payment, with the way there."""

    words: str
    link: str
    path: str


@dataclass(frozen=True, slots=True)
class Around:
    """What a payment's page shows around its story."""

    notes: tuple[Note, ...]
    offers: tuple[Offer, ...]


async def around(app: App, payment: Payment, attempts: Sequence[Attempt], language: Language) -> Around:
    """Return what to show around a payment: its predecessor and successor, and other ways to pay."""
    before, after = await _predecessor(app, payment), await _successor_note(app, payment, language)
    notes = [_first(before, language)] if before is not None else []
    if after is not None:
        return Around((*notes, after), ())
    others = await app.untried(payment, attempts) if payment.state is PaymentState.PENDING else ()
    return Around(tuple(notes), tuple(_offer(one, payment, language) for one in others))


def _offer(instrument: Instrument, payment: Payment, language: Language) -> Offer:
    words = N_("Pay with %(method)s") if payment.cancel_asked else N_("Cancel it and pay with %(method)s")
    return Offer(public("ins", instrument.id), language.say(words, method=language.say(instrument.label)))


async def _predecessor(app: App, payment: Payment) -> Payment | None:
    named = payment.asked.metadata.get(FIRST)
    if named is None:
        return None
    try:
        found = await app.book.payment(PaymentId(parse("pay", named)))
    except IdInvalid:
        return None
    # A merchant may have written anything into the metadata: the claim tells which payment it really was.
    genuine = found is not None and await successor(app, found.id) == payment.id
    return found if genuine else None


def _first(payment: Payment, language: Language) -> Note:
    if payment.final:
        words = N_("Your first payment was undone: nothing of it was kept.")
    else:
        words = N_("Your first payment is being undone. Whatever is still charged for it goes back to you.")
    return Note(language.say(words), language.say(N_("See the first payment")), _path(payment.id))


async def _successor_note(app: App, payment: Payment, language: Language) -> Note | None:
    if not payment.cancel_asked and payment.state is not PaymentState.CANCELED:
        return None
    found = await successor(app, payment.id)
    if found is None:
        return None
    words = N_("You chose to pay another way instead.")
    return Note(language.say(words), language.say(N_("See the payment that counts")), _path(found))


def _path(payment: PaymentId) -> str:
    return f"/checkout/{public('pay', payment)}"


def _key(first: PaymentId) -> str:
    return f"instead of {public('pay', first)}"


async def successor(app: App, first: PaymentId) -> PaymentId | None:
    """Return the payment that takes the place of `first`, if there is one."""
    found = await idempotency.find(app.database, demo.CHECKOUT_CALLER, _key(first))
    return None if found is None else PaymentId(parse("pay", found.subject))


async def open_successor(app: App, first: Payment, chosen: Instrument) -> PaymentId:
    """Open the payment that takes the place of `first`, which must have been cancelled; return its id.

    Where there is one already, that is returned. Raises: what opening a payment raises.
    """
    number = public("pay", first.id)
    method = Method(chosen.id, chosen.kind.value, chosen.label, chosen.token)
    asked = changed(first.asked, methods=(method,), metadata={FIRST: number}, deadline_at=None)
    id_ = PaymentId(app.ids.new())
    fingerprint = idempotency.fingerprint("instead", number.encode())
    claim = idempotency.claim(
        demo.CHECKOUT_CALLER, _key(first.id), fingerprint, public("pay", id_), app.clock.now()
    )
    try:
        return (await pay.create(app.desk, asked, confirm=False, claim=claim, id=id_)).id
    except KeyClaimed:
        found = await successor(app, first.id)
        if found is None:
            raise PaymentNotFound from None
        return found
