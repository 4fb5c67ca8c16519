"""All SQL of payments: the statements that go into units, and the reads.

Every change of a payment goes through one unit that names the version it is made on (`version_guard`), so
that two who work on one payment never both succeed: the second finds out, reads again, and goes on or stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from holdfast.base.ids import AttemptId, MerchantId, PayerId, PaymentId, RefundId
from holdfast.domains.payments import store_rows as rows
from holdfast.domains.payments.model import (
    Attempt,
    CaptureToken,
    Case,
    Evidence,
    JournalEntry,
    Payment,
    PaymentState,
    Refund,
    SendRecord,
)
from holdfast.platform.db import Connection, Database
from holdfast.platform.unit import Guard, Statement, Write


def _unnest(columns: dict[str, str], *, positions: bool = False) -> str:
    arrays = ", ".join(f"%b::{kind}[]" for kind in columns.values())
    names = ", ".join([f'"{name}"' for name in columns] + (["ordinal"] if positions else []))
    return f"unnest({arrays}) {'with ordinality ' if positions else ''}as new ({names})"


_JSON: Final = frozenset({"metadata", "merchant_rules", "methods", "plan", "method", "facts"})


def _values(columns: dict[str, str]) -> str:
    return ", ".join(f'new."{name}"' + ("::jsonb" if name in _JSON else "") for name in columns)


def _names(columns: dict[str, str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _insert(table: str, columns: dict[str, str], rest: str = "") -> str:
    into, values = f"payments.{table} ({_names(columns)})", _values(columns)
    return f"insert into {into} select {values} from {_unnest(columns)} {rest}"  # noqa: S608 - constants only


def _update(table: str, columns: dict[str, str], key: str) -> str:
    sets = ", ".join(f'"{n}" = new."{n}"' + ("::jsonb" if n in _JSON else "") for n in columns if n != key)
    return f"update payments.{table} old set {sets} from {_unnest(columns)} where old.{key} = new.{key}"  # noqa: S608 - constants only


def _statement(name: str, sql: str, columns: dict[str, str], rank: int) -> Statement:
    return Statement(f"payments.{name}", sql, tuple(columns.values()), rank)


_WHOLE: Final = rows.ASKED | rows.PLAN | rows.STATE
_STATE_BY_ID: Final = {"id": "uuid"} | rows.STATE
_PLAN_BY_ID: Final = {"id": "uuid"} | rows.PLAN
_VERSION: Final = {"id": "uuid", "version": "int8"}
_STAND_IN: Final = {"payer_id": "uuid", "asset": "text", "amount_minor": "int8", "limit_minor": "int8"}
_STAND_IN_BACK: Final = {"payer_id": "uuid", "asset": "text", "amount_minor": "int8"}
_EVIDENCE: Final = {
    "rail": "text",
    "event_id": "text",
    "attempt_id": "uuid",
    "strength": "int2",
    "said": "text",
    "amount_minor": "int8",
    "at": "timestamptz",
    "heard_at": "timestamptz",
}
_CHANGEABLE: Final = ", ".join(
    f'"{name}" = excluded."{name}"'
    for name in list(rows.ATTEMPT)[7:]
    if name not in ("reference", "created_at")
)

OPEN: Final = _statement("open", _insert("payments", _WHOLE), _WHOLE, 100)
PLAN: Final = _statement("plan", _update("payments", _PLAN_BY_ID, "id"), _PLAN_BY_ID, 101)
SAVE: Final = _statement("save", _update("payments", _STATE_BY_ID, "id"), _STATE_BY_ID, 102)
ATTEMPT: Final = _statement(
    "attempt",
    _insert("attempts", rows.ATTEMPT, f"on conflict (id) do update set {_CHANGEABLE}"),
    rows.ATTEMPT,
    110,
)
PAID: Final = _statement(
    "paid",
    f"""
    with new as (select * from {_unnest(rows.PAID)}),
    opened as (
        insert into payments.payments ({_names(_WHOLE)})
        select {_values(rows.ASKED | rows.PLAN)},
            'succeeded', amount_minor, 0, 1, 0, created_at, null, null, false, attempt_id, 0, null, 1, '', ''
        from new
    ), tried as (
        insert into payments.attempts ({_names(rows.ATTEMPT)})
        select attempt_id, id, 0, plan::jsonb -> 0 ->> 1, attempt_method::jsonb, asset, amount_minor,
            'captured', 4, attempt_reference, null, '', '', created_at, created_at, created_at, amount_minor,
            0, 0, null, null, null, null, false, true, false, 0, false, null, false
        from new
    )
    insert into payments.journal ({_names(rows.JOURNAL)})
    select id, 0, created_at, attempt_id, null, 'paid_from_balance', words, '{{}}' from new""",  # noqa: S608 - constants only
    rows.PAID,
    100,
)
TOKEN: Final = _statement(
    "token",
    _insert(
        "capture_tokens",
        rows.TOKEN,
        "on conflict (payment_id) do update set epoch = excluded.epoch, holder = excluded.holder",
    ),
    rows.TOKEN,
    120,
)
# A request that provably did nothing is made again under its key without being a repeat for the flow; for
# the record it
# is one: the key stands for the same thing, and was sent before.
_SENT_BEFORE: Final = """(new."repeat" or exists (
    select from payments.sends s where s.key = new.key and s.attempt_id = new.attempt_id
      and s.payload_hash = new.payload_hash and not s.repeat))"""
SEND: Final = _statement(
    "send", _insert("sends", rows.SEND).replace('new."repeat"', _SENT_BEFORE), rows.SEND, 130
)
JOURNAL: Final = _statement("journal", _insert("journal", rows.JOURNAL), rows.JOURNAL, 140)
REFUND: Final = _statement(
    "refund",
    _insert(
        "refunds",
        rows.REFUND,
        "on conflict (id) do update set state = excluded.state, updated_at = excluded.updated_at,"
        " tries = excluded.tries, next_at = excluded.next_at, code = excluded.code,"
        " message = excluded.message",
    ),
    rows.REFUND,
    150,
)
EVIDENCE: Final = _statement(
    "evidence", _insert("evidence", _EVIDENCE, "on conflict do nothing"), _EVIDENCE, 160
)
STAND_IN_BACK: Final = _statement(
    "stand_in_back",
    f"""
    with given as (
        select payer_id, asset, sum(amount_minor)::int8 as amount_minor
        from {_unnest(_STAND_IN_BACK)} group by 1, 2
    )
    update payments.stand_ins old set advanced_minor = old.advanced_minor - given.amount_minor from given
    where (old.payer_id, old.asset) = (given.payer_id, given.asset)""",  # noqa: S608 - constants only
    _STAND_IN_BACK,
    170,
)
VERSION: Final = _statement(
    "version",
    f"""
    with asked as (select * from {_unnest(_VERSION, positions=True)}),
    locked as (
        select id, version from payments.payments where id in (select id from asked) order by id for update
    )
    select ordinal from asked join locked using (id, version)""",  # noqa: S608 - constants only
    _VERSION,
    20,
)
STAND_IN: Final = _statement(
    "stand_in",
    f"""
    with asked as (select * from {_unnest(_STAND_IN, positions=True)}),
    taken as (
        insert into payments.stand_ins as old (payer_id, asset, advanced_minor)
        select payer_id, asset, amount_minor from asked where amount_minor <= limit_minor order by 1, 2
        on conflict (payer_id, asset)
        do update set advanced_minor = old.advanced_minor + excluded.advanced_minor
        where old.advanced_minor + excluded.advanced_minor <= (
            select limit_minor from asked a where (a.payer_id, a.asset) = (old.payer_id, old.asset))
        returning payer_id, asset
    )
    select ordinal from asked join taken using (payer_id, asset)""",  # noqa: S608 - constants only
    _STAND_IN,
    30,
)


def open_payment(payment: Payment) -> Write:
    """Add a payment."""
    return Write(OPEN, rows.asked_row(payment) + rows.plan_row(payment) + rows.state_row(payment))


def pay_at_once(opening: Write, payment: Payment, attempt: Attempt, entry: JournalEntry) -> tuple[Write, ...]:
    """Add `payment`, which its payer's balance paid by `attempt` as it opened, in one row.

    `opening` is the write that would only open it.
    """
    del payment
    return (Write(PAID, rows.paid_row(opening.row, attempt, entry)),)


def save_payment(payment: Payment) -> Write:
    """Change a payment's state; belongs into a unit with `version_guard`."""
    return Write(SAVE, (payment.id, *rows.state_row(payment)))


