"""All SQL of webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from holdfast.base.ids import EndpointId
from holdfast.base.secret import Secret
from holdfast.domains.webhooks.model import Claim, Delivery, Endpoint, Owed, Result, Try
from holdfast.platform.db import Connection, Row
from holdfast.platform.unit import Statement

ADD_ENDPOINT: Final = Statement(
    name="webhooks.add_endpoint",
    sql="""
        insert into webhooks.endpoints
            (id, owner, url, description, event_types, secret, created_at, updated_at)
        select id, owner, url, description, coalesce(string_to_array(nullif(types, ''), ' '), '{}'),
               secret, at, at
        from unnest(%b::uuid[], %b::uuid[], %b::text[], %b::text[], %b::text[], %b::text[], %b::timestamptz[])
             as new (id, owner, url, description, types, secret, at)""",
    columns=("uuid", "uuid", "text", "text", "text", "text", "timestamptz"),
)

_ENDPOINT: Final = """id, owner, url, description, event_types, secret, previous_secret,
    previous_secret_until, state, disabled_reason, failing_since, created_at, updated_at"""
_DELIVERY: Final = """d.id, d.endpoint_id, d.message_id, d.event_type, d.body, d.state, d.tries, d.next_at,
    d.last_status, d.last_error, d.created_at, d.finished_at"""


def _endpoint(row: Row) -> Endpoint:
    return Endpoint(
        id=EndpointId(row[0]),
        owner=row[1],
        url=row[2],
        description=row[3],
        event_types=tuple(row[4]),
        secret=Secret(row[5]),
        previous_secret=Secret(row[6]) if row[6] is not None else None,
        previous_secret_until=row[7],
        state=row[8],
        disabled_reason=row[9],
        failing_since=row[10],
        created_at=row[11],
        updated_at=row[12],
    )


def _delivery(row: Row) -> Delivery:
    return Delivery(row[0], EndpointId(row[1]), *row[2:])


async def _all(connection: Connection, sql: str, parameters: Any) -> list[Row]:  # noqa: ANN401 - as psycopg takes them
    return await (await connection.execute(sql, parameters)).fetchall()


async def endpoints(
    connection: Connection, owner: UUID, *, after: UUID | None, limit: int, endpoint: UUID | None = None
) -> list[Endpoint]:
    """Return `owner`'s endpoints, newest first; only `endpoint` when given."""
    sql = f"""
        select {_ENDPOINT} from webhooks.endpoints
        where owner = %(owner)s and state <> 'deleted' and (%(after)s::uuid is null or id < %(after)s)
          and (%(endpoint)s::uuid is null or id = %(endpoint)s)
        order by id desc limit %(limit)s"""  # noqa: S608 - constants only
    asked = {"owner": owner, "after": after, "limit": limit, "endpoint": endpoint}
    return [_endpoint(row) for row in await _all(connection, sql, asked)]


async def count_endpoints(connection: Connection, owner: UUID) -> int:
    """Return how many endpoints `owner` has."""
    sql = "select count(*) from webhooks.endpoints where owner = %s and state <> 'deleted'"
    return int((await _all(connection, sql, (owner,)))[0][0])


async def insert_endpoint(connection: Connection, row: Sequence[object]) -> None:
    """Run `ADD_ENDPOINT` for one row, outside of a commit lane."""
    await connection.execute(ADD_ENDPOINT.sql.encode(), [[value] for value in row])


async def change_endpoint(
    connection: Connection, owner: UUID, endpoint: UUID, changes: dict[str, object]
) -> bool:
    """Set the given columns; False when there is no such endpoint."""
    sets = ", ".join(f"{name} = %({name})s" for name in changes)
    sql = f"""update webhooks.endpoints set {sets}
        where id = %(the_id)s and owner = %(the_owner)s and state <> 'deleted'"""  # noqa: S608 - names from operations
    done = await connection.execute(sql.encode(), {**changes, "the_id": endpoint, "the_owner": owner})
    return done.rowcount == 1


