"""The nouns of instruments: payers, and by what they can pay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from holdfast.base.ids import InstrumentId, MerchantId, PayerId


class Kind(StrEnum):
    """What sort of way of paying it is."""

    BALANCE = "balance"
    CARD = "card"
    BANK = "bank"


@dataclass(frozen=True, slots=True)
class Payer:
    """Someone who pays. `merchant` enrolled them and alone may charge them; None: a payer of the wallet."""

    id: PayerId
    merchant: MerchantId | None
    name: str
    reference: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Instrument:
    """One way of paying.

    `token` is what the provider knows it by, never a card number; a balance has none.
    """

    id: InstrumentId
    payer: PayerId
    kind: Kind
    label: str
    token: str
    position: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Wallet:
    """A payer with their instruments, in their own order."""

    payer: Payer
    instruments: tuple[Instrument, ...]
