"""Accounts, their balances now and after any transfer, and the trial balance, from the tables alone.

A balance is the account's newest mark and the transfers after it; see `segments` for where these can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from holdfast.base.ids import AccountId
from holdfast.base.money import ASSETS_BY_NUMBER
from holdfast.domains.ledger.model import AccountView, AssetTotals, Balance, Rule
from holdfast.domains.ledger.rules.rulebook import RULE_NUMBERS
from holdfast.domains.ledger.store import segments
from holdfast.domains.ledger.store.segments import END, UNMARKED, Tail, bigint
from holdfast.platform import arrays
from holdfast.platform.db import Connection
from holdfast.platform.exchange import exchange

POSTED: Final = "case when t.kind in (0, 2, 5) then t.amount else 0 end"
PENDING: Final = "case t.kind when 0 then 0 when 1 then t.amount else -t.held end"
"""What a transfer adds to the posted and to the pending sums of its accounts."""

# What is given stands in a subselect, where the planner does not see it: else it would plan each time anew.
_SUMS: Final = """
with given as materialized (select %b::bigint[] as numbers, %b::bigint as upto),
asked as materialized (
    select a.number, m.entries, m.debits_posted, m.credits_posted, m.debits_pending, m.credits_pending,
           greatest(m.seq, {low}) as low
    from unnest((select numbers from given)) as u (number)
    join ledger.accounts a on a.number = u.number
    left join lateral (
        select * from ledger.marks m where m.account = u.number and m.seq <= (select upto from given)
        order by m.seq desc limit 1
    ) m on true
), moved (number, debit, kind, amount, held) as ({moved}
)
select a.number, coalesce(a.entries, 0) + count(t.number),
       coalesce(a.debits_posted, 0) + coalesce(sum({posted}) filter (where t.debit), 0)::bigint,
       coalesce(a.credits_posted, 0) + coalesce(sum({posted}) filter (where not t.debit), 0)::bigint,
       coalesce(a.debits_pending, 0) + coalesce(sum({pending}) filter (where t.debit), 0)::bigint,
       coalesce(a.credits_pending, 0) + coalesce(sum({pending}) filter (where not t.debit), 0)::bigint,
       {unmarked}
from asked a left join moved t on t.number = a.number
group by a.number, a.entries, a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending"""
_NOTHING: Final = """
    select null::bigint, null::boolean, null::smallint, null::bigint, null::bigint where false"""
_BY_INDEX: Final = """
    select a.number, t.* from asked a cross join lateral (
        select true, kind, amount, held from {table} t
        where t.debit = a.number and t.seq > a.low and t.seq <= (select upto from given)
        union all
        select false, kind, amount, held from {table} t
        where t.credit = a.number and t.seq > a.low and t.seq <= (select upto from given)
    ) t"""
# Where each account begins is looked up in a map: a join would be planned for a handful of rows.
_BY_SCAN: Final = """
    select v.number, v.debit, t.kind, t.amount, t.held
    from {table} t cross join lateral (values (t.debit, true), (t.credit, false)) as v (number, debit)
    where t.seq > (select min(low) from asked) and t.seq <= (select upto from given)
      and (t.debit in (select number from asked) or t.credit in (select number from asked))
      and t.seq > ((select jsonb_object_agg(number, low) from asked) ->> v.number::text)::bigint"""
_TRIAL: Final = """
select d.asset, c.asset, sum({posted})::bigint, sum({pending})::bigint
from {table} t
left join ledger.accounts d on d.number = t.debit
left join ledger.accounts c on c.number = t.credit
where t.seq <= %b::bigint group by d.asset, c.asset"""
_COUNTS: Final = "select asset, count(*) from ledger.accounts group by asset order by asset"
_HEAD: Final = """
select seq, (select array_agg(number order by number) from ledger.segments),
       (select max(last_seq) from ledger.archives)
from ledger.head"""
_ARCHIVED: Final = """
select a.asset, sum(m.debits_posted)::bigint, sum(m.credits_posted)::bigint, sum(m.debits_pending)::bigint,
       sum(m.credits_pending)::bigint
from ledger.accounts a cross join lateral (
    select * from ledger.marks m where m.account = a.number and m.seq <= %b::bigint
    order by m.seq desc limit 1
) m group by a.asset"""
_ACCOUNTS: Final = """
select number, code, asset, rule, closed, limit_minor, opened_at from ledger.accounts"""
_NAMES: Final = "select number, code from ledger.accounts"
_THESE: Final = " where number = any (%b::bigint[]) or code = any (%b::text[]) order by code"
_AFTER: Final = " where code > %s and code >= %s and starts_with(code, %s) order by code limit %s"
_RULE_NAMES: Final[dict[int, Rule]] = {number: rule for rule, number in RULE_NUMBERS.items()}


class Sums(NamedTuple):
    """An account after some transfer. `entries`: how many have touched it by then."""

    entries: int
    balance: Balance


@lru_cache(256)
def _text(read: Tail, low: int) -> str:
    """Return the statement that adds to each account's newest mark what is above `low` in some segments."""
    parts = [(_BY_INDEX if segment.indexed else _BY_SCAN).format(table=segment.table) for segment in read]
    return _SUMS.format(
        low=low, moved="\n    union all".join(parts) or _NOTHING, posted=POSTED, pending=PENDING,
        unmarked=UNMARKED,
    )  # fmt: skip


