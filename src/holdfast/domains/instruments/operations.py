"""Payers and their instruments: writes, and the look-up that every payment needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from holdfast.base.ids import InstrumentId, MerchantId, PayerId, uuid_of
from holdfast.base.limits import INSTRUMENTS_PER_PAYER_MAX, PAYER_KEEP_S
from holdfast.domains.instruments import rules, store
from holdfast.domains.instruments.errors import (
    InstrumentInvalid,
    InstrumentNotFound,
    PayerNotFound,
    TooManyInstruments,
)
from holdfast.domains.instruments.model import Instrument, Kind, Payer, Wallet
from holdfast.platform.batch import Lookup
from holdfast.platform.db import Database


class Instruments:
    """Payers and their instruments. `now_s` is a clock that never goes back.

    What was changed elsewhere is seen after `PAYER_KEEP_S` and one query at the latest; what was changed
    through this object is seen at once.
    """

    def __init__(self, database: Database, now_s: Callable[[], float]) -> None:
        self._database = database
        # By the ids' numbers: to hash and compare a UUID is slow.
        self._wallets: Lookup[int, Wallet] = Lookup(self._load, now_s, keep_s=PAYER_KEEP_S)

    async def _load(self, payers: Sequence[int]) -> dict[int, Wallet]:
        async with self._database.connection() as connection:
            found = await store.wallets(connection, [uuid_of(number) for number in payers])
        return {payer.int: wallet for payer, wallet in found.items()}

    def known(self, payer: PayerId) -> Wallet | None:
        """Return a payer's wallet when it is fresh in memory, else None."""
        kept = self._wallets.peek(payer.int)
        return None if kept is None else kept[0]

    async def wallet(self, payer: PayerId) -> Wallet:
        """Return a payer with their instruments, in their own order. Raises: `PayerNotFound`."""
        found = await self._wallets.get(payer.int)
        if found is None:
            raise PayerNotFound
        return found

    async def enrol(
        self, id_: UUID, merchant: MerchantId | None, name: str, now: datetime, *, reference: str = ""
    ) -> Payer:
        """Add a payer and return it; one that has `id_` already stays as it is. Raises: `PayerInvalid`."""
        rules.check_payer(name, reference)
        payer = Payer(PayerId(id_), merchant, name, reference, now)
        async with self._database.connection() as connection:
            await store.add_payer(connection, payer)
        self._wallets.forget(payer.id.int)
        return (await self.wallet(payer.id)).payer

    async def payers(self, merchant: MerchantId, *, after: PayerId | None, limit: int) -> list[Payer]:
        """Return a merchant's payers, newest first, beginning after `after`."""
        async with self._database.connection() as connection:
            return await store.payers_of(connection, merchant, after, limit)

    async def add(
        self, id_: UUID, payer: PayerId, kind: Kind, label: str, now: datetime, *, token: str = ""
    ) -> Instrument:
        """Add an instrument as the last in the payer's order and return it.

        One that has `id_` already stays as it is.
        Raises: `PayerNotFound`, `InstrumentInvalid`, `CardNumberRefused`, `TooManyInstruments`.
        """
        rules.check_instrument(kind, label, token)
        async with self._database.transaction() as connection:
            if not await store.lock_payer(connection, payer):
                raise PayerNotFound
            held = (await store.wallets(connection, (payer,)))[payer].instruments
            for earlier in held:
                if earlier.id == id_:
                    return earlier
            if len(held) >= INSTRUMENTS_PER_PAYER_MAX:
                raise TooManyInstruments(f"A payer keeps at most {INSTRUMENTS_PER_PAYER_MAX} instruments.")
            place = max((i.position for i in held), default=0) + 1
            instrument = Instrument(InstrumentId(id_), payer, kind, label, token, place, now)
            await store.add_instrument(connection, instrument)
        self._wallets.forget(payer.int)
        return instrument

    async def reorder(self, payer: PayerId, order: Sequence[InstrumentId]) -> Wallet:
        """Put a payer's instruments into `order`, which names each of them once.

        Raises: `InstrumentInvalid`.
        """
        async with self._database.transaction() as connection:
            if not await store.lock_payer(connection, payer):
                raise PayerNotFound
            held = (await store.wallets(connection, (payer,)))[payer].instruments
            if sorted(order) != sorted(i.id for i in held):
                raise InstrumentInvalid("An order names each of the payer's instruments exactly once.")
            await store.order(connection, payer, order)
        self._wallets.forget(payer.int)
        return await self.wallet(payer)

    async def remove(self, payer: PayerId, instrument: InstrumentId, now: datetime) -> None:
        """Remove an instrument; payments that used it keep their history. Raises: `InstrumentNotFound`."""
        async with self._database.connection() as connection:
            done = await store.remove(connection, payer, instrument, now)
        self._wallets.forget(payer.int)
        if not done:
            raise InstrumentNotFound
