"""What is still known here of transfers that were moved to archive files: read by whoever looks an id up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np

from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.rules.content import Archived
from holdfast.domains.ledger.rules.rulebook import Hold, HoldState
from holdfast.domains.ledger.store.kept import DETAIL, HOLD, ID, NEVER
from holdfast.domains.ledger.store.segments import bigint, first_of
from holdfast.platform import arrays
from holdfast.platform.db import Connection
from holdfast.platform.exchange import Command, Rows, exchange

_FIND: Final = """
select u.place - 1, c.segment, c.ids, c.details, c.holds
from unnest(%b::uuid[], %b::timestamptz[]) with ordinality as u (id, since, place)
join ledger.archives a on a.last_at >= u.since
cross join lateral (
    select * from ledger.archived c where c.segment = a.segment and c.first_id <= u.id
    order by c.first_id desc limit 1
) c
where position(uuid_send(u.id) in c.ids) > 0"""
_LIST: Final = """
select segment, file, sha256, bytes, transfers, opened_at, last_at, last_seq, archived_at
from ledger.archives order by segment"""
_END: Final = "select last_at, last_seq from ledger.archives order by segment desc limit 1"
_TOUCHED: Final = """
select exists (
    select from ledger.marks where account = %b::bigint and seq <= %b::bigint and seq > %b::bigint
)"""
_ANCIENT: Final = datetime(1, 1, 2, tzinfo=chain.moment(0).tzinfo)
_STATES: Final[dict[int, HoldState]] = {2: "posted", 3: "voided", 4: "expired", 5: "posted"}


class Archive(NamedTuple):
    """One archived segment. `sha256` and `bytes` are of its file as it was written."""

    segment: int
    file: str
    sha256: bytes
    bytes: int
    transfers: int
    opened_at: datetime
    last_at: datetime
    last_seq: int
    archived_at: datetime


class Found(NamedTuple):
    """An archived transfer. `hold`: what became of it, where it was pending."""

    seq: int
    amount: int
    content: Archived
    hold: Hold | None


def command(ids: Sequence[UUID], since: Mapping[UUID, datetime | None]) -> Command:
    """Return what looks for ids; none of them was posted before the moment given for it."""
    moments = arrays.column("timestamptz", [since[i] or _ANCIENT for i in ids])
    return _FIND, (arrays.uuids(arrays.uuid_bytes(ids)), moments)


def read(ids: Sequence[UUID], rows: Rows) -> dict[UUID, Found]:
    """Read the answer to `command`. A row may hold other ids whose bytes only look alike at their seam."""
    found = {}
    for place, segment, *columns in rows.all():
        one = _in_row(ids[place], segment, *columns)
        if one is not None:
            found[ids[place]] = one
    return found


def _in_row(i: UUID, segment: int, ids: bytes, details: bytes, holds: bytes | None) -> Found | None:
    entries = np.flatnonzero(np.frombuffer(ids, ID) == np.frombuffer(i.bytes, ID)).tolist()
    if not entries:
        return None
    entry = entries[0]
    place, amount, content = np.frombuffer(details, DETAIL)[entry].item()
    hold = None
    for row in np.frombuffer(holds or b"", HOLD):
        if row["entry"] == entry:
            hold = _hold(row, amount)
    return Found(first_of(segment) + place, amount, Archived(content), hold)


def _hold(row: Any, amount: int) -> Hold:  # noqa: ANN401 - a row of an array
    _, debit, credit, asset, kind, _, expires_at = row.item()
    moment = None if expires_at == NEVER else chain.moment(expires_at)
    return Hold(debit, credit, asset, amount, moment, _STATES[kind])


async def archives(connection: Connection) -> list[Archive]:
    """Return the archived segments, oldest first."""
    return [Archive(*row) for row in await (await connection.execute(_LIST, binary=True)).fetchall()]


async def older_until(
    connection: Connection, low: int, below: int, account: int | None = None
) -> datetime | None:
    """Return up to when transfers (of an account) between two numbers are archived; None when none are."""
    row = await (await connection.execute(_END)).fetchone()
    if row is None or low >= min(row[1], below - 1):
        return None
    if account is not None:
        parameters = (bigint(account), bigint(row[1]), bigint(low))
        [rows] = await exchange(connection, [(_TOUCHED, parameters)])
        if not rows.all()[0][0]:
            return None
    last_at: datetime = row[0]
    return last_at


async def end(connection: Connection) -> int:
    """Return the number of the newest archived transfer; -1 when nothing is archived."""
    row = await (await connection.execute(_END)).fetchone()
    return -1 if row is None else int(row[1])
