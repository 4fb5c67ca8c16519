"""What the tables know of an id: the transfer that stands under it, its refusal, what became of a hold.

An id is looked for only in the segments that can hold it. A time-ordered one (UUID version 7) was not posted
more than `EARLY_S` before its own time, unless its batch says so in `early`; others may be anywhere. Nearly
always it was posted at about its own time, so the first segments from there on are asked first.

What was archived is looked for in what is kept of it, in the same exchange and after the tables: so nothing
is missed that is moved meanwhile.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.money import ASSETS_BY_NUMBER
from holdfast.domains.ledger.model import NewTransfer, Outcome, Posting, TransferKind
from holdfast.domains.ledger.rules.rulebook import (
    BALANCING_NUMBERS,
    KIND_NUMBERS,
    Hold,
    HoldState,
    Known,
    Looked,
)
from holdfast.domains.ledger.store import archived
from holdfast.domains.ledger.store.archived import Found
from holdfast.domains.ledger.store.segments import bigint, first_of, segment_of
from holdfast.platform import arrays
from holdfast.platform.db import Connection
from holdfast.platform.exchange import Command, Rows, exchange

Side = Literal["debit", "credit"]

KIND_NAMES: Final[tuple[TransferKind, ...]] = tuple(sorted(KIND_NUMBERS, key=lambda kind: KIND_NUMBERS[kind]))
"""By number."""
BALANCING_NAMES: Final[dict[int | None, Side | None]] = {n: side for side, n in BALANCING_NUMBERS.items()}
HOLD_STATES: Final[dict[int | None, HoldState]] = {
    None: "open",
    2: "posted",
    3: "voided",
    4: "expired",
    5: "posted",
}
"""By the kind of the transfer that settled or released it."""
EARLY_S: Final = 60
"""An id whose own time is this much ahead, seconds, is surely named by its batch (`CLOCK_AHEAD_MS_MAX`)."""

_STORED: Final = """
select t.id, t.debit, t.credit, t.asset, t.amount, t.kind, t.balancing, t.asked, t.pending_id, t.expires_at,
       t.code, t.metadata, t.settles, t.over, t.seq