async def owe(connection: Connection, messages: Sequence[Owed], *, now: datetime) -> int:
    """Owe each message to every enabled endpoint that wants it.

    Again for the same message changes nothing.
    """
    sql = """
        insert into webhooks.deliveries (id, endpoint_id, message_id, event_type, body, next_at, created_at)
        select gen_random_uuid(), e.id, m.id, m.event_type, m.body, %b, %b
        from unnest(%b::text[], %b::uuid[], %b::text[], %b::text[]) as m (id, owner, event_type, body)
        join webhooks.endpoints e on e.owner = m.owner and e.state = 'enabled'
             and (e.event_types = '{}' or m.event_type = any (e.event_types))
        on conflict (endpoint_id, message_id) do nothing"""
    columns = [
        list(column)
        for column in zip(*((m.id, m.owner, m.event_type, m.body) for m in messages), strict=True)
    ]
    return (await connection.execute(sql, (now, now, *columns))).rowcount


async def claim(
    connection: Connection, *, now: datetime, leased_until: datetime, limit: int, per_endpoint: int
) -> list[Claim]:
    """Lease what is due, at most `per_endpoint` at one endpoint: one that hangs starves no other."""
    sql = """
        with endpoint as (
            select e.id, e.url, e.secret, e.failing_since,
                   case when e.previous_secret_until > %(now)s then e.previous_secret end as previous,
                   %(per_endpoint)s - (select count(*) from webhooks.deliveries f where f.endpoint_id = e.id
                        and f.state = 'owed' and f.leased_until > %(now)s) as free
            from webhooks.endpoints e where e.state = 'enabled' and exists (
                select from webhooks.deliveries d
                where d.endpoint_id = e.id and d.state = 'owed' and d.next_at <= %(now)s)
        ), due as (
            select d.id from endpoint e cross join lateral (
                select d.id from webhooks.deliveries d
                where d.endpoint_id = e.id and d.state = 'owed' and d.next_at <= %(now)s
                  and (d.leased_until is null or d.leased_until <= %(now)s)
                order by d.next_at limit greatest(e.free, 0) for update skip locked) d
            limit %(limit)s
        )
        update webhooks.deliveries d set leased_until = %(leased_until)s, fence = d.fence + 1
        from due, endpoint e where d.id = due.id and e.id = d.endpoint_id
        returning d.id, d.endpoint_id, e.url, e.secret, e.previous, d.message_id, d.body, d.tries + 1,
            d.tries + 1 - d.ladder_from, d.fence"""
    asked = {"now": now, "leased_until": leased_until, "limit": limit, "per_endpoint": per_endpoint}
    found = []
    for row in await _all(connection, sql, asked):
        secrets = tuple(Secret(text) for text in (row[3], row[4]) if text is not None)
        found.append(Claim(row[0], EndpointId(row[1]), row[2], secrets, *row[5:]))
    return found


async def failing_since(connection: Connection, endpoint: UUID) -> datetime | None:
    """Return since when the endpoint has taken nothing; None while it works. Locks its row."""
    rows = await _all(
        connection, "select failing_since from webhooks.endpoints where id = %s for update", (endpoint,)
    )
    return rows[0][0] if rows else None


async def record(
    connection: Connection, claimed: Claim, result: Result, *, at: datetime, now: datetime
) -> bool:
    """Write down a try; False when the lease was taken over meanwhile (then nothing is written)."""
    held = await connection.execute(
        """update webhooks.deliveries set tries = %s, last_status = %s, last_error = %s, leased_until = null
           where id = %s and fence = %s and state = 'owed'""",
        (claimed.number, result.status, result.error, claimed.delivery_id, claimed.fence),
    )
    if held.rowcount != 1:
        return False
    await connection.execute(
        """insert into webhooks.tries (delivery_id, number, at, status, error, duration_ms, response)
           values (%s, %s, %s, %s, %s, %s, %s)""",
        (
            claimed.delivery_id,
            claimed.number,
            at,
            result.status,
            result.error,
            result.duration_ms,
            result.response,
        ),
    )
    await connection.execute(
        """update webhooks.endpoints
           set failing_since = case when %s then null else coalesce(failing_since, %s) end
           where id = %s and (failing_since is null) <> %s""",
        (_taken(result), now, claimed.endpoint_id, _taken(result)),
    )
    return True


