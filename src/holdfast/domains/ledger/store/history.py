"""Transfers in order, newest first: those of one account with the balance after each, and those of all.

A page is read in steps. Each takes what lies next in a few segments, up to a bound, and keeps what the filter
lets through; so a filter that nothing matches costs no more than the bound, and the page says where to go on.
An account's segments are found by its marks; see `segments`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.money import ASSETS_BY_NUMBER
from holdfast.domains.ledger.model import Balance, Entry, Newest, TransferKind
from holdfast.domains.ledger.store import reading, segments
from holdfast.domains.ledger.store.lookup import KIND_NAMES, Side
from holdfast.domains.ledger.store.segments import (
    END,
    Segment,
    bigint,
    first_of,
    integer,
    segment_of,
    table_of,
)
from holdfast.platform.db import Connection
from holdfast.platform.exchange import exchange

Item = TypeVar("Item")

_COLUMNS: Final = """t.seq, t.at, t.id, t.kind, t.debit, t.credit, t.asset, t.amount, t.held, t.code,
       t.pending_id, t.expires_at, t.settles, t.over, t.metadata"""
_DEBITED: Final = """
    (select {columns} from {table} t where t.debit = {account} and t.seq > {low} and t.seq < {below}
     order by t.seq desc limit {scan})"""
_CREDITED: Final = """
    (select {columns} from {table} t where t.credit = {account} and t.seq > {low} and t.seq < {below}
     order by t.seq desc limit {scan})"""
_TOUCHED: Final = """
    (select {columns} from {table} t
     where (t.debit = {account} or t.credit = {account}) and t.seq > {low} and t.seq < {below}
     order by t.seq desc limit {scan})"""
_REMEMBERED: Final = """
    (select {columns} from {table} t
     where t.id = any('{{{ids}}}'::uuid[]) and t.seq > {low} and t.seq < {below}
     order by t.seq desc limit {scan})"""
_ANY: Final = """
    (select {columns} from {table} t where t.seq > {low} and t.seq < {below})"""
_STEP: Final = """
with scanned as materialized (
    select * from ({branches}
    ) t order by t.seq desc limit {scan}
), summed as (
    select {columns}{running} from scanned t
    window newer as (order by t.seq desc rows between unbounded preceding and 1 preceding)
)
select s.count, s.top, s.lowest, w.*
from (select count(*), max(seq) as top, (array_agg(id order by seq))[1] as lowest from scanned) s
left join (select * from summed t where {matches} order by t.seq desc limit {limit}) w on true
order by w.seq desc"""
_NEWER: Final = """,
       coalesce(sum(case when t.{side} = {account} then {what} else 0 end) over newer, 0)::bigint"""
_HOPS: Final = """
with recursive hop (place, first, last) as (
    select 1, coalesce(s.span, u.number), u.number
    from (select %b::integer as number) u left join ledger.segments s on s.number = u.number
    union all
    select h.place + 1, s.span, s.number from hop h
    cross join lateral (
        select (m.seq >> 20)::integer as number from ledger.marks m
        where m.account = %b::bigint and m.seq < h.first::bigint << 20 order by m.seq desc limit 1
    ) m
    join ledger.segments s on s.number = m.number
    where h.place < 16
)
select h.place, h.first, s.number, s.indexed
from hop h left join ledger.segments s on s.number between h.first and h.last
order by h.place, s.number desc"""
_SPANS: Final = """
select s.number, coalesce(s.last_seq, h.seq) from ledger.segments s, ledger.head h
where s.number <= %b::bigint order by s.number desc limit 16"""
_FETCHED: Final = 16
"""Spans named at a time by `_HOPS`, and segments by `_SPANS`."""
_SEGMENT_MAX: Final = 2**31 - 1
_GROUP: Final = 2
_GROUP_GROWS: Final = 4
"""Segments of an account that one step reads: most pages lie in the newest of them."""
_EXISTS: Final = "select from ledger.accounts where number = %b::bigint"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a transfer must be: of this code, with `other` on one side of it, with all of this metadata."""

    code: int | None = None
    other: AccountId | None = None
    metadata: Mapping[str, str] | None = None

    @property
    def everything(self) -> bool:
        """Whether it lets everything through."""
        return self.code is None and self.other is None and not self.metadata

    def sql(self) -> tuple[str, tuple[str, ...]]:
        """Return it as a condition on `t`, and the parameters of that."""
        parts, parameters = ["true"], []
        if self.code is not None:
            parts.append(f"t.code = {int(self.code)}")
        if self.other is not None:
            parts.append(f"{int(self.other)} in (t.debit, t.credit)")
        if self.metadata:
            parts.append("t.metadata @> %s::jsonb")
            parameters.append(json.dumps(dict(self.metadata)))
        return " and ".join(parts), tuple(parameters)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer as it was made: `seq` is its number, `amount_minor` what it moved, reserved or released."""

    seq: int
    at: datetime
    id: TransferId
    kind: TransferKind
    debit: AccountId
    credit: AccountId
    asset: str
    amount_minor: int
    code: int = 0
    pending_id: TransferId | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    settles: bool = False
    over_minor: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """What was found, newest first. `next`: behind which transfer to go on; None when there is no more.

    With a filter a page may be short, or empty, and still have a `next`. `archived_until`: on the last page,
    when older ones may be in archive files: up to when those go.
    """

    items: tuple[Item, ...]
    next: TransferId | None
    archived_until: datetime | None = None


class Range(NamedTuple):
    """The numbers between `low` and `below`, both excluded; how many transfers to return, and to look at."""

    low: int
    below: int
    limit: int
    scan: int


_Source = Callable[[int], str]
"""Where a step reads its transfers, given how many it may look at."""


class _Step(NamedTuple):
    scanned: int
    """How many were looked at."""
    top: int
    lowest: TransferId
    rows: Sequence[tuple[Any, ...]]
    """Those that matched: columns, and with an account what lies between them and `top`."""


async def exists(connection: Connection, account: AccountId) -> bool:
    """Tell whether there is such an account."""
    [rows] = await exchange(connection, [(_EXISTS, (bigint(account),))])
    return bool(rows.all())


async def entries(
    connection: Connection, account: AccountId, within: Range, wanted: Filter, newest: Newest | None = None
) -> Page[Entry]:
    """Return an account's entries with the balance after each. `newest`: what the writer remembers of it."""

    async def made(step: _Step) -> list[Entry]:
        top = None
        if newest is not None and newest.transfers and newest.transfers[0][0] == step.top:
            top = newest.balance
        if top is None:
            top = (await reading.sums_at(connection, [account], step.top))[account].balance
        return [_entry(row, account, top) for row in step.rows]

    sources = _of_account(connection, account, within, newest)
    return await _page(connection, sources, within, wanted, made, _running(account))


