"""Cards, tokens, accounts and amounts that make a provider behave in a set way.

One table each; the documentation is checked against them.

Stripe's own test cards mean here what they mean there. The outage cards and amounts are this sandbox's own.
Most act on the first request that confirms with them, and its repetition finds out what that one did; see
`Outage.repeats`. Those that spoil webhooks act on all webhooks of the payment and on no other's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.sandbox.faults import WEBHOOK_KINDS, Fault, Kind


def _with_check_digit(stem: str) -> str:
    """Append the Luhn digit (ISO/IEC 7812-1 annex B)."""
    total = 0
    for place, digit in enumerate(reversed(stem)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return stem + str(-total % 10)


@dataclass(frozen=True, slots=True)
class Outage:
    """A failure that a card and an amount ask for; both follow from its number.

    `repeats`: a repetition meets it again, drawn afresh. `share`: of the requests that ask for it.
    """

    number: int
    kind: Kind
    repeats: bool = False
    share: float = 1.0

    @property
    def token(self) -> str:
        """The card's token."""
        if self.kind in WEBHOOK_KINDS:
            return f"pm_card_webhook_{self.kind.value.removeprefix('webhook_')}"
        return f"pm_card_outage_{self.kind.value}"

    @property
    def card_number(self) -> str:
        """The card's number."""
        return _with_check_digit(f"4000009990000{self.number:02}")

    @property
    def amount_minor(self) -> int:
        """The amount, 3000.01 and up where a currency has two decimal places."""
        return 300_000 + self.number

    def fault(self, instance: str) -> Fault:
        """Return it as a fault of one payment; numbers below zero are not those of faults that are set."""
        status = 503 if self.kind is Kind.ERROR_BEFORE else 500
        return Fault(self.token, -self.number, instance, self.kind, self.share, status=status)


OUTAGES: Final = (
    Outage(1, Kind.REFUSE),
    Outage(2, Kind.HANG),
    Outage(3, Kind.SLOW),
    Outage(4, Kind.RATE_LIMIT),
    Outage(5, Kind.BAD_KEY),
    Outage(6, Kind.ERROR_BEFORE),
    Outage(7, Kind.ERROR_AFTER),
    Outage(8, Kind.LOST),
    Outage(9, Kind.MUTE),
    Outage(10, Kind.WRONG_AMOUNT),
    Outage(11, Kind.DARK, repeats=True),
    Outage(12, Kind.BROWNOUT, repeats=True, share=0.5),
    Outage(13, Kind.DECLINE, repeats=True),
    Outage(14, Kind.WEBHOOK_DUPLICATE),
    Outage(15, Kind.WEBHOOK_REORDER),
    Outage(16, Kind.WEBHOOK_DELAY),
    Outage(17, Kind.WEBHOOK_DROP),
    Outage(18, Kind.BAD_SIGNATURE),
)
"""Every kind of failure once; the cards, the amounts, the documentation and the page follow this table."""


@dataclass(frozen=True, slots=True)
class Card:
    """How a card behaves.

    `decline_code` empty: it pays. `outage`: what happens to a payment that is confirmed with it.
    """

    token: str
    number: str
    brand: str = "visa"
    code: str = ""
    decline_code: str = ""
    message: str = ""
    refund: str = "succeeded"
    needs_action: bool = False
    outage: Outage | None = None


_DECLINED: Final = "Your card was declined."
_SHOPPING: Final = (
    Card("pm_card_visa", "4242424242424242"),
    Card("pm_card_visa_debit", "4000056655665556"),
    Card("pm_card_mastercard", "5555555555554444", "mastercard"),
    Card("pm_card_amex", "378282246310005", "amex"),
    Card("pm_card_unionpay", "6200000000000005", "unionpay"),
    Card("pm_card_jcb", "3566002020360505", "jcb"),
    Card("pm_card_pendingRefund", "4000000000007726", refund="pending"),
    Card("pm_card_refundFail", "4000000000005126", refund="failed"),
    Card("pm_card_authenticationRequired", "4000002500003155", needs_action=True),
)
_REFUSED: Final = (
    ("chargeDeclined", "4000000000000002", "card_declined", "generic_decline", _DECLINED),
    ("chargeDeclinedInsufficientFunds", "4000000000009995", "card_declined", "insufficient_funds",
     "Your card has insufficient funds."),
    ("chargeDeclinedLostCard", "4000000000009987", "card_declined", "lost_card", _DECLINED),
    ("chargeDeclinedStolenCard", "4000000000009979", "card_declined", "stolen_card", _DECLINED),
    ("chargeDeclinedExpiredCard", "4000000000000069", "expired_card", "expired_card", "Your card expired."),
    ("chargeDeclinedIncorrectCvc", "4000000000000127", "incorrect_cvc", "incorrect_cvc",
     "The security code is wrong."),
    ("chargeDeclinedProcessingError", "4000000000000119", "processing_error", "processing_error",
     "Your card could not be processed just now."),
    ("chargeDeclinedFraudulent", "4100000000000019", "card_declined", "fraudulent", _DECLINED),
    ("chargeDeclinedVelocityLimitExceeded", "4000000000006975", "card_declined", "card_velocity_exceeded",
     "Your card was used too often or above its limit."),
)  # fmt: skip

CARDS: Final[tuple[Card, ...]] = (
    *_SHOPPING,
    *(Card("pm_card_visa_" + n, number, "visa", code, why, text) for n, number, code, why, text in _REFUSED),
    *(Card(outage.token, outage.card_number, outage=outage) for outage in OUTAGES),
)
CARDS_BY_TOKEN: Final = {card.token: card for card in CARDS} | {
    card.token.replace("_visa_chargeDeclined", "_chargeDeclined"): card for card in CARDS
}
CARDS_BY_NUMBER: Final = {card.number: card for card in CARDS}

AMOUNTS: Final[dict[int, Outage]] = {outage.amount_minor: outage for outage in OUTAGES}
"""Amounts in minor units that fail when confirmed or initiated, whatever the card."""


def outages_of(token: str, amount_minor: object) -> tuple[Outage, ...]:
    """Return what a card (its token; empty: none) and an amount ask for. They add up."""
    card = CARDS_BY_TOKEN.get(token)
    by_card = None if card is None else card.outage
    by_amount = AMOUNTS.get(amount_minor) if type(amount_minor) is int else None
    return tuple(dict.fromkeys(one for one in (by_card, by_amount) if one is not None))


@dataclass(frozen=True, slots=True)
class Account:
    """How a payer's bank account at `harbour` behaves.

    The ISO 20022 reason it is rejected with, if any, or its pace.
    """

    number: str
    reason: str = ""
    message: str = ""
    pace: float = 1.0
    """Factor on the usual time to confirm; 0 confirms never (the transfer expires)."""


ACCOUNTS: Final[dict[str, Account]] = {
    account.number: account
    for account in (
        Account("HB-0001-OK"),
        Account("HB-0002-FAST", pace=0.1),
        Account("HB-0003-SLOW", pace=4.0),
        Account("HB-0004-NEVER", pace=0.0),
        Account("HB-0010-NOFUNDS", "AM04", "The account has insufficient funds."),
        Account("HB-0011-CLOSED", "AC04", "The account is closed."),
        Account("HB-0012-BLOCKED", "AC06", "The account is blocked."),
        Account("HB-0013-LIMIT", "AM02", "The amount is above the account's limit."),
        Account("HB-0014-UNSAID", "MS03", "The bank gives no reason."),
    )
}
"""Any other account number that begins with `HB-` behaves as HB-0001-OK."""
