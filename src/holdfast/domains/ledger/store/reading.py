"""Reading what was posted.

A statement is a walk from an account's newest transfer backwards, by primary key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.money import ASSETS_BY_NUMBER
from holdfast.domains.ledger.model import (
    AccountView,
    AssetTotals,
    Balance,
    Entry,
    NewTransfer,
    Outcome,
    Posting,
    Rule,
    TransferKind,
)
from holdfast.domains.ledger.rules import RULE_NUMBERS
from holdfast.platform import arrays
from holdfast.platform.db import Connection

_FIND: Final = """
select id, 0 as outcome, amount from ledger.transfers where id = any (%b::uuid[])
union all
select id, outcome, 0 from ledger.refusals where id = any (%b::uuid[])"""
_WALK: Final = """
with recursive walk as (
    select t.*, 1 as step from ledger.transfers t where t.id = %(start)s
    union all
    select p.*, w.step + 1
    from walk w
    join ledger.transfers p on p.id = case when w.debit = %(account)s then w.debit_prev else w.credit_prev end
    where w.step < %(limit)s
)
select w.id, w.at, w.kind, w.debit, w.credit, w.amount, coalesce(h.amount, 0), w.code, w.pending_id,
       w.metadata,
       case when w.debit = %(account)s then w.debit_prev else w.credit_prev end
from walk w left join ledger.transfers h on h.id = w.pending_id
order by w.step"""
_ANCHOR: Final = """
select last_transfer, debits_posted, credits_posted, debits_pending, credits_pending from (
    (select 0 as rank, last_transfer, debits_posted, credits_posted, debits_pending, credits_pending, entries
     from ledger.marks where account = %(account)s and at > %(at)s order by at, entries limit 1)
    union all
    select 1, last_transfer, debits_posted, credits_posted, debits_pending, credits_pending, entries
    from ledger.balances where number = %(account)s
) anchors order by rank limit 1"""
_NEWEST: Final = """
select last_transfer, debits_posted, credits_posted, debits_pending, credits_pending
from ledger.balances where number = %(account)s"""
_AT: Final = (
    "select at from ledger.transfers where id = %(id)s and (debit = %(account)s or credit = %(account)s)"
)
_TRIAL: Final = """
select asset, count(*), sum(debits_posted)::bigint, sum(credits_posted)::bigint,
       sum(debits_pending)::bigint, sum(credits_pending)::bigint
from ledger.balances group by asset order by asset"""
_ACCOUNTS: Final = """
select a.number, a.code, a.asset, a.rule, b.closed, a.opened_at, b.entries,
       b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending
