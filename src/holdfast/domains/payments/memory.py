"""The payments book in memory, behind the same units: for simulations, drills and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
)

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


_ASKED, _PLAN = len(rows.ASKED), len(rows.PLAN)
_STATE_AT, _LEASE_AT, _NEXT_AT, _UPDATED_AT, _DRIVER_AT, _VERSION_AT = 0, 7, 6, 5, 4, 3


class MemoryBook:
    """Holds rows exactly as the database would, and reads them the same way."""

    def __init__(self, lane: Lane) -> None:
        self._asked: dict[UUID, Row] = {}
        self._plan: dict[UUID, Row] = {}
        self._state: dict[UUID, Row] = {}
        self._attempts: dict[UUID, dict[UUID, Row]] = {}
        self._by_remote: dict[tuple[str, str], tuple[UUID, UUID]] = {}
        self._tokens: dict[UUID, Row] = {}
        self._sends: dict[UUID, list[Row]] = {}
        self._journal: dict[UUID, list[Row]] = {}
        self._refunds: dict[UUID, dict[UUID, Row]] = {}
        self._refund_of: dict[UUID, UUID] = {}
        self._evidence: dict[tuple[str, str], Row] = {}
        self._stand_ins: dict[tuple[UUID, str], int] = {}
        self._of_merchant: dict[UUID, list[UUID]] = {}
        self._due: list[tuple[datetime, int, UUID]] = []
        for statement, apply in (
            (store.OPEN, self._open),
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
        id_ = row[0]
        self._asked[id_] = row[:_ASKED]
        self._plan[id_] = row[_ASKED : _ASKED + _PLAN]
        self._set_state(id_, row[_ASKED + _PLAN :])
        self._of_merchant.setdefault(row[1], []).append(id_)

    def _replan(self, row: Row) -> None:
        self._plan[row[0]] = row[1:]

    def _save(self, row: Row) -> None:
        self._set_state(row[0], row[1:])

    def _set_state(self, id_: UUID, state: Row) -> None:
        self._state[id_] = state
        if state[_NEXT_AT] is not None:
            heappush(self._due, (_due_at(state), state[_VERSION_AT], id_))

    def _attempt(self, row: Row) -> None:
        id_, payment, rail = row[0], row[1], row[3]
        of_payment = self._attempts.get(payment)
        if of_payment is None:
            of_payment = self._attempts[payment] = {}
        if id_ not in of_payment:
            self._by_remote[rail, row[9]] = (payment, id_)
        of_payment[id_] = row
        if row[10] is not None:
            self._by_remote[rail, row[10]] = (payment, id_)

    def _token(self, row: Row) -> None:
        self._tokens[row[0]] = row

    def _send(self, row: Row) -> None:
        sends = self._sends.get(row[0])
        if sends is None:
            self._sends[row[0]] = [row]
        else:
            sends.append(row)

    def _entry(self, row: Row) -> None:
        entries = self._journal.get(row[0])
        if entries is None:
            self._journal[row[0]] = [row]
        else:
            entries.append(row)

    def _refund(self, row: Row) -> None:
        self._refunds.setdefault(row[1], {})[row[0]] = row
        self._refund_of[row[0]] = row[1]

    def _heard(self, row: Row) -> None:
        self._evidence.setdefault((row[0], row[1]), row)

    def _at_version(self, row: Row) -> bool:
        state = self._state.get(row[0])
        return state is not None and state[_VERSION_AT] == row[1]

    def _stand_in(self, row: Row) -> bool:
        payer, asset, amount, limit = row
        after = self._stand_ins.get((payer, asset), 0) + amount
        if after > limit:
            return False
        self._stand_ins[payer, asset] = after
        return True

    def _stand_in_back(self, row: Row) -> None:
        self._stand_ins[row[0], row[1]] -= row[2]

    def _read(self, id_: UUID) -> Payment:
        return rows.payment_of(self._asked[id_] + self._plan[id_] + self._state[id_])

    async def payment(self, id: PaymentId) -> Payment | None:  # noqa: A002 - the field's own word
        """Return a payment, or None."""
        return self._read(id) if id in self._asked else None

    async def case(self, id: PaymentId) -> Case | None:  # noqa: A002 - the field's own word
        """Return a payment with its attempts, its token and its refunds; or None."""
        if id not in self._asked:
            return None
        attempts = [rows.attempt_of(row) for row in self._attempts.get(id, {}).values()]
        refunds = [rows.refund_of(row) for row in self._refunds.get(id, {}).values()]
        return Case(self._read(id), attempts, rows.token_of(self._tokens.get(id)), refunds)

    async def attempts(self, payment_id: PaymentId) -> tuple[Attempt, ...]:
        """Return a payment's attempts, in order."""
        return tuple(rows.attempt_of(row) for row in self._attempts.get(payment_id, {}).values())

    async def journal(self, payment_id: PaymentId, *, after: int = -1) -> tuple[JournalEntry, ...]:
        """Return a payment's journal from the entry after position `after`, in order."""
        return tuple(rows.journal_of(row) for row in self._journal.get(payment_id, []) if row[1] > after)

    async def sends(self, payment_id: PaymentId) -> tuple[SendRecord, ...]:
        """Return every request that was journaled for a payment, by attempt and number."""
        attempts = self._attempts.get(payment_id, {})
        return tuple(rows.send_of(row) for attempt in attempts for row in self._sends.get(attempt, []))

    async def refunds(self, payment_id: PaymentId) -> tuple[Refund, ...]:
        """Return a payment's refunds, oldest first."""
        return tuple(rows.refund_of(row) for row in self._refunds.get(payment_id, {}).values())

    async def refund(self, id: RefundId) -> Refund | None:  # noqa: A002 - the field's own word
        """Return a refund, or None."""
        payment = self._refund_of.get(id)
        return None if payment is None else rows.refund_of(self._refunds[payment][id])

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
            wanted = state is None or self._state[id_][_STATE_AT] == state.value
            if wanted and (after is None or id_ < after):
                found.append(self._read(id_))
        return tuple(found)

    async def find_attempt(self, rail: str, reference: str, remote_id: str | None) -> Attempt | None:
        """Return the attempt on `rail` that our `reference`, or the rail's own id, names."""
        found = self._by_remote.get((rail, reference)) or self._by_remote.get((rail, remote_id or ""))
        return None if found is None else rows.attempt_of(self._attempts[found[0]][found[1]])

    async def attempts_on(self, rail: str, since: datetime, until: datetime) -> tuple[Attempt, ...]:
        """Return the attempts on `rail` created from `since` to before `until`."""
        every = (row for of_payment in self._attempts.values() for row in of_payment.values())
        return tuple(rows.attempt_of(row) for row in every if row[3] == rail and since <= row[13] < until)

    async def claim_due(self, now: datetime, lease_until: datetime, limit: int) -> list[Case]:
        """Take over up to `limit` payments that are due.

        Nobody else does until `lease_until`, and earlier drivers stop.
        """
        claimed: list[Case] = []
        while self._due and self._due[0][0] <= now and len(claimed) < limit:
            _, version, id_ = heappop(self._due)
            state = self._state[id_]
            if state[_VERSION_AT] != version or state[_NEXT_AT] is None:
                continue
            taken = list(state)
            taken[_LEASE_AT] = lease_until
            taken[_VERSION_AT] += 1
            taken[_DRIVER_AT] += 1
            self._set_state(id_, tuple(taken))
            case = await self.case(PaymentId(id_))
            if case is not None:
                claimed.append(case)
        return claimed

    def standing(self) -> Iterator[tuple[UUID, str, datetime, datetime | None]]:
        """Yield where each payment stands, as (id, state, last change, when a worker looks at it again).

        Cheap.
        """
        for id_, state in self._state.items():
            yield id_, state[_STATE_AT], state[_UPDATED_AT], state[_NEXT_AT]

    def everything(self) -> list[Case]:
        """Return every payment with all that belongs to it, in the order of opening: for auditors."""
        return [
            Case(
                self._read(id_),
                [rows.attempt_of(row) for row in self._attempts.get(id_, {}).values()],
                rows.token_of(self._tokens.get(id_)),
                [rows.refund_of(row) for row in self._refunds.get(id_, {}).values()],
            )
            for id_ in self._asked
        ]


def _due_at(state: Row) -> datetime:
    next_step: datetime = state[_NEXT_AT]
    lease: datetime | None = state[_LEASE_AT]
    return next_step if lease is None or lease < next_step else lease