async def transfers(
    connection: Connection, within: Range, wanted: Filter, account: AccountId | None = None,
    newest: Newest | None = None,
) -> Page[Transfer]:  # fmt: skip
    """Return transfers of all accounts, or of one, of which the writer remembers `newest`."""

    async def made(step: _Step) -> list[Transfer]:
        return [_transfer(row) for row in step.rows]

    if account is None:
        sources = _of_all(connection, within)
    else:
        sources = _of_account(connection, account, within, newest)
    return await _page(connection, sources, within, wanted, made)


async def _page(
    connection: Connection, sources: AsyncIterator[_Source], within: Range, wanted: Filter,
    made: Callable[[_Step], Awaitable[list[Item]]], running: str = "",
) -> Page[Item]:  # fmt: skip
    found: list[Item] = []
    left = within.scan
    matches, parameters = wanted.sql()
    async for source in sources:
        text = _STEP.format(
            branches=source(left), columns=_COLUMNS, running=running, matches=matches, scan=left,
            limit=within.limit - len(found),
        )  # fmt: skip
        step = _step(await (await connection.execute(text, parameters or None, binary=True)).fetchall())
        if step.rows:
            found += await made(step)
        left -= step.scanned
        if len(found) == within.limit:
            return Page(tuple(found), step.rows[-1][2])
        if left == 0:
            return Page(tuple(found), step.lowest)
    return Page(tuple(found), None)


def _step(rows: Sequence[tuple[Any, ...]]) -> _Step:
    scanned, top, lowest = rows[0][:3]
    return _Step(scanned, top, lowest, [row[3:] for row in rows if row[3] is not None])


async def _of_account(
    connection: Connection, account: AccountId, within: Range, newest: Newest | None
) -> AsyncIterator[_Source]:
    """Walk back through the segments that an account may touch, more and more of them at a time."""
    size = _GROUP
    ids = None if newest is None else _ids(newest)
    async for touched in _touched(connection, account, within):
        while touched:
            group, touched = touched[:size], touched[size:]
            yield _account_source(group, account, within, ids or {})
            size *= _GROUP_GROWS