def save_plan(payment: Payment) -> Write:
    """Change a payment's methods, plan and deadline; belongs into a unit with `version_guard`."""
    return Write(PLAN, (payment.id, *rows.plan_row(payment)))


def save_attempt(attempt: Attempt) -> Write:
    """Add or change an attempt."""
    return Write(ATTEMPT, rows.attempt_row(attempt))


def save_token(payment: PaymentId, token: CaptureToken) -> Write:
    """Set who holds the capture token."""
    return Write(TOKEN, (payment, token.epoch, token.holder))


def add_history(sends: Iterable[SendRecord], entries: Iterable[JournalEntry]) -> list[Write]:
    """Record requests before they are sent, and add lines to a payment's journal."""
    requests = [Write(SEND, rows.send_row(send)) for send in sends]
    return requests + [Write(JOURNAL, rows.journal_row(entry)) for entry in entries]


def save_refund(refund: Refund) -> Write:
    """Add or change a refund."""
    return Write(REFUND, rows.refund_row(refund))


def add_evidence(
    rail: str,
    event_id: str,
    attempt: AttemptId | None,
    strength: Evidence,
    said: str,
    amount_minor: int | None,
    at: datetime,
    heard_at: datetime,
) -> Write:
    """Keep what a rail said unasked; a message that is repeated is kept once."""
    return Write(EVIDENCE, (rail, event_id, attempt, int(strength), said, amount_minor, at, heard_at))


