"""What a page calls each state, in plain words. Complete by test; doubt is never called failure.

Tones choose colour and mark, never meaning alone: every tone comes with its words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.domains.payments.model import AttemptState, PaymentState
from holdfast.web.locale import N_


@dataclass(frozen=True, slots=True)
class Said:
    """A state for people. `tone`: busy, doubt, held, kept, gone or refused. `%(rail)s` is filled in later."""

    tone: str
    label: str
    sentence: str


ATTEMPTS: Final[dict[AttemptState, Said]] = {
    AttemptState.SENDING: Said("busy", N_("sending"), N_("The request is on its way to %(rail)s.")),
    AttemptState.UNKNOWN: Said(
        "doubt",
        N_("no answer yet"),
        N_("%(rail)s may have taken the money or not. Nobody counts this as failed; we keep asking."),
    ),
    AttemptState.PENDING: Said(
        "doubt", N_("accepted, confirms later"), N_("%(rail)s has it and will confirm by itself.")
    ),
    AttemptState.AUTHORIZED: Said(
        "held", N_("held"), N_("%(rail)s holds the amount. Nothing has left you yet.")
    ),
    AttemptState.CAPTURING: Said(
        "held", N_("collecting"), N_("The held amount is being collected at %(rail)s.")
    ),
    AttemptState.CAPTURED: Said("kept", N_("charged"), N_("%(rail)s has charged you.")),
    AttemptState.CANCELING: Said(
        "doubt",
        N_("closing it off"),
        N_("We are making sure that %(rail)s can no longer charge for this try."),
    ),
    AttemptState.CANCELED: Said(
        "gone", N_("closed off, no charge"), N_("%(rail)s has confirmed: this try can no longer charge you.")
    ),
    AttemptState.DECLINED: Said("refused", N_("declined"), N_("%(rail)s said no. Nothing was taken there.")),
    AttemptState.NOT_SENT: Said(
        "gone", N_("not taken, no charge"), N_("%(rail)s did not take the request, so it cannot charge.")
    ),
    AttemptState.RETURNING: Said(
        "doubt", N_("giving it back"), N_("%(rail)s charged too late; the money is on its way back to you.")
    ),
    AttemptState.RETURNED: Said(
        "gone", N_("given back"), N_("%(rail)s charged too late and gave all of it back.")
    ),
}
"""Each state of an attempt."""

PAYMENTS: Final[dict[PaymentState, Said]] = {
    PaymentState.REQUIRES_CONFIRMATION: Said("busy", N_("Ready to pay"), N_("Nothing has been charged.")),
    PaymentState.PROCESSING: Said("busy", N_("Paying…"), N_("This page follows by itself.")),
    PaymentState.PENDING: Said(
        "doubt",
        N_("Still finding out"),
        N_("No provider has given a final answer. Do not pay again: it ends by itself and charges once."),
    ),
    PaymentState.AUTHORIZED: Said(
        "held", N_("Held for you"), N_("The amount is held, not taken. The shop collects it when it ships.")
    ),
    PaymentState.SUCCEEDED: Said("kept", N_("Paid"), N_("The shop has its money.")),
    PaymentState.FAILED: Said("refused", N_("Not paid"), N_("Nothing was kept, and nothing is on its way.")),
    PaymentState.CANCELED: Said("gone", N_("Called off"), N_("Nothing was kept, and nothing is on its way.")),
}
"""Each state of a payment."""

BALANCE: Final[dict[AttemptState, str]] = {
    AttemptState.CAPTURED: N_("Paid from your balance."),
    AttemptState.DECLINED: N_("Your balance does not cover it. Nothing was taken."),
}
"""What is said of the wallet's own balance, which is no provider."""

UNDOING: Final = Said(
    "doubt",
    N_("Being undone"),
    N_("Nothing new is started for this payment. Whatever a provider still charges for it goes back to you."),
)
"""A payment that was cancelled while something was in doubt."""

LEGEND: Final[dict[str, str]] = {
    "busy": N_("asked"),
    "doubt": N_("in doubt"),
    "held": N_("amount held"),
    "kept": N_("charged"),
    "gone": N_("over, no charge"),
    "refused": N_("declined"),
}
"""What the colours of the bars mean."""

WAITING: Final = Said(
    "doubt",
    N_("no answer so far"),
    N_("%(rail)s is taking long to answer. If it stays silent, another way is next."),
)
"""An attempt that was sent a while ago and is not given up yet."""

ASKING_ON: Final = N_(
    "No answer so far from %(rails)s. We keep asking, and only one can charge. If this stays in doubt, "
    "you may choose another way here."
)
WAITED_FOR: Final = N_(
    "No final answer so far from %(rails)s. Do not pay again: this ends by itself and charges once at most."
)
AND: Final = N_("%(first)s and %(last)s")
CARRYING_ON: Final = N_("%(rail)s does not answer. Carrying on without waiting for it.")
PAID_AROUND: Final = N_("%(rail)s did not come through, so another way paid. You were charged once.")
PAID_PAST: Final = N_("%(rail)s has not been answering lately, so another way paid at once.")
PAID_STRAY: Final = N_("%(rail)s is still silent. Whatever turns up there goes back to you by itself.")

RAILS: Final[dict[str, str]] = {
    "north": N_("North"),
    "south": N_("South"),
    "harbour": N_("Harbour"),
    "book": N_("Your balance"),
}
"""Names of the rails that this page knows; any other rail is called by its own name."""

METHOD_KINDS: Final[dict[str, str]] = {
    "card": N_("card"),
    "bank": N_("bank transfer"),
    "balance": N_("wallet balance"),
}

DEMONSTRATION: Final = (
    N_("Tidepool Tea"),
    N_("Visa ending 4242"),
    N_("UnionPay ending 0005"),
    N_("Wallet balance"),
    N_("Bank account"),
)
"""What the demonstration data names, so that its names are translated too."""
