"""A payment in plain sentences, for payers, merchants and whoever supports them.

Everything comes from its own journal.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.domains.payments.model import Attempt, AttemptState, JournalEntry, Payment, PaymentState

_ENDINGS = {
    PaymentState.REQUIRES_CONFIRMATION: "It waits to be confirmed. Nothing was started.",
    PaymentState.PROCESSING: "It is being carried out right now.",
    PaymentState.PENDING: "It is not decided yet. It ends by itself, and nothing is charged twice.",
    PaymentState.AUTHORIZED: "The money is held and waits for the merchant.",
    PaymentState.CANCELED: "It was canceled, and nothing was kept.",
}


def explain(payment: Payment, attempts: Sequence[Attempt], journal: Sequence[JournalEntry]) -> list[str]:
    """Return what happened, in order, one sentence each, and how it stands now last."""
    start = payment.created_at
    sentences = []
    for entry in journal:
        seconds = (entry.at - start).total_seconds()
        words = entry.words[:1].upper() + entry.words[1:]
        sentences.append(f"After {seconds:.1f} s: {words}" + ("" if words.endswith(".") else "."))
    return [*sentences, _ending(payment, attempts)]


def _ending(payment: Payment, attempts: Sequence[Attempt]) -> str:
    left = [a for a in attempts if a.id != payment.kept and a.state in _LEFT]
    more = f" {_rails(left)} still to be released or given back; that happens by itself." if left else ""
    if payment.state is PaymentState.SUCCEEDED:
        back = (
            f", of which {payment.refunded_minor} minor units were refunded" if payment.refunded_minor else ""
        )
        return f"It succeeded: {payment.asked.amount} asked, charged once{back}.{more}"
    if payment.state is PaymentState.FAILED:
        return f"It failed, and nothing was kept: {payment.failure_message or payment.failure_code}{more}"
    return _ENDINGS[payment.state] + more


_LEFT = frozenset(AttemptState) - {
    AttemptState.DECLINED,
    AttemptState.NOT_SENT,
    AttemptState.CANCELED,
    AttemptState.RETURNED,
}


def _rails(attempts: Sequence[Attempt]) -> str:
    names = sorted({attempt.rail for attempt in attempts})
    verb = "has something" if len(names) == 1 else "have something"
    return f"{' and '.join(names)} {verb}"