def version_guard(payment: PaymentId, version: int) -> Guard:
    """Hold only while the payment is at `version`, and keep it there until the commit."""
    return Guard(VERSION, (payment, version), ("payment", payment))


def stand_in_guard(payer: PayerId, asset: str, amount_minor: int, limit_minor: int) -> Guard:
    """Take `amount_minor` of what the wallet may pay ahead for `payer`.

    Does not hold beyond `limit_minor`.
    """
    return Guard(STAND_IN, (payer, asset, amount_minor, limit_minor), ("stand_in", payer, asset), claims=True)


def stand_in_back(payer: PayerId, asset: str, amount_minor: int) -> Write:
    """Give back what `stand_in_guard` took."""
    return Write(STAND_IN_BACK, (payer, asset, amount_minor))


_IN_DOUBT: Final = """
select count(*), min(created_at) from payments.payments
where next_step_at is not null and state = 'pending'"""


class PostgresBook:
    """Reads payments. Raises: `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def payment(self, id: PaymentId) -> Payment | None:  # noqa: A002 - the field's own word
        """Return a payment, or None."""
        found = await self._rows(_SELECT_PAYMENT, (id,))
        return rows.payment_of(found[0]) if found else None

    async def case(self, id: PaymentId) -> Case | None:  # noqa: A002 - the field's own word
        """Return a payment with its attempts, its token and its refunds, as of one moment; or None."""
        cases = await self._cases((id,))
        return cases[0] if cases else None

    async def attempts(self, payment_id: PaymentId) -> tuple[Attempt, ...]:
        """Return a payment's attempts, in order."""
        return tuple(rows.attempt_of(row) for row in await self._rows(_SELECT_ATTEMPTS, ([payment_id],)))

    async def journal(self, payment_id: PaymentId, *, after: int = -1) -> tuple[JournalEntry, ...]:
        """Return a payment's journal from the entry after position `after`, in order."""
        return tuple(rows.journal_of(row) for row in await self._rows(_SELECT_JOURNAL, (payment_id, after)))

    async def sends(self, payment_id: PaymentId) -> tuple[SendRecord, ...]:
        """Return every request that was journaled for a payment, by attempt and number."""
        return tuple(rows.send_of(row) for row in await self._rows(_SELECT_SENDS, (payment_id,)))

    async def refunds(self, payment_id: PaymentId) -> tuple[Refund, ...]:
        """Return a payment's refunds, oldest first."""
        return tuple(rows.refund_of(row) for row in await self._rows(_SELECT_REFUNDS, ([payment_id],)))

    async def refund(self, id: RefundId) -> Refund | None:  # noqa: A002 - the field's own word
        """Return a refund, or None."""
        found = await self._rows(_SELECT_REFUND, (id,))
        return rows.refund_of(found[0]) if found else None

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
        wanted = None if state is None else state.value
        found = await self._rows(_LISTING, (merchant_id, after, after, wanted, wanted, limit))
        return tuple(rows.payment_of(row) for row in found)

    async def find_attempt(self, rail: str, reference: str, remote_id: str | None) -> Attempt | None:
        """Return the attempt on `rail` that our `reference`, or the rail's own id, names."""
        found = await self._rows(_FIND_ATTEMPT, (rail, reference, rail, remote_id))
        return rows.attempt_of(found[0]) if found else None

    async def attempts_on(self, rail: str, since: datetime, until: datetime) -> tuple[Attempt, ...]:
        """Return the attempts on `rail` created from `since` to before `until`."""
        return tuple(rows.attempt_of(row) for row in await self._rows(_ATTEMPTS_ON, (rail, since, until)))

    async def in_doubt(self) -> tuple[int, datetime | None]:
        """Return how many payments are not decided, and when the oldest of them was made."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_IN_DOUBT)).fetchone()
        return (0, None) if row is None else (row[0], row[1])

    async def claim_due(self, now: datetime, lease_until: datetime, limit: int) -> list[Case]:
        """Take over up to `limit` payments that are due.

        Nobody else does until `lease_until`, and earlier drivers stop.
        """
        ids = [row[0] for row in await self._rows(_CLAIM, (now, limit, lease_until))]
        return await self._cases(ids) if ids else []

    async def _cases(self, ids: Sequence[UUID]) -> list[Case]:
        wanted = list(ids)
        async with self._database.transaction() as connection:
            await connection.execute("set transaction isolation level repeatable read, read only")
            payments = await _fetch(connection, _SELECT_PAYMENTS, (wanted,))
            attempts = await _fetch(connection, _SELECT_ATTEMPTS, (wanted,))
            tokens = await _fetch(connection, _SELECT_TOKENS, (wanted,))
            refunds = await _fetch(connection, _SELECT_REFUNDS, (wanted,))
        token_by_id = {row[0]: rows.token_of(row) for row in tokens}
        cases = {
            row[0]: Case(rows.payment_of(row), [], token_by_id.get(row[0], CaptureToken()))
            for row in payments
        }
        for row in attempts:
            cases[row[1]].attempts.append(rows.attempt_of(row))
        for row in refunds:
            cases[row[1]].refunds.append(rows.refund_of(row))
        return list(cases.values())

    async def _rows(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        async with self._database.connection() as connection:
            return await _fetch(connection, sql, parameters)


async def _fetch(connection: Connection, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(sql.encode(), parameters)
    return await cursor.fetchall()


_SELECT_PAYMENTS: Final = f"select {_names(_WHOLE)} from payments.payments where id = any(%s)"  # noqa: S608 - constants only
_SELECT_PAYMENT: Final = f"select {_names(_WHOLE)} from payments.payments where id = %s"  # noqa: S608 - constants only
_SELECT_ATTEMPTS: Final = (
    f"select {_names(rows.ATTEMPT)} from payments.attempts where payment_id = any(%s) order by seq"  # noqa: S608 - constants only
)
_SELECT_TOKENS: Final = f"select {_names(rows.TOKEN)} from payments.capture_tokens where payment_id = any(%s)"  # noqa: S608 - constants only
_SELECT_REFUNDS: Final = (
    f"select {_names(rows.REFUND)} from payments.refunds where payment_id = any(%s) order by id"  # noqa: S608 - constants only
)
_SELECT_REFUND: Final = f"select {_names(rows.REFUND)} from payments.refunds where id = %s"  # noqa: S608 - constants only
_SELECT_JOURNAL: Final = (
    f"select {_names(rows.JOURNAL)} from payments.journal"  # noqa: S608 - constants only
    " where payment_id = %s and position > %s order by position"
)
_SELECT_SENDS: Final = (
    f"select {_names(rows.SEND)} from payments.sends where attempt_id in"  # noqa: S608 - constants only
    " (select id from payments.attempts where payment_id = %s) order by attempt_id, number"
)
_LISTING: Final = (
    f"select {_names(_WHOLE)} from payments.payments where merchant_id = %s"  # noqa: S608 - constants only
    " and (%s::uuid is null or id < %s) and (%s::text is null or state = %s) order by id desc limit %s"
)
_FIND_ATTEMPT: Final = (
    f"select {_names(rows.ATTEMPT)} from payments.attempts where (rail = %s and reference = %s)"  # noqa: S608 - constants only
    " or (rail = %s and remote_id = %s) order by seq limit 1"
)
_ATTEMPTS_ON: Final = (
    f"select {_names(rows.ATTEMPT)} from payments.attempts"  # noqa: S608 - constants only
    " where rail = %s and created_at >= %s and created_at < %s"
)
_CLAIM: Final = """
    with due as (
        select id from payments.payments
        where next_step_at is not null and greatest(next_step_at, lease_until) <= %s
        order by greatest(next_step_at, lease_until) limit %s for update skip locked
    )
    update payments.payments p set lease_until = %s, version = version + 1, driver = driver + 1
    from due where p.id = due.id returning p.id"""
