"""What payments refuse.

Refused
x PaymentNotFound           no such payment (for this caller)
x PaymentInvalid            what was asked for makes no sense
  x NoWayToPay              no rail serves any of the methods
x PaymentStateWrong         the payment is not in a state in which this can be done
x CaptureTooMuch            more than is held
x RefundTooMuch             more than is left of what was captured
x RefundNotFunded           the merchant's balance does not cover it
x KeyClaimed                the caller's idempotency key was taken already
x TransferRefused           not enough money, or an account that is not there
Unavailable
x PaymentBusy               somebody else is changing this payment right now
x BookingRefused            the ledger has no room for what a rail did
OutcomeUnknown
x BatchUnfinished           a part of a batch of transfers is made, the rest could not be
"""

from __future__ import annotations

from holdfast.base.errors import OutcomeUnknown, Refused, Unavailable


class PaymentNotFound(Refused):
    """There is no such payment."""

    code = "payment_not_found"


class PaymentInvalid(Refused):
    """The payment cannot be made as it was asked for."""

    code = "payment_invalid"


class NoWayToPay(PaymentInvalid):
    """None of the payer's methods can be used here. Offer another method."""

    code = "no_way_to_pay"


class PaymentStateWrong(Refused):
    """The payment is not in a state in which this can be done."""

    code = "payment_state_wrong"


class CaptureTooMuch(Refused):
    """More than what is held cannot be captured."""

    code = "capture_too_much"


class RefundTooMuch(Refused):
    """More than what is left of the captured amount cannot be refunded."""

    code = "refund_too_much"


class RefundNotFunded(Refused):
    """The merchant's balance does not cover this refund."""

    code = "refund_not_funded"


class KeyClaimed(Refused):
    """The idempotency key was used already. Nothing has changed."""

    code = "idempotency_key_claimed"


class TransferRefused(Refused):
    """The transfer was refused and nothing has moved."""

    code = "transfer_refused"


class PaymentBusy(Unavailable):
    """Somebody else is changing this payment right now.

    Nothing has moved by this request; try again shortly.
    """

    code = "payment_busy"


class BookingRefused(Unavailable):
    """The ledger did not take in what a provider did.

    Nothing has moved in the ledger; the payment stays as it is, is tried again, and a person is told.
    """

    code = "booking_refused"


class BatchUnfinished(OutcomeUnknown):
    """A part of the batch is made and the rest is not yet. Repeat it as it is: nothing is made twice."""

    code = "batch_unfinished"