def _taken(result: Result) -> bool:
    return result.status is not None and 200 <= result.status < 300


async def finish(connection: Connection, delivery: UUID, state: str, *, now: datetime) -> None:
    """End a delivery."""
    await connection.execute(
        "update webhooks.deliveries set state = %s, finished_at = %s, leased_until = null where id = %s",
        (state, now, delivery),
    )


async def postpone(connection: Connection, delivery: UUID, *, next_at: datetime) -> None:
    """Have a delivery tried again at `next_at`."""
    await connection.execute("update webhooks.deliveries set next_at = %s where id = %s", (next_at, delivery))


async def disable(connection: Connection, endpoint: UUID, reason: str, *, now: datetime) -> bool:
    """Switch an endpoint off; False when it was off already."""
    done = await connection.execute(
        """update webhooks.endpoints set state = 'disabled', disabled_reason = %s, updated_at = %s
           where id = %s and state = 'enabled'""",
        (reason, now, endpoint),
    )
    return done.rowcount == 1


async def send_again(connection: Connection, owner: UUID, delivery: UUID, *, now: datetime) -> bool:
    """Owe a finished delivery again, with its ladder from the beginning.

    True also when it is owed already.
    """
    done = await connection.execute(
        """update webhooks.deliveries d set state = 'owed', finished_at = null, next_at = %s,
               ladder_from = d.tries
           from webhooks.endpoints e where d.id = %s and e.id = d.endpoint_id and e.owner = %s""",
        (now, delivery, owner),
    )
    return done.rowcount == 1


async def deliveries(
    connection: Connection, owner: UUID, *, endpoint: UUID | None, after: UUID | None, limit: int
) -> list[Delivery]:
    """Return deliveries of `owner`, of one endpoint when given, newest first."""
    sql = f"""
        select {_DELIVERY} from webhooks.deliveries d join webhooks.endpoints e on e.id = d.endpoint_id
        where e.owner = %(owner)s and (%(endpoint)s::uuid is null or d.endpoint_id = %(endpoint)s)
          and (%(after)s::uuid is null or (d.created_at, d.id) < (
              select p.created_at, p.id from webhooks.deliveries p where p.id = %(after)s))
        order by d.created_at desc, d.id desc limit %(limit)s"""  # noqa: S608 - constants only
    asked = {"owner": owner, "endpoint": endpoint, "after": after, "limit": limit}
    return [_delivery(row) for row in await _all(connection, sql, asked)]


async def delivery(connection: Connection, owner: UUID, wanted: UUID) -> Delivery | None:
    """Return one delivery of `owner`, or None."""
    sql = f"""select {_DELIVERY} from webhooks.deliveries d join webhooks.endpoints e on e.id = d.endpoint_id
        where d.id = %s and e.owner = %s"""  # noqa: S608 - constants only
    rows = await _all(connection, sql, (wanted, owner))
    return _delivery(rows[0]) if rows else None


async def tries(connection: Connection, wanted: UUID) -> list[Try]:
    """Return the tries of a delivery, first to last."""
    sql = """select number, at, status, error, duration_ms, response from webhooks.tries
        where delivery_id = %s order by number"""
    return [Try(*row) for row in await _all(connection, sql, (wanted,))]


async def owed_count(connection: Connection) -> int:
    """Return how many deliveries are owed."""
    return int(
        (await _all(connection, "select count(*) from webhooks.deliveries where state = 'owed'", ()))[0][0]
    )


async def forget(connection: Connection, *, before: datetime, limit: int) -> int:
    """Delete deliveries that ended before `before`, at most `limit`, with their tries; return how many."""
    done = await connection.execute(
        """delete from webhooks.deliveries where id in (
               select id from webhooks.deliveries where state <> 'owed' and finished_at < %s
               order by finished_at limit %s)""",
        (before, limit),
    )
    return done.rowcount
