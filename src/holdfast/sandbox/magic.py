"""Cards, tokens, accounts and amounts that make a provider behave in a set way.

One table each; the documentation is checked against them.

Stripe's own test cards mean here what they mean there. The outage cards and amounts are this sandbox's own:
they act on the first request of an operation that carries them, and a repetition with the same key finds
what the first one did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.sandbox.faults import Kind


@dataclass(frozen=True, slots=True)
class Card:
    """How a card behaves.

    `decline_code` empty: it pays. `outage`: what happens to the request that confirms with it.
    """

    token: str
    number: str
    brand: str = "visa"
    code: str = ""
    decline_code: str = ""
    message: str = ""
    refund: str = "succeeded"
    needs_action: bool = False
    outage: Kind | None = None


def _with_check_digit(stem: str) -> str:
    """Append the Luhn digit (ISO/IEC 7812-1 annex B)."""
    total = 0
    for place, digit in enumerate(reversed(stem)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return stem + str(-total % 10)


OUTAGES: Final = (
    Kind.REFUSE,
    Kind.HANG,
    Kind.SLOW,
    Kind.RATE_LIMIT,
    Kind.BAD_KEY,
    Kind.ERROR_BEFORE,
    Kind.ERROR_AFTER,
    Kind.LOST,
    Kind.MUTE,
    Kind.WRONG_AMOUNT,
)
"""The failures that have a card and an amount of their own, in the order of their numbers."""

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
    *(
        Card(f"pm_card_outage_{kind.value}", _with_check_digit(f"4000009990000{number:02}"), outage=kind)
        for number, kind in enumerate(OUTAGES, 1)
    ),
)
CARDS_BY_TOKEN: Final = {card.token: card for card in CARDS} | {
    card.token.replace("_visa_chargeDeclined", "_chargeDeclined"): card for card in CARDS
}
CARDS_BY_NUMBER: Final = {card.number: card for card in CARDS}

AMOUNTS: Final[dict[int, Kind]] = {300_000 + number: kind for number, kind in enumerate(OUTAGES, 1)}
"""Amounts in minor units, 3000.01 to 3000.10, that fail when confirmed or initiated, whatever the card."""


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
