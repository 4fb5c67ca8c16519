"""Why a payment went the way it went: its journal, line by line, in the reader's language.

The journal keeps each line in English with the facts that it is made from; here the same facts are told in
the language of the page. A line whose facts are not known here is shown as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from holdfast.base.ids import AttemptId
from holdfast.domains.payments.model import Attempt, AttemptState, JournalEntry, Payment
from holdfast.domains.payments.ports import Op, Said
from holdfast.web.locale import N_, Language
from holdfast.web.view import OWN_BALANCE, rail_name

SENT: Final[dict[Op, str]] = {
    Op.AUTHORIZE: N_("Ask %(rail)s to hold the amount."),
    Op.CAPTURE: N_("The amount is held and nothing else can charge: collect it at %(rail)s."),
    Op.CANCEL: N_("Close off the try at %(rail)s, so that it can no longer charge."),
    Op.REFUND: N_("%(rail)s charged what is not kept: ask it to give the money back."),
    Op.QUERY: N_("Ask %(rail)s what became of it."),
}
AGAIN: Final = N_("Ask %(rail)s again with the same key: it charges once at most.")
AROUND: Final = N_("%(silent)s has not answered. Go on with %(rail)s, in a way that can never charge twice.")

HEARD: Final[dict[Said, str]] = {
    Said.AUTHORIZED: N_("%(rail)s holds the amount."),
    Said.CAPTURED: N_("%(rail)s has charged."),
    Said.DECLINED: N_("%(rail)s said no."),
    Said.NOT_SENT: N_("%(rail)s could not be reached: nothing was sent."),
    Said.NOT_DONE: N_("%(rail)s did not take the request: nothing was done there."),
    Said.PENDING: N_("%(rail)s has it and has not decided."),
    Said.NOT_FOUND: N_(
        "%(rail)s knows of no such payment, which proves nothing while the request may be under way."
    ),
    Said.CANCELED: N_("%(rail)s can no longer charge for it."),
    Said.REFUNDED: N_("%(rail)s gave the money back."),
    Said.UNKNOWN: N_("%(rail)s has not answered: it may have happened."),
}

HAPPENED: Final[dict[str, str]] = {
    "created": N_("Opened. Nothing is charged before the payer confirms."),
    "paid_from_balance": N_("Paid from the wallet balance."),
    "succeeded": N_("The charge at %(rail)s stands, and the shop is paid."),
    "held": N_("%(rail)s holds the amount until the shop collects it."),
    "late_money": N_(
        "What %(rail)s charged is set aside for the payer until it is clear whether it is kept."
    ),
    "given_back": N_("%(rail)s gave the money back."),
    "pending": N_("It is not decided yet. It ends by itself."),
    "failed": N_("No way of paying came through. Nothing is kept."),
    "cancel_asked": N_("It is to be cancelled: nothing new is started."),
    "canceled": N_("Called off. Nothing is kept."),
    "alert": N_("This has been in doubt for longer than promised. A person looks at it."),
}
PASSED_OVER: Final = N_("%(rail)s has not been answering lately, so it is passed over for now.")
PLAN: Final = N_("The plan: %(ways)s.")
NOT_ENOUGH: Final = N_("The balance does not cover it.")
WAY: Final = N_("%(method)s at %(rail)s")


@dataclass(frozen=True, slots=True)
class Line:
    """One line: when, how long after the beginning, and what in words."""

    at: datetime
    after_s: float
    words: str


@dataclass(slots=True)
class _Reader:
    """Goes through a journal in order and remembers who is silent and who was asked before."""

    payment: Payment
    attempts: dict[AttemptId, Attempt]
    language: Language
    silent: dict[AttemptId, str] = field(default_factory=dict)
    asked: set[AttemptId] = field(default_factory=set)
    heard: dict[AttemptId, object] = field(default_factory=dict)

    def nothing_new(self, entry: JournalEntry) -> bool:
        """Tell whether a line only repeats what the rail was heard to say last."""
        if entry.attempt_id is None or entry.event not in ("answer", "told"):
            return False
        said = entry.facts.get("said")
        before = self.heard.get(entry.attempt_id)
        self.heard[entry.attempt_id] = said
        return entry.event == "told" and said == before

    def words(self, entry: JournalEntry) -> str:
        """Return what a line says."""
        attempt = None if entry.attempt_id is None else self.attempts.get(entry.attempt_id)
        if entry.event == "plan":
            return self.language.say(PLAN, ways=self._ways())
        if entry.event == "passed_over":
            return self.language.say(PASSED_OVER, rail=rail_name(str(entry.facts["rail"]), self.language))
        if attempt is None:
            return self.language.say(HAPPENED.get(entry.event, entry.words))
        rail = rail_name(attempt.rail, self.language)
        if entry.event == "send" and entry.op is not None:
            return self._sent(attempt.id, entry.op, rail)
        if entry.event in ("answer", "told"):
            return self._heard(attempt.id, entry, rail)
        known = HAPPENED.get(entry.event)
        return entry.words if known is None else self.language.say(known, rail=rail)

    def _ways(self) -> str:
        steps = self.payment.plan
        named = [
            self.language.say(step.method.label)
            if step.rail == OWN_BALANCE
            else self.language.say(
                WAY, method=self.language.say(step.method.label), rail=rail_name(step.rail, self.language)
            )
            for step in steps
        ]
        return self.language.say(N_(", then ")).join(named)

    def _sent(self, attempt: AttemptId, op: Op, rail: str) -> str:
        first = attempt not in self.asked
        self.asked.add(attempt)
        others = [name for id_, name in self.silent.items() if id_ != attempt]
        if op is Op.AUTHORIZE and not first:
            return self.language.say(AGAIN, rail=rail)
        if op is Op.AUTHORIZE and others:
            return self.language.say(AROUND, rail=rail, silent=others[0])
        return self.language.say(SENT[op], rail=rail)

    def _heard(self, attempt: AttemptId, entry: JournalEntry, rail: str) -> str:
        said, state = entry.facts.get("said"), entry.facts.get("state")
        if state in (AttemptState.UNKNOWN, AttemptState.CANCELING):
            self.silent[attempt] = rail
        else:
            self.silent.pop(attempt, None)
        if said is None and self.attempts[attempt].rail == OWN_BALANCE:
            return self.language.say(NOT_ENOUGH)
        known = next((words for one, words in HEARD.items() if one == said), None)
        return entry.words if known is None else self.language.say(known, rail=rail)


def explained(
    payment: Payment, attempts: Sequence[Attempt], journal: Sequence[JournalEntry], language: Language
) -> tuple[Line, ...]:
    """Return the journal as lines to read, oldest first; messages that repeat an answer are left out."""
    reader = _Reader(payment, {one.id: one for one in attempts}, language)
    begin = payment.created_at
    return tuple(
        Line(entry.at, max(0.0, (entry.at - begin).total_seconds()), reader.words(entry))
        for entry in journal
        if not reader.nothing_new(entry)
    )