from ledger.transfers t where t.id = any (%b::uuid[]) and t.seq >= %b::bigint and t.seq < %b::bigint"""
_HOLDS: Final = """
select t.id, t.debit, t.credit, t.asset, t.amount, t.expires_at, t.over, t.settles from ledger.transfers t
where t.id = any (%b::uuid[]) and t.kind = 1 and t.seq >= %b::bigint and t.seq < %b::bigint"""
_SETTLED: Final = """
select t.pending_id, t.kind from ledger.transfers t
where t.pending_id = any (%b::uuid[]) and t.pending_id is not null
  and t.seq >= %b::bigint and t.seq < %b::bigint"""
_REFUSED: Final = "select id, outcome from ledger.refusals where id = any (%b::uuid[])"
_SEGMENTS: Final = """
select number, last_at from ledger.segments
where last_at is null or last_at >= %b::timestamptz order by number"""
_EARLY: Final = """
select e.id, b.first_seq from ledger.batches b cross join unnest(b.early) as e (id)
where b.early is not null and e.id = any (%b::uuid[])"""
_VERSION_7: Final = 7
_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_EARLY_BY: Final = timedelta(seconds=EARLY_S)
_AT_MOST_MS: Final = 200_000_000_000_000
"""Later than the year 8000, which the times of PostgreSQL and Python both still reach."""
_SPAN: Final = 2
_SPAN_GROWS: Final = 4
_FLOORS_MAX: Final = 8
"""Ids from more segments than this are looked for together, from the oldest of them on."""


def since(i: UUID) -> datetime:
    """Return a moment before which the transfer with this id was not posted, unless `early` names it."""
    if i.version != _VERSION_7:
        return _UNIX_EPOCH
    made_ms = min(i.int >> 80, _AT_MOST_MS)
    return max(_UNIX_EPOCH, _UNIX_EPOCH + timedelta(milliseconds=made_ms) - _EARLY_BY)


class _Places(NamedTuple):
    """The first segment that can hold each id, and the newest there is.

    `since`: a moment before which each was not posted, None when its batch says that it was.
    """

    floors: dict[UUID, int]
    newest: int
    since: dict[UUID, datetime | None]


async def _places(
    connection: Connection, ids: Sequence[UUID], asked: Sequence[Command] = ()
) -> tuple[_Places, list[Rows]]:
    """Find out where ids can be; `asked` travels along, and its answers are returned as well."""
    moments = {i: since(i) for i in ids}
    oldest, packed = arrays.time(min(moments.values())), arrays.uuids(arrays.uuid_bytes(ids))
    open_ones, early, *answers = await exchange(
        connection, [(_SEGMENTS, (oldest,)), (_EARLY, (packed,)), *asked]
    )
    segments = open_ones.all()
    ends = [last_at or _NEVER for _, last_at in segments]
    floors = {}
    for i, moment in moments.items():
        at = bisect_left(ends, moment)
        if at < len(segments):
            floors[i] = segments[at][0]
    newest = segments[-1][0] if segments else -1
    not_before: dict[UUID, datetime | None] = dict(moments)
    for i, first_seq in early.all():
        not_before[i] = None
        floors[i] = min(segment_of(first_seq), floors.get(i, newest))
        newest = max(newest, floors[i])
    return _Places(floors, newest, not_before), answers


class _Search:
    """Looks for ids by one statement, in a few segments of each at a time."""

    __slots__ = ("_left", "_newest", "_sql", "found")

    def __init__(self, sql: str, ids: Iterable[UUID], places: _Places) -> None:
        self._sql = sql
        self._newest = places.newest
        self._left = {i: places.floors[i] for i in ids if i in places.floors}
        self.found: list[tuple[Any, ...]] = []

    def commands(self, span: int) -> list[Command]:
        """Return what to ask next: all that are left, in `span` segments of each."""
        floors: dict[int, list[UUID]] = {}
        for i, floor in self._left.items():
            floors.setdefault(floor, []).append(i)
        if len(floors) > _FLOORS_MAX:
            span += max(floors) - min(floors)
            floors = {min(floors): list(self._left)}
        self._left = {i: f + span for f, ids in floors.items() for i in ids if f + span <= self._newest}
        return [
            (
                self._sql,
                (arrays.uuids(arrays.uuid_bytes(ids)), bigint(first_of(f)), bigint(first_of(f + span))),
            )
            for f, ids in floors.items()
        ]

    def take(self, answers: Iterable[Rows]) -> None:
        """Take the answers to `commands`: rows that begin with the id."""
        for rows in answers:
            for row in rows.all():
                self.found.append(row)
                self._left.pop(row[0], None)


async def _run(
    connection: Connection, ids: Sequence[UUID], places: _Places, *searches: _Search
) -> dict[UUID, Found]:
    """Run searches side by side until each has found, or looked everywhere; return which ids are archived."""
    span, kept = _SPAN, archived.command(ids, places.since)
    found: dict[UUID, Found] = {}
    while any(asked := [search.commands(span) for search in searches]):
        asked_all = [command for commands in asked for command in commands]
        answers = iter(await exchange(connection, [*asked_all, kept]))
        for search, commands in zip(searches, asked, strict=True):
            search.take([next(answers) for _ in commands])
        found = archived.read(ids, next(answers))
        span *= _SPAN_GROWS
    return found


async def look_up(connection: Connection, ids: Iterable[UUID], pending_ids: Iterable[UUID] = ()) -> Looked:
    """Look for ids, and for the pending transfers that some of them want to settle: two exchanges, mostly.

    What is posted meanwhile by others may be missing.
    """
    wanted, pending = list(dict.fromkeys(ids)), list(dict.fromkeys(pending_ids))
    if not wanted and not pending:
        return Looked()
    packed = arrays.uuids(arrays.uuid_bytes(wanted))
    places, [refusals] = await _places(connection, wanted + pending, [(_REFUSED, (packed,))])
    known, held = _Search(_STORED, wanted, places), _Search(_HOLDS, pending, places)
    settled = _Search(_SETTLED, pending, places)
    old = await _run(connection, list(dict.fromkeys(wanted + pending)), places, known, held, settled)
    kinds: dict[UUID, int] = dict(row[:2] for row in settled.found)
    return Looked(
        known={
            **{i: (old[i].content, old[i].amount) for i in wanted if i in old},
            **{row[0]: transfer_of(row) for row in known.found},
        },
        refused={i: Outcome(outcome) for i, outcome in refusals.all()},
        holds={
            **{i: hold for i in pending if i in old and (hold := old[i].hold) is not None},
            **{row[0]: _hold(row, kinds.get(row[0])) for row in held.found},
        },
    )


def _hold(row: Sequence[Any], ended_by: int | None) -> Hold:
    """Read a row of `_HOLDS`; `ended_by`: the kind of what settled or released it."""
    _, debit, credit, asset, amount, expires_at, over, settles = row
    state = HOLD_STATES[ended_by]
    return Hold(debit, credit, asset, amount, expires_at, state, over or 0, settles is True)


async def stored(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Known]:
    """Return, of each id that stands, what is known of what was asked for, and the amount that it moved."""
    return dict((await look_up(connection, ids)).known)


async def refused(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Outcome]:
    """Return the refusal of each id that stays refused."""
    [rows] = await exchange(connection, [(_REFUSED, (arrays.uuids(arrays.uuid_bytes(ids)),))])
    return {i: Outcome(outcome) for i, outcome in rows.all()}


async def holds(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Hold]:
    """Return each id's pending transfer, if it is one, with what became of it."""
    return dict((await look_up(connection, (), ids)).holds)