from ledger.accounts a join ledger.balances b on b.number = a.number"""
_DUE: Final = """
select id, debit, credit, asset from ledger.open_holds
where expires_at <= %s order by expires_at limit %s"""
_KIND_NAMES: Final[tuple[TransferKind, ...]] = (
    "posted",
    "pending",
    "post_pending",
    "void_pending",
    "expire_pending",
)
_RULE_NAMES: Final[dict[int, Rule]] = {number: rule for rule, number in RULE_NUMBERS.items()}
NIL: Final = UUID(int=0)

Anchor = tuple[UUID, Balance]


async def find(connection: Connection, ids: Sequence[UUID]) -> dict[TransferId, Posting]:
    """Return what became of each id that was seen."""
    packed = arrays.uuids(arrays.uuid_bytes(ids))
    rows = await connection.execute(_FIND, (packed, packed), binary=True)
    return {
        TransferId(i): Posting(TransferId(i), Outcome(outcome), amount)
        for i, outcome, amount in await rows.fetchall()
    }


async def stands_once_settled(connection: Connection, transfer: UUID, account: int) -> bool:
    """Tell whether a transfer stands, once no transaction that touches `account` is under way.

    A transaction that posted it locked the account, so having that lock means that it is over.
    """
    await connection.execute("set local lock_timeout = '5s'")
    await connection.execute("select from ledger.balances where number = %b for update", (account,))
    found = await connection.execute("select from ledger.transfers where id = %b", (transfer,))
    return found.rowcount > 0


async def newest(connection: Connection, account: AccountId) -> Anchor | None:
    """Return an account's newest transfer (nil.

    None) with the balance after it; None when there is no such account.
    """
    return _anchor(await (await connection.execute(_NEWEST, {"account": account})).fetchone())


async def anchor_after(connection: Connection, account: AccountId, at: datetime) -> Anchor | None:
    """Return a transfer after `at`, or the newest, with the balance after it: from there one walks back."""
    return _anchor(await (await connection.execute(_ANCHOR, {"account": account, "at": at})).fetchone())


def _anchor(row: Sequence[Any] | None) -> Anchor | None:
    return None if row is None else (row[0], Balance(*row[1:]))


async def moment_of(connection: Connection, account: AccountId, transfer: TransferId) -> datetime | None:
    """Return when a transfer of this account was made; None when it has no such transfer."""
    row = await (await connection.execute(_AT, {"id": transfer, "account": account})).fetchone()
    return None if row is None else row[0]


async def walk(
    connection: Connection, account: AccountId, start: Anchor, limit: int
) -> tuple[list[Entry], Anchor]:
    """Walk back from `start`.

    Up to `limit` entries, newest first, each with the balance after it, and where to go on.
    """
    transfer, balance = start
    if transfer == NIL:
        return [], start
    cursor = await connection.execute(
        _WALK, {"start": transfer, "account": account, "limit": limit}, binary=True
    )
    entries = []
    for i, at, kind, debit, credit, amount, held, code, pending_id, metadata, prev in await cursor.fetchall():
        side: Literal["debit", "credit"] = "debit" if debit == account else "credit"
        other = AccountId(credit if side == "debit" else debit)
        entries.append(
            Entry(i, at, _KIND_NAMES[kind], side, other, amount, balance, code, pending_id, metadata or {})
        )
        balance = _before(balance, kind, amount, held, debit_side=side == "debit")
        transfer = prev
    return entries, (transfer, balance)


def _before(after: Balance, kind: int, amount: int, held: int, *, debit_side: bool) -> Balance:
    posted = amount if kind in (0, 2) else 0
    pending = amount if kind == 1 else -held if kind >= 2 else 0
    if debit_side:
        return Balance(
            after.debits_posted_minor - posted, after.credits_posted_minor,
            after.debits_pending_minor - pending, after.credits_pending_minor,
        )  # fmt: skip
    return Balance(
        after.debits_posted_minor, after.credits_posted_minor - posted,
        after.debits_pending_minor, after.credits_pending_minor - pending,
    )  # fmt: skip


async def trial_balance(connection: Connection) -> list[AssetTotals]:
    """Return the sums over all accounts of each asset."""
    rows = await (await connection.execute(_TRIAL)).fetchall()
    return [AssetTotals(ASSETS_BY_NUMBER[asset].code, count, Balance(*sums)) for asset, count, *sums in rows]


async def accounts(
    connection: Connection, *, numbers: Sequence[AccountId] = (), codes: Sequence[str] = ()
) -> list[AccountView]:
    """Return accounts by number or by name, with their balances."""
    rows = await connection.execute(
        _ACCOUNTS + " where a.number = any (%b::bigint[]) or a.code = any (%b::text[]) order by a.code",
        (arrays.bigints(numbers), arrays.column("text", codes)),
    )
    return [_view(row) for row in await rows.fetchall()]


async def accounts_after(connection: Connection, prefix: str, after: str, limit: int) -> list[AccountView]:
    """Return accounts whose names begin with `prefix`, in order of their names, from behind `after`."""
    rows = await connection.execute(
        _ACCOUNTS
        + " where a.code > %s and a.code >= %s and starts_with(a.code, %s) order by a.code limit %s",
        (after, prefix, prefix, limit),
    )
    return [_view(row) for row in await rows.fetchall()]


def _view(row: Sequence[Any]) -> AccountView:
    number, code, asset, rule, closed, opened_at, entries, *sums = row
    return AccountView(
        AccountId(number),
        code,
        ASSETS_BY_NUMBER[asset].code,
        _RULE_NAMES[rule],
        closed,
        opened_at,
        entries,
        Balance(*sums),
    )


async def due_holds(connection: Connection, now: datetime, limit: int) -> list[NewTransfer]:
    """Return the transfers that would release the holds whose time is over, oldest first."""
    rows = await (await connection.execute(_DUE, (now, limit))).fetchall()
    return [
        NewTransfer(
            expiry_id(i), AccountId(debit), AccountId(credit), ASSETS_BY_NUMBER[asset].code, None,
            kind="expire_pending", pending_id=TransferId(i),
        )
        for i, debit, credit, asset in rows
    ]  # fmt: skip


def expiry_id(pending: UUID) -> TransferId:
    """Return the id under which a hold lapses: the same whoever notices, and near the hold's own in time."""
    return TransferId(UUID(int=pending.int ^ ((1 << 62) - 1)))
