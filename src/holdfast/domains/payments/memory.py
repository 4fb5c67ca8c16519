"""The payments book in memory, behind the same units: for simulations, drills and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from heapq import heappop, heappush
from typing import Any, Protocol
from uuid import UUID

from holdfast.base.ids import MerchantId, PaymentId, RefundId
from holdfast.domains.payments import store
from holdfast.domains.payments import store_rows as rows
from holdfast.domains.payments.model import (
    Attempt,
    Case,
    JournalEntry,
    Payment,
    PaymentState,
    Refund,
    SendRecord,
    changed,
)
from holdfast.platform.unit import Write

Row = tuple[Any, ...]


class Lane(Protocol):
    """What a commit lane in memory offers to stores: a handler per statement."""

    def register(self, name: str, apply: Callable[[Row], None]) -> None:
        """Call `apply` with each row written by the statement `name`."""
        ...

    def register_guard(self, name: str, apply: Callable[[Row], bool], /) -> None:
        """Ask `apply` whether the guard by the statement `name` holds for a row.

        One that claims also takes.
        """
        ...


class Values:
    """Builds writes that carry the value itself in place of its row, for a `MemoryBook` alone.

    What a drill writes is seldom read, and never by another process: it needs no rows, and no history.
    """

    @staticmethod
    def open_payment(payment: Payment) -> Write:
        """Add a payment."""
        return Write(store.OPEN, (payment,))

    @staticmethod
    def pay_at_once(
        opening: Write, payment: Payment, attempt: Attempt, entry: JournalEntry
    ) -> tuple[Write, ...]:
        """Add `payment`, which its payer's balance paid by `attempt` as it opened."""
        del entry
        return Write(opening.statement, (payment,)), Write(store.ATTEMPT, (attempt,))

    @staticmethod
    def save_payment(payment: Payment) -> Write:
        """Change a payment's state."""
        return Write(store.SAVE, (payment,))

    @staticmethod
    def save_plan(payment: Payment) -> Write:
        """Change a payment's methods, plan and deadline."""
        return Write(store.PLAN, (payment,))

    @staticmethod
    def save_attempt(attempt: Attempt) -> Write:
        """Add or change an attempt."""
        return Write(store.ATTEMPT, (attempt,))

    @staticmethod
    def add_history(sends: Iterable[SendRecord], entries: Iterable[JournalEntry]) -> tuple[Write, ...]:
        """Write nothing: what only people read has no reader in a drill."""
        del sends, entries
        return ()

    @staticmethod
    def save_refund(refund: Refund) -> Write:
        """Add or change a refund."""
        return Write(store.REFUND, (refund,))


