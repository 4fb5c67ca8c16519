"""One change of one payment in the making: what is to be written, moved and announced together.

A draft holds the case as it will be. `commit` puts everything into one unit that names the version on which
it was made; when somebody else was faster nothing happens, and whoever made the draft reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from holdfast.base.ids import AttemptId, EventId, PayerId, RefundId, TransferId, public
from holdfast.domains.ledger.model import NewTransfer, TransferKind, Unit, UnitOutcome
from holdfast.domains.payments import store
from holdfast.domains.payments.model import (
    Attempt,
    CaptureToken,
    Case,
    JournalEntry,
    Op,
    Payment,
    Refund,
    SendRecord,
    changed,
)
from holdfast.flows import chart
from holdfast.flows.desk import Desk
from holdfast.platform.outbox import Event, announce
from holdfast.platform.unit import Guard, Write

Answer = Callable[[Case], tuple[Write, ...]]
"""Builds the writes that keep a caller's answer, from the case as the unit leaves it."""


class Draft:
    """A change in the making. `case` is as it will be; `dirty` says whether there is anything to commit."""

    __slots__ = (
        "_attempts",
        "_desk",
        "_events",
        "_fields",
        "_fresh",
        "_lines",
        "_refunds",
        "_replan",
        "_sends",
        "_token",
        "answer",
        "case",
        "guarded",
        "guards",
        "now",
        "opening",
        "transfers",
        "writes",
    )

    def __init__(self, desk: Desk, case: Case, *, fresh: bool = False) -> None:
        self._desk = desk
        self.case = case
        self.now: datetime = desk.clock.now()
        self._fresh = fresh
        self.answer: Answer | None = None
        self.guards: list[Guard] = []
        self.guarded = True
        self.opening: Write | None = None
        """Set when the commit opens the payment and has the balance pay it: how it would only open."""
        self._start()

    def _start(self) -> None:
        self._fields: dict[str, Any] = {}
        self._attempts: set[int] = set()
        self._refunds: dict[RefundId, Refund] = {}
        self._lines: list[tuple[AttemptId | None, Op | None, str, str, dict[str, object]]] = []
        self._sends: list[SendRecord] = []
        self._token = False
        self._replan = False
        self._events: list[tuple[str, str, dict[str, object]]] = []
        self.transfers: list[NewTransfer] = []
        self.writes: list[Write] = []

    @property
    def dirty(self) -> bool:
        """Whether something was learned or decided that is not durable yet."""
        return bool(
            self._fresh or self._fields or self._attempts or self._lines or self.writes or self._refunds
        )

    def set(self, **fields: Any) -> None:  # noqa: ANN401 - the payment's own fields
        """Change fields of the payment, with the commit."""
        self._fields.update(fields)

    def replan(self, payment: Payment) -> None:
        """Take the methods, plan and deadline of `payment`."""
        self.case.payment = payment
        self._replan = True

    def put(self, attempt: Attempt) -> None:
        """Add an attempt, or replace it."""
        attempts = self.case.attempts
        if attempt.seq < len(attempts):
            attempts[attempt.seq] = attempt
        else:
            attempts.append(attempt)
        self._attempts.add(attempt.seq)

    def put_refund(self, refund: Refund) -> None:
        """Add a refund, or replace it."""
        refunds = self.case.refunds
        for i, each in enumerate(refunds):
            if each.id == refund.id:
                refunds[i] = refund
                break
        else:
            refunds.append(refund)
        self._refunds[refund.id] = refund

    def take_token(self, attempt: AttemptId) -> int:
        """Give the capture token to `attempt`, in a new epoch unless it holds it already.

        Return the epoch.
        """
        token = self.case.token
        if token.holder != attempt:
            self.case.token = CaptureToken(token.epoch + 1, attempt)
            self._token = True
        return self.case.token.epoch

    def free_token(self) -> None:
        """Leave the token to whoever comes next."""
        if self.case.token.holder is not None:
            self.case.token = CaptureToken(self.case.token.epoch, None)
            self._token = True

    def note(
        self, event: str, words: str, attempt: Attempt | None = None, op: Op | None = None, **facts: object
    ) -> None:
        """Add a line to the journal."""
        self._lines.append((None if attempt is None else attempt.id, op, event, words, facts))

    def record(self, send: SendRecord) -> None:
        """Record a request that is about to be sent."""
        self._sends.append(send)

    def announce(self, type: str, subject: str | None = None, **facts: object) -> None:  # noqa: A002 - the field's own word
        """Announce an event with the commit; its subject is the payment unless another is named."""
        self._events.append((type, subject or "", facts))

    def get(self, name: str) -> Any:  # noqa: ANN401 - the payment's own field
        """Return a field of the payment as the commit will leave it."""
        return self._fields[name] if name in self._fields else getattr(self.case.payment, name)

    def move(
        self,
        id: TransferId,  # noqa: A002 - the field's own word
        debit: str,
        credit: str,
        amount_minor: int | None,
        kind: TransferKind = "posted",
        pending_id: TransferId | None = None,
    ) -> None:
        """Add a transfer between two accounts, named by code; all transfers of a draft happen, or none."""
        asset = self.case.payment.asked.amount.asset.code
        transfer = NewTransfer(
            id, chart.number(debit), chart.number(credit), asset, amount_minor, kind, pending_id
        )
        self.transfers.append(transfer)

    @property
    def fresh(self) -> bool:
        """Whether the payment is not open yet: the commit opens it."""
        return self._fresh

    def restart(self, payment: Payment) -> None:
        """Begin anew from `payment`, which was opened by a refused unit's own writes."""
        self.case = Case(payment, [], CaptureToken())
        self._fresh = False
        self.answer = None
        self.opening = None
        self.guards = []
        self._start()

    async def commit(self, *, if_refused: tuple[Write, ...] = ()) -> UnitOutcome:
        """Commit everything in one unit and begin anew.

        On `conflict` the draft is spent: read the case again.

        `if_refused` is written instead when the ledger refuses a transfer.

        Raises: `Unavailable` (nothing has happened), `OutcomeUnknown`.
        """
        before = self.case.payment
        fields = self._fields
        fields["version"] = before.version + (not self._fresh)
        fields["updated_at"] = self.now
        fields["lines"] = before.lines + len(self._lines)
        payment = changed(before, **fields)
        guards = tuple(self.guards)
        if not self._fresh and self.guarded:
            guards = (store.version_guard(payment.id, before.version), *guards)
        outcome = await self._desk.lane.submit(
            Unit(tuple(self.transfers), tuple(self._rows(payment)), if_refused, guards)
        )
        if outcome.status == "committed":
            self.case.payment = payment
            self._tell_alerts()
            self._fresh = False
            self.opening = None
            self.guards = []
            self._start()
        return outcome

    def _tell_alerts(self) -> None:
        """Tell operators, too, of what a person should look at."""
        for _, _, event, words, _ in self._lines:
            if event == "alert":
                self._desk.alert("payment", self.case.payment.id, words)

    def _rows(self, payment: Payment) -> list[Write]:
        rows = self._changes(payment) if self.opening is None else self._at_once(payment, self.opening)
        rows += [announce(event) for event in self._made_events(payment)]
        rows += self.writes
        if self.answer is not None:
            rows += self.answer(Case(payment, self.case.attempts, self.case.token, self.case.refunds))
        return rows

    def _at_once(self, payment: Payment, opening: Write) -> list[Write]:
        (entry,) = self._entries(payment)
        return list(self._desk.writer.pay_at_once(opening, payment, self.case.attempts[0], entry))

    def _changes(self, payment: Payment) -> list[Write]:
        writer = self._desk.writer
        rows = [writer.open_payment(payment) if self._fresh else writer.save_payment(payment)]
        if self._replan:
            rows.append(writer.save_plan(payment))
        rows += [writer.save_attempt(a) for a in self.case.attempts if a.seq in self._attempts]
        if self._token:
            rows.append(store.save_token(payment.id, self.case.token))
        rows += [writer.save_refund(refund) for refund in self._refunds.values()]
        rows += writer.add_history(self._sends, self._entries(payment))
        return rows

    def _entries(self, payment: Payment) -> Iterator[JournalEntry]:
        position = payment.lines - len(self._lines)
        for attempt, op, event, words, facts in self._lines:
            yield JournalEntry(payment.id, position, self.now, attempt, op, event, words, facts)
            position += 1

    def _made_events(self, payment: Payment) -> list[Event]:
        asked, ids = payment.asked, self._desk.ids
        if not self._events:
            return []
        facts = event_facts(payment)
        return [
            Event(
                EventId(ids.new()),
                type_,
                asked.merchant_id,
                subject or public("pay", payment.id),
                facts | more,
                self.now,
            )
            for type_, subject, more in self._events
        ]


def event_facts(payment: Payment) -> dict[str, object]:
    """Return what an event of a payment tells: never more than the merchant may see."""
    asked = payment.asked
    return {
        "payment": public("pay", payment.id),
        "state": payment.state.value,
        "asset": asked.amount.asset.code,
        "amount_minor": asked.amount.amount_minor,
        "captured_minor": payment.captured_minor,
        "refunded_minor": payment.refunded_minor,
        "reference": asked.reference,
        "failure_code": payment.failure_code,
    }


def payer_account(payer: PayerId | None, asset: str) -> str:
    """Return the code of a payer's account. The payer must be known."""
    return chart.payer(payer, asset).code if payer is not None else chart.in_doubt(asset).code
