"""Reading what was posted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from holdfast.base.ids import TransferId
from holdfast.domains.ledger.model import Outcome, Posting
from holdfast.platform import arrays
from holdfast.platform.db import Connection

_FIND: Final = """
select id, 0 as outcome, amount from ledger.transfers where id = any (%b::uuid[])
union all
select id, outcome, 0 from ledger.refusals where id = any (%b::uuid[])"""


async def find(connection: Connection, ids: Sequence[UUID]) -> dict[TransferId, Posting]:
    """Return what became of each id that was seen."""
    packed = arrays.uuids(arrays.uuid_bytes(ids))
    rows = await connection.execute(_FIND, (packed, packed), binary=True)
    return {
        TransferId(i): Posting(TransferId(i), Outcome(outcome), amount) for i, outcome, amount in await rows.fetchall()
    }


async def stands_once_settled(connection: Connection, transfer: UUID, account: int) -> bool:
    """Tell whether a transfer stands, once no transaction that touches `account` is under way.

    A transaction that posted it locked the account, so having that lock means that it is over.
    """
    await connection.execute("set local lock_timeout = '5s'")
    await connection.execute("select from ledger.balances where number = %b for update", (account,))
    found = await connection.execute("select from ledger.transfers where id = %b", (transfer,))
    return found.rowcount > 0