class MemoryBook:
    """Holds payments in memory. Takes rows exactly as the database would, or the `Values` themselves."""

    def __init__(self, lane: Lane) -> None:
        self._payments: dict[UUID, Payment] = {}
        self._attempts: dict[UUID, dict[UUID, Attempt]] = {}
        self._by_remote: dict[tuple[str, str], tuple[UUID, UUID]] = {}
        self._tokens: dict[UUID, Row] = {}
        self._sends: dict[UUID, list[SendRecord]] = {}
        self._journal: dict[UUID, list[JournalEntry]] = {}
        self._refunds: dict[UUID, dict[UUID, Refund]] = {}
        self._refund_of: dict[UUID, UUID] = {}
        self._evidence: dict[tuple[str, str], Row] = {}
        self._stand_ins: dict[tuple[UUID, str], int] = {}
        self._of_merchant: dict[UUID, list[UUID]] = {}
        self._due: list[tuple[datetime, int, UUID]] = []
        """When to look at payments. Where one is put off, its entry stays and is moved when it comes up."""
        self._looked_at: dict[UUID, datetime] = {}
        """The moment of the one entry of a payment that counts; earlier ones replace later ones."""
        for statement, apply in (
            (store.OPEN, self._open),
            (store.PAID, self._paid),
            (store.PLAN, self._replan),
            (store.SAVE, self._save),
            (store.ATTEMPT, self._attempt),
            (store.TOKEN, self._token),
            (store.SEND, self._send),
            (store.JOURNAL, self._entry),
            (store.REFUND, self._refund),
            (store.EVIDENCE, self._heard),
            (store.STAND_IN_BACK, self._stand_in_back),
        ):
            lane.register(statement.name, apply)
        lane.register_guard(store.VERSION.name, self._at_version)
        lane.register_guard(store.STAND_IN.name, self._stand_in)

    def _open(self, row: Row) -> None:
        payment = row[0] if len(row) == 1 else rows.payment_of(row)
        self._keep(payment)
        self._of_merchant.setdefault(payment.asked.merchant_id, []).append(payment.id)

    def _paid(self, row: Row) -> None:
        payment, attempt, entry = rows.paid_of(row)
        self._open((payment,))
        self._attempt((attempt,))
        self._tell(entry)

    def _replan(self, row: Row) -> None:
        if len(row) > 1:
            there = self._payments[row[0]]
            self._payments[row[0]] = rows.payment_of(rows.asked_row(there) + row[1:] + rows.state_row(there))

    def _save(self, row: Row) -> None:
        if len(row) == 1:
            self._keep(row[0])
        else:
            there = self._payments[row[0]]
            self._keep(rows.payment_of(rows.asked_row(there) + rows.plan_row(there) + row[1:]))

    def _keep(self, payment: Payment) -> None:
        id_ = payment.id
        self._payments[id_] = payment
        if payment.next_step_at is not None:
            due = _due_at(payment, payment.next_step_at)
            there = self._looked_at.get(id_)
            if there is None or due < there:
                self._looked_at[id_] = due
                heappush(self._due, (due, payment.version, id_))

    def _attempt(self, row: Row) -> None:
        attempt: Attempt = row[0] if len(row) == 1 else rows.attempt_of(row)
        id_, payment = attempt.id, attempt.payment_id
        of_payment = self._attempts.get(payment)
        if of_payment is None:
            of_payment = self._attempts[payment] = {}
        if id_ not in of_payment:
            self._by_remote[attempt.rail, attempt.reference] = (payment, id_)
        of_payment[id_] = attempt
        if attempt.remote_id is not None:
            self._by_remote[attempt.rail, attempt.remote_id] = (payment, id_)

    def _token(self, row: Row) -> None:
        self._tokens[row[0]] = row

    def _send(self, row: Row) -> None:
        send = rows.send_of(row)
        sends = self._sends.get(send.attempt_id)
        if sends is None:
            self._sends[send.attempt_id] = [send]
        else:
            sends.append(send)

    def _entry(self, row: Row) -> None:
        self._tell(rows.journal_of(row))

    def _tell(self, entry: JournalEntry) -> None:
        entries = self._journal.get(entry.payment_id)
        if entries is None:
            self._journal[entry.payment_id] = [entry]
        else:
            entries.append(entry)

    def _refund(self, row: Row) -> None:
        refund: Refund = row[0] if len(row) == 1 else rows.refund_of(row)
        self._refunds.setdefault(refund.payment_id, {})[refund.id] = refund
        self._refund_of[refund.id] = refund.payment_id

    def _heard(self, row: Row) -> None:
        self._evidence.setdefault((row[0], row[1]), row)

    def _at_version(self, row: Row) -> bool:
        payment = self._payments.get(row[0])
        return payment is not None and payment.version == row[1]

    def _stand_in(self, row: Row) -> bool:
        payer, asset, amount, limit = row
        after = self._stand_ins.get((payer, asset), 0) + amount
        if after > limit:
            return False
        self._stand_ins[payer, asset] = after
        return True

    def _stand_in_back(self, row: Row) -> None:
        self._stand_ins[row[0], row[1]] -= row[2]

    async def payment(self, id: PaymentId) -> Payment | None:  # noqa: A002 - the field's own word
        """Return a payment, or None."""
        return self._payments.get(id)

    async def case(self, id: PaymentId) -> Case | None:  # noqa: A002 - the field's own word
        """Return a payment with its attempts, its token and its refunds; or None."""
        payment = self._payments.get(id)
        return None if payment is None else self._case(payment)

    def _case(self, payment: Payment) -> Case:
        return Case(
            payment,
            list(self._attempts.get(payment.id, {}).values()),
            rows.token_of(self._tokens.get(payment.id)),
            list(self._refunds.get(payment.id, {}).values()),
        )

    async def attempts(self, payment_id: PaymentId) -> tuple[Attempt, ...]:
        """Return a payment's attempts, in order."""
        return tuple(self._attempts.get(payment_id, {}).values())

    async def journal(self, payment_id: PaymentId, *, after: int = -1) -> tuple[JournalEntry, ...]:
        """Return a payment's journal from the entry after position `after`, in order."""
        return tuple(entry for entry in self._journal.get(payment_id, []) if entry.position > after)

    async def sends(self, payment_id: PaymentId) -> tuple[SendRecord, ...]:
        """Return every request that was journaled for a payment, by attempt and number."""
        attempts = self._attempts.get(payment_id, {})
        return tuple(send for attempt in attempts for send in self._sends.get(attempt, []))

    async def refunds(self, payment_id: PaymentId) -> tuple[Refund, ...]:
        """Return a payment's refunds, oldest first."""
        return tuple(self._refunds.get(payment_id, {}).values())

    async def refund(self, id: RefundId) -> Refund | None:  # noqa: A002 - the field's own word
        """Return a refund, or None."""
        payment = self._refund_of.get(id)
        return None if payment is None else self._refunds[payment][id]

    async def listing(
        self,
        merchant_id: MerchantId,
        *,
        after: PaymentId | None = None,
        limit: int = 25,
        state: PaymentState | None = None,
    ) -> tuple[Payment, ...]:
        """Return a merchant's payments, newest first, from the one before `after`.

        Only those in `state` when given.
        """
        found: list[Payment] = []
        for id_ in sorted(self._of_merchant.get(merchant_id, []), reverse=True):
            if len(found) == limit:
                break
            payment = self._payments[id_]
            if (state is None or payment.state is state) and (after is None or id_ < after):
                found.append(payment)
        return tuple(found)

    async def find_attempt(self, rail: str, reference: str, remote_id: str | None) -> Attempt | None:
        """Return the attempt on `rail` that our `reference`, or the rail's own id, names."""
        found = self._by_remote.get((rail, reference)) or self._by_remote.get((rail, remote_id or ""))
        return None if found is None else self._attempts[found[0]][found[1]]

    async def attempts_on(self, rail: str, since: datetime, until: datetime) -> tuple[Attempt, ...]:
        """Return the attempts on `rail` created from `since` to before `until`."""
        every = (attempt for of_payment in self._attempts.values() for attempt in of_payment.values())
        return tuple(a for a in every if a.rail == rail and since <= a.created_at < until)

    async def claim_due(self, now: datetime, lease_until: datetime, limit: int) -> list[Case]:
        """Take over up to `limit` payments that are due.

        Nobody else does until `lease_until`, and earlier drivers stop.
        """
        claimed: list[Case] = []
        while self._due and self._due[0][0] <= now and len(claimed) < limit:
            at, version, id_ = heappop(self._due)
            if self._looked_at.get(id_) != at:
                continue
            del self._looked_at[id_]
            payment = self._payments[id_]
            if payment.version == version and payment.next_step_at is not None:
                payment = changed(
                    payment, lease_until=lease_until, version=version + 1, driver=payment.driver + 1
                )
                claimed.append(self._case(payment))
            self._keep(payment)
        return claimed

    def standing(self) -> Iterator[Payment]:
        """Yield each payment as it stands. Cheap."""
        yield from self._payments.values()

    def everything(self) -> list[Case]:
        """Return every payment with all that belongs to it, in the order of opening: for auditors."""
        return [self._case(payment) for payment in self._payments.values()]


def _due_at(payment: Payment, next_step: datetime) -> datetime:
    lease = payment.lease_until
    return next_step if lease is None or lease < next_step else lease