async def open_holds(connection: Connection, ids: Iterable[bytes], low: int, high: int) -> dict[UUID, Hold]:
    """Return pending transfers that nothing has settled, whose numbers are from `low` on and below `high`."""
    [rows] = await exchange(connection, [(_HOLDS, (arrays.uuids(b"".join(ids)), bigint(low), bigint(high)))])
    return {UUID(int=row[0].int): _hold(row, None) for row in rows.all()}


async def find(connection: Connection, ids: Iterable[UUID]) -> dict[TransferId, Posting]:
    """Return what became of each id that was seen."""
    looked = await look_up(connection, ids)
    found = {TransferId(i): Posting(TransferId(i), outcome) for i, outcome in looked.refused.items()}
    for i, (_, amount) in looked.known.items():
        found[TransferId(i)] = Posting(TransferId(i), Outcome.POSTED, amount)
    return found


async def seq_of(connection: Connection, i: UUID, account: int | None = None) -> int | None:
    """Return the number of a transfer (that touches `account`); None when there is none.

    Of one that is archived it is not known here which accounts it touches.
    """
    places, _ = await _places(connection, [i])
    search = _Search(_STORED, [i], places)
    old = await _run(connection, [i], places, search)
    for _, debit, credit, *_, seq in search.found:
        if account in (None, debit, credit):
            return int(seq)
    return old[i].seq if i in old else None


def transfer_of(row: Sequence[Any]) -> tuple[NewTransfer, int]:
    """Read a stored transfer as what was asked for, and the amount that it moved.

    The row: id, debit, credit, asset, amount, kind, balancing, asked, pending_id, expires_at, code, metadata,
    settles, over.
    """
    i, debit, credit, asset, amount, kind, balancing, asked, pending_id, expires_at, code, *more = row
    metadata, settles, over, *_ = more
    return NewTransfer(
        id=TransferId(i),
        debit=AccountId(debit),
        credit=AccountId(credit),
        asset=ASSETS_BY_NUMBER[asset].code,
        amount_minor=amount if asked is None else None if asked < 0 else asked,
        kind=KIND_NAMES[kind],
        pending_id=pending_id,
        expires_at=expires_at,
        balancing=BALANCING_NAMES[balancing],
        code=code,
        metadata=metadata or {},
        settles=settles is True,
        over_minor=over or 0,
    ), amount
