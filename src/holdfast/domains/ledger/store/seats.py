"""Who writes the ledger: election and fencing. The database tells whether a writer still lives.

It lives until a moment that it puts off again and again, by the database's clock, and while it has a session:
one that is killed is known to be gone at once, one that hangs or is cut off when its time is over.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from holdfast.base.limits import WRITER_LEASE_S
from holdfast.domains.ledger.errors import WriterAway
from holdfast.platform.db import Connection

_ALIVE: Final = """
(alive_until > clock_timestamp()
 and (address = '' or exists (select from pg_stat_activity
                              where application_name = 'holdfast ledger writer ' || epoch
                                    and datname = current_database())))"""
"""A writer that answers others has a session that it commits on: without it, it is one no more."""
_LOOK: Final = f"select epoch, holder, address, token, {_ALIVE} from ledger.writer"  # noqa: S608 - our own words
_TAKE: Final = f"""
update ledger.writer
set epoch = epoch + 1, holder = %b, address = '', token = %b,
    alive_until = clock_timestamp() + interval '{WRITER_LEASE_S} seconds'
where not {_ALIVE}
returning epoch"""  # noqa: S608 - our own number and words
_FENCE: Final = """
update ledger.head set epoch = %b where one = (select one from ledger.head where epoch < %b for update)"""
"""`for update` waits for whoever has `_HOLD`; a commit, which does not change the epoch, does not wait."""
_HOLD: Final = "select from ledger.head where epoch = %b for key share"
_END_SESSIONS: Final = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where application_name like 'holdfast ledger writer %%'
      and substring(application_name from '[0-9]+$')::bigint < %b
      and datname = current_database()"""
_END_OWN: Final = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where application_name = %b and datname = current_database() and pid <> pg_backend_pid()"""
_END_PAUSE_S: Final = 0.02
_COMMITTED: Final = "select epoch, commits from ledger.head for update"
_ANNOUNCE: Final = "update ledger.writer set address = %b where epoch = %b"
_RENEW: Final = f"""
update ledger.writer set alive_until = clock_timestamp() + interval '{WRITER_LEASE_S} seconds'
where epoch = %b"""  # noqa: S608 - our own number
_LEAVE: Final = "update ledger.writer set alive_until = '-infinity' where epoch = %b"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes. `address`: where it answers; empty while it is still reading the ledger."""

    epoch: int
    holder: str
    address: str
    token: bytes
    alive: bool


def session_name(epoch: int) -> str:
    """Return how the sessions of a writer are named, so that its successor can end them."""
    return f"holdfast ledger writer {epoch}"


async def look(connection: Connection) -> Holder:
    """Read who writes."""
    row = await (await connection.execute(_LOOK, binary=True)).fetchone()
    if row is None:
        raise RuntimeError("ledger.writer has no row")
    return Holder(*row)


async def take(connection: Connection, holder: str, token: bytes) -> int | None:
    """Become the writer if there is none alive, and return the epoch.

    From then on no earlier writer can commit: its sessions are ended, and the head names another epoch.
    """
    async with connection.transaction():
        await connection.execute("set local synchronous_commit = on")
        row = await (await connection.execute(_TAKE, (holder, token), binary=True)).fetchone()
    if row is None:
        return None
    epoch = int(row[0])
    await connection.execute(_END_SESSIONS, (epoch,), binary=True)
    await connection.execute(_FENCE, (epoch, epoch), binary=True)
    return epoch


async def announce(connection: Connection, epoch: int, address: str) -> None:
    """Tell the others where the writer answers."""
    await connection.execute(_ANNOUNCE, (address, epoch), binary=True)


async def renew(connection: Connection, epoch: int) -> bool:
    """Say that the writer lives; False when another has taken its place."""
    return (await connection.execute(_RENEW, (epoch,), binary=True)).rowcount > 0


async def leave(connection: Connection, epoch: int) -> None:
    """Give the seat up, so that another can have it at once."""
    await connection.execute(_LEAVE, (epoch,), binary=True)


async def hold(connection: Connection, epoch: int) -> None:
    """Let no other begin to write before the transaction ends. Raises: `WriterAway` when one has."""
    if not (await connection.execute(_HOLD, (epoch,), binary=True)).rowcount:
        raise WriterAway


async def committed(connection: Connection, epoch: int, commits: int) -> bool | None:
    """Tell whether a commit of this writer happened whose session was lost; None when others came after.

    Other sessions of this writer are ended first, so that none can do anything after we have looked.
    """
    others = 1
    while others:
        row = await (await connection.execute(_END_OWN, (session_name(epoch),), binary=True)).fetchone()
        others = row[0] if row else 0
        await asyncio.sleep(_END_PAUSE_S if others else 0.0)
    row = await (await connection.execute(_COMMITTED)).fetchone()
    if row is None or row[1] < commits:
        return False
    return True if row[0] == epoch else None
