"""Events, written in the transaction of the fact itself and handed on afterwards.

So nothing is announced that did not happen, and nothing that happened goes unannounced.

Rows of concurrent transactions become visible out of order, so a cursor over ids or times would skip
some. Each row carries its transaction id, and a reader goes only as far as the oldest transaction that
was still running when it looked (`pg_snapshot_xmin`): below that horizon nothing can appear any more.
Only transactions that write hold the horizon back, but those of the whole cluster do, also of databases that
are not ours. What follows from a batch is written in the same
transaction that moves the follower's cursor: once and only once, however often a worker dies.

Transaction ids belong to one PostgreSQL cluster, and mean nothing in another into which the database was
dumped and loaded. So a follower knows its cluster by the system identifier. When that has changed,
`relay` renumbers: what some follower may not have read is handed on again, so what follows from an event
must bear coming twice after a restore.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from holdfast.base.ids import EventId
from holdfast.base.values import quick
from holdfast.platform.db import Connection, Database
from holdfast.platform.unit import Statement, Write


@quick
@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    `type` is `noun.participle`, `subject` a public id, `owner` the merchant to tell.
    """

    id: EventId
    type: str
    owner: UUID | None
    subject: str
    facts: Mapping[str, object]
    at: datetime


_encode: Final = msgspec.json.Encoder(enc_hook=str).encode

ADD: Final = Statement(
    name="outbox.add",
    sql="""
        insert into outbox.events (id, type, owner, subject, facts, at)
        select id, type, owner, subject, facts::jsonb, at
        from unnest(%b::uuid[], %b::text[], %b::uuid[], %b::text[], %b::text[], %b::timestamptz[])
            as new (id, type, owner, subject, facts, at)""",
    columns=("uuid", "text", "uuid", "text", "text", "timestamptz"),
    rank=900,
)

Follow = Callable[[Connection, Sequence[Event]], Awaitable[None]]
"""Does what follows from a batch of events, on the connection (and in the transaction) that it is given."""


def announce(event: Event) -> Write:
    """Return the write that announces `event` if, and only if, its unit commits."""
    facts = _encode(event.facts).decode()
    return Write(ADD, (event.id, event.type, event.owner, event.subject, facts, event.at))


async def relay(database: Database, follower: str, follow: Follow, *, now: datetime, limit: int = 500) -> int:
    """Hand `follower` the next events, at most `limit`, and return how many.

    Its cursor moves in the same transaction.

    One worker at a time serves a follower; another returns 0 at once. A new follower begins with the first
    event kept. Raises: `DatabaseUnavailable`, and whatever `follow` raises (nothing has moved then).
    """
    async with database.transaction() as connection:
        cursor = await connection.execute(_TAKE_CURSOR, (follower,))
        place = await cursor.fetchone()
        if place is None:
            await connection.execute(_NEW_CURSOR, (follower, now))
            return 0
        if not place[2]:
            await _renumber(connection)
            return 0
        rows = await (await connection.execute(_NEXT, (place[0], place[1], limit))).fetchall()
        if not rows:
            return 0
        await follow(connection, [Event(EventId(row[0]), *row[1:6]) for row in rows])
        await connection.execute(_MOVE_CURSOR, (rows[-1][6], rows[-1][0], len(rows), now, follower))
        return len(rows)


async def _renumber(connection: Connection) -> None:
    """Put events and cursors on a new footing after the database has moved to another cluster.

    An event counts as read when every follower's cursor had passed it and it is older than their last move:
    what was written after the move has ids that may lie below the old cursors, but it is younger than they
    are.
    """
    await connection.execute("lock table outbox.followers in exclusive mode")
    await connection.execute(_RENUMBER_EVENTS)
    await connection.execute(_RENUMBER_FOLLOWERS)


async def listing(
    database: Database,
    owner: UUID,
    *,
    after: UUID | None = None,
    limit: int = 25,
    type: str | None = None,  # noqa: A002 - the field's own word
) -> list[Event]:
    """Return `owner`'s events, newest first, from the one before `after`; only those of `type` when given."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            _LISTING, {"owner": owner, "after": after, "type": type, "limit": limit}
        )
        return [Event(EventId(row[0]), *row[1:6]) for row in await cursor.fetchall()]


async def find(database: Database, owner: UUID, event: UUID) -> Event | None:
    """Return one event of `owner`, or None."""
    async with database.connection() as connection:
        row = await (await connection.execute(_FIND, (event, owner))).fetchone()
        return None if row is None else Event(EventId(row[0]), *row[1:6])


async def forget(database: Database, *, before: datetime, limit: int = 5_000) -> int:
    """Delete events older than `before` that every follower has read, at most `limit`; return how many."""
    async with database.transaction() as connection:
        return (await connection.execute(_FORGET, (before, limit))).rowcount


async def lag(database: Database, *, now: datetime) -> float:
    """Return the age in seconds of the oldest event that some follower has not read; 0 when all is read."""
    async with database.connection() as connection:
        row = await (await connection.execute(_LAG)).fetchone()
        return max(0.0, (now - row[0]).total_seconds()) if row is not None and row[0] is not None else 0.0


_FIELDS: Final = "id, type, owner, subject, facts, at"
_TAKE_CURSOR: Final = """
    select transaction_id, event_id, cluster = (select system_identifier from pg_control_system())
    from outbox.followers where name = %s for update skip locked"""
_NEW_CURSOR: Final = """
    insert into outbox.followers (name, transaction_id, event_id, cluster, moved_at)
    select %s, '0', '00000000-0000-0000-0000-000000000000', system_identifier, %s from pg_control_system()
    on conflict do nothing"""
_NEXT: Final = f"""
    select {_FIELDS}, transaction_id from outbox.events
    where (transaction_id, id) > (%s::xid8, %s::uuid)
      and transaction_id < pg_snapshot_xmin(pg_current_snapshot())
    order by transaction_id, id limit %s"""  # noqa: S608 - constants only
_MOVE_CURSOR: Final = """
    update outbox.followers
    set transaction_id = %s::xid8, event_id = %s, relayed = relayed + %s, moved_at = %s
    where name = %s"""
_RENUMBER_EVENTS: Final = """
    update outbox.events e set transaction_id = case when exists (
        select from outbox.followers f
        where (f.transaction_id, f.event_id) < (e.transaction_id, e.id)
           or e.at >= f.moved_at - interval '10 minutes') then '1'::xid8 else '0'::xid8 end"""
_RENUMBER_FOLLOWERS: Final = """
    update outbox.followers
    set transaction_id = '0', event_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff',
        cluster = (select system_identifier from pg_control_system())"""
_LISTING: Final = f"""
    select {_FIELDS} from outbox.events
    where owner = %(owner)s and (%(after)s::uuid is null or id < %(after)s)
      and (%(type)s::text is null or type = %(type)s)
    order by id desc limit %(limit)s"""  # noqa: S608 - constants only
_FIND: Final = f"select {_FIELDS} from outbox.events where id = %s and owner = %s"  # noqa: S608 - constants only
_FORGET: Final = """
    delete from outbox.events where id in (
        select e.id from outbox.events e
        where e.at < %s and exists (select from outbox.followers) and not exists (
            select from outbox.followers f where (f.transaction_id, f.event_id) < (e.transaction_id, e.id))
        order by e.transaction_id, e.id limit %s)"""
_LAG: Final = """
    select min(e.at) from outbox.events e
    where (e.transaction_id, e.id) > (select f.transaction_id, f.event_id from outbox.followers f
                                      order by f.transaction_id, f.event_id limit 1)"""