async def sums_now(connection: Connection, numbers: Sequence[int]) -> dict[AccountId, Sums]:
    """Add up accounts as they are now; one that does not exist is left out.

    One statement, unless a segment has come since the last time on this connection.
    """
    return await segments.steady(connection, lambda: _sums_now(connection, numbers))


async def _sums_now(connection: Connection, numbers: Sequence[int]) -> dict[AccountId, Sums]:
    given = arrays.bigints(numbers), bigint(END)
    tail = segments.remembered(connection)
    if tail is None:
        tail = await segments.tail(connection)
    while True:
        rows = (await exchange(connection, [(_text(tail, segments.before(tail)), given)]))[0].all()
        if not rows:
            return {}
        newest = tail[-1].number if tail else -1
        tail = segments.remember(connection, rows[0][-1])
        if not tail or tail[-1].number <= newest:
            return _sums(rows)


async def sums_at(connection: Connection, numbers: Sequence[int], seq: int) -> dict[AccountId, Sums]:
    """Add up accounts as they were after transfer number `seq`; one that does not exist now is left out.

    Raises: `HistoryArchived`.
    """
    read = await segments.around(connection, seq)
    text, given = _text(read, segments.before(read)), (arrays.bigints(numbers), bigint(seq))
    if read == segments.remembered(connection):
        return _sums((await exchange(connection, [(text, given)]))[0].all())
    return _sums(await (await connection.execute(text, given, binary=True)).fetchall())


def _sums(rows: Sequence[tuple[Any, ...]]) -> dict[AccountId, Sums]:
    return {AccountId(row[0]): Sums(row[1], Balance(*row[2:6])) for row in rows}


async def accounts(
    connection: Connection, *, numbers: Sequence[AccountId] = (), codes: Sequence[str] = ()
) -> list[AccountView]:
    """Return accounts by number or by name, in order of their names, with their balances."""
    cursor = await connection.execute(
        _ACCOUNTS + _THESE, (arrays.bigints(numbers), arrays.column("text", codes)), binary=True
    )
    return await _views(connection, await cursor.fetchall())


async def names(
    connection: Connection, numbers: Sequence[AccountId], codes: Sequence[str]
) -> dict[AccountId, str]:
    """Return the names of accounts by number: of those with these numbers, or these names."""
    cursor = await connection.execute(
        _NAMES + _THESE, (arrays.bigints(numbers), arrays.column("text", codes)), binary=True
    )
    return {AccountId(number): code for number, code in await cursor.fetchall()}


async def accounts_after(connection: Connection, prefix: str, after: str, limit: int) -> list[AccountView]:
    """Return accounts whose names begin with `prefix`, in order of their names, from behind `after`."""
    cursor = await connection.execute(_ACCOUNTS + _AFTER, (after, prefix, prefix, limit))
    return await _views(connection, await cursor.fetchall())


async def _views(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[AccountView]:
    if not rows:
        return []
    sums = await sums_now(connection, [row[0] for row in rows])
    return [
        AccountView(
            number=AccountId(number), code=code, asset=ASSETS_BY_NUMBER[asset].code, rule=_RULE_NAMES[rule],
            closed=closed, limit_minor=limit, opened_at=opened_at, entries=sums[number].entries,
            balance=sums[number].balance,
        )
        for number, code, asset, rule, closed, limit, opened_at in rows
    ]  # fmt: skip


async def trial_balance(connection: Connection) -> list[AssetTotals]:
    """Return the sums over all accounts of each asset, added up from all transfers, a segment at a time.

    What a transfer takes from one account counts with that account's asset, and what it gives to the other
    with the other's. Those that are archived are taken from the marks at their end.
    """
    [(seq, numbers, archived_seq)] = await (await connection.execute(_HEAD)).fetchall()
    counts = await (await connection.execute(_COUNTS)).fetchall()
    totals = {asset: [0, 0, 0, 0] for asset, _ in counts}
    if archived_seq is not None:
        cursor = await connection.execute(_ARCHIVED, (bigint(archived_seq),), binary=True)
        totals |= {asset: list(sums) for asset, *sums in await cursor.fetchall()}
    for number in numbers or ():
        text = _TRIAL.format(table=segments.table_of(number), posted=POSTED, pending=PENDING)
        rows = await (await connection.execute(text, (bigint(seq),), binary=True)).fetchall()
        for debited, credited, posted, pending in rows:
            for asset, side in ((debited, 0), (credited, 1)):
                if asset is not None:
                    totals[asset][side] += posted
                    totals[asset][side + 2] += pending
    return [AssetTotals(ASSETS_BY_NUMBER[a].code, count, Balance(*totals[a])) for a, count in counts]