def _ids(newest: Newest) -> dict[int, list[str]]:
    """Return the ids that the writer remembers, by segment: of each that it knows to its beginning."""
    found: dict[int, list[str]] = {number: [] for number in newest.segments}
    for seq, i in newest.transfers:
        found.setdefault(segment_of(seq), []).append(str(i))
    return found


def _account_source(
    group: Sequence[Segment], account: AccountId, within: Range, ids: Mapping[int, Sequence[str]]
) -> _Source:
    texts = [
        branch.format(
            columns=_COLUMNS, table=segment.table, account=int(account), low=within.low, below=within.below,
            ids=",".join(ids.get(segment.number, ())), scan="{scan}",
        )
        for segment in group
        for branch in _branches(segment, known=segment.number in ids)
    ]  # fmt: skip
    return lambda scan: "\n    union all".join(texts).replace("{scan}", str(scan))


def _branches(segment: Segment, *, known: bool) -> tuple[str, ...]:
    if segment.indexed:
        return _DEBITED, _CREDITED
    return (_REMEMBERED if known else _TOUCHED,)


async def _touched(
    connection: Connection, account: AccountId, within: Range
) -> AsyncIterator[Sequence[Segment]]:
    """Walk back through those without all their marks, then the span below, then from mark to mark."""
    oldest, top = segment_of(within.low + 1), segment_of(within.below - 1)
    tail = await segments.tail(connection)
    yield [segment for segment in reversed(tail) if oldest <= segment.number <= top]
    below = min(first_of(top + 1), END, *(segment.first for segment in tail[:1]))
    while below > within.low + 1:
        parameters = integer(min(segment_of(below - 1), _SEGMENT_MAX)), bigint(account)
        hops = (await exchange(connection, [(_HOPS, parameters)]))[0].all()
        yield [Segment(*found) for _, _, *found in hops if found[0] is not None and found[0] >= oldest]
        place, first = hops[-1][:2]
        below = first_of(first) if place == _FETCHED else 0


async def _of_all(connection: Connection, within: Range) -> AsyncIterator[_Source]:
    """Walk back through the segments that a range of numbers covers."""
    top = segment_of(within.below - 1)
    while True:
        spans = (await exchange(connection, [(_SPANS, (bigint(top),))]))[0].all()
        for number, last_seq in spans:
            first, below = first_of(number), min(within.below, last_seq + 1)
            if below <= within.low + 1:
                return
            if below > first:
                yield partial(_window, number, max(within.low, first - 1), below)
        if len(spans) < _FETCHED:
            return
        top = spans[-1][0] - 1


def _window(number: int, low: int, below: int, scan: int) -> str:
    """Return the newest `scan` numbers of a range: there are no gaps inside a segment."""
    return _ANY.format(columns=_COLUMNS, table=table_of(number), low=max(low, below - scan - 1), below=below)


def _running(account: AccountId) -> str:
    """Return columns with what the newer entries of a step add to each of an account's sums."""
    sums = ((side, what) for what in (reading.POSTED, reading.PENDING) for side in ("debit", "credit"))
    return "".join(_NEWER.format(side=side, account=int(account), what=what) for side, what in sums)


def _entry(row: Sequence[Any], account: AccountId, top: Balance) -> Entry:
    """Make an entry of a row with its running sums. `top`: the balance after the newest of the step."""
    _, at, i, kind, debit, credit, _, amount, _, code, pending_id, _, _, _, metadata, *newer = row
    side: Side = "debit" if debit == account else "credit"
    balance = Balance(
        top.debits_posted_minor - newer[0], top.credits_posted_minor - newer[1],
        top.debits_pending_minor - newer[2], top.credits_pending_minor - newer[3],
    )  # fmt: skip
    other = AccountId(credit if side == "debit" else debit)
    return Entry(i, at, KIND_NAMES[kind], side, other, amount, balance, code, pending_id, metadata or {})


def _transfer(row: Sequence[Any]) -> Transfer:
    seq, at, i, kind, debit, credit, asset, amount, _, code, pending_id, expires_at, *more = row
    settles, over, metadata = more
    return Transfer(
        seq=seq, at=at, id=i, kind=KIND_NAMES[kind], debit=debit, credit=credit,
        asset=ASSETS_BY_NUMBER[asset].code, amount_minor=amount, code=code, pending_id=pending_id,
        expires_at=expires_at, metadata=metadata or {}, settles=settles is True, over_minor=over or 0,
    )  # fmt: skip
