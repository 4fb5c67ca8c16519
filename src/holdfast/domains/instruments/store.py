"""All SQL of instruments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from holdfast.base.ids import InstrumentId, MerchantId, PayerId
from holdfast.domains.instruments.model import Instrument, Kind, Payer, Wallet
from holdfast.platform.db import Connection

_ADD_PAYER: Final = """
insert into instruments.payers (id, merchant, name, reference, created_at) values (%s, %s, %s, %s, %s)
on conflict (id) do nothing
"""

_ADD_INSTRUMENT: Final = """
insert into instruments.instruments (id, payer, kind, label, token, position, created_at)
values (%s, %s, %s, %s, %s, %s, %s) on conflict (id) do nothing
"""

_LOCK_PAYER: Final = "select 1 from instruments.payers where id = %s for update"

_PAYERS: Final = """
select id, merchant, name, reference, created_at from instruments.payers where id = any(%b::uuid[])
"""

_INSTRUMENTS: Final = """
select id, payer, kind, label, token, position, created_at from instruments.instruments
where payer = any(%b::uuid[]) and removed_at is null order by payer, position, id
"""

_PAYERS_OF: Final = """
select id, merchant, name, reference, created_at from instruments.payers
where merchant = %(merchant)s and (%(after)s::uuid is null or id < %(after)s) order by id desc limit %(limit)s
"""

_ORDER: Final = """
update instruments.instruments i set position = o.position
from unnest(%s::uuid[]) with ordinality as o(id, position) where i.id = o.id and i.payer = %s
"""

_REMOVE: Final = """
update instruments.instruments set removed_at = %s where id = %s and payer = %s and removed_at is null
"""


def _payer(row: Sequence[Any]) -> Payer:
    merchant = None if row[1] is None else MerchantId(row[1])
    return Payer(PayerId(row[0]), merchant, row[2], row[3], row[4])


def _instrument(row: Sequence[Any]) -> Instrument:
    return Instrument(InstrumentId(row[0]), PayerId(row[1]), Kind(row[2]), row[3], row[4], row[5], row[6])


async def add_payer(connection: Connection, payer: Payer) -> None:
    """Keep a payer; nothing happens when the id is there already."""
    await connection.execute(
        _ADD_PAYER, (payer.id, payer.merchant, payer.name, payer.reference, payer.created_at)
    )


async def lock_payer(connection: Connection, payer: PayerId) -> bool:
    """Lock a payer's row until the transaction ends; return whether there is one."""
    return await (await connection.execute(_LOCK_PAYER, (payer,))).fetchone() is not None


async def add_instrument(connection: Connection, instrument: Instrument) -> None:
    """Keep an instrument; nothing happens when the id is there already."""
    i = instrument
    await connection.execute(
        _ADD_INSTRUMENT, (i.id, i.payer, i.kind.value, i.label, i.token, i.position, i.created_at)
    )


async def wallets(connection: Connection, payers: Sequence[UUID]) -> dict[PayerId, Wallet]:
    """Return those of `payers` that exist, with their instruments in order."""
    ids = list(payers)
    found = [_payer(row) async for row in await connection.execute(_PAYERS, (ids,), binary=True)]
    held: dict[PayerId, list[Instrument]] = {payer.id: [] for payer in found}
    async for row in await connection.execute(_INSTRUMENTS, (ids,), binary=True):
        instrument = _instrument(row)
        held[instrument.payer].append(instrument)
    return {payer.id: Wallet(payer, tuple(held[payer.id])) for payer in found}


async def payers_of(
    connection: Connection, merchant: MerchantId, after: PayerId | None, limit: int
) -> list[Payer]:
    """Return a merchant's payers, newest first, beginning after `after`."""
    facts = {"merchant": merchant, "after": after, "limit": limit}
    return [_payer(row) async for row in await connection.execute(_PAYERS_OF, facts)]


async def order(connection: Connection, payer: PayerId, instruments: Sequence[InstrumentId]) -> None:
    """Put a payer's instruments into this order."""
    await connection.execute(_ORDER, (list(instruments), payer))


async def remove(connection: Connection, payer: PayerId, instrument: InstrumentId, now: datetime) -> bool:
    """Remove an instrument; return whether it was there."""
    return (await connection.execute(_REMOVE, (now, instrument, payer))).rowcount == 1
