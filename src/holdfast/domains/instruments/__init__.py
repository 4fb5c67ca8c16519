"""Instruments.

Owns: payers, and by what they can pay, in their own order.
Invariants: no card number is ever kept; an instrument belongs to one payer; a payer is charged only by who
enrolled it. Tables: instruments.payers, instruments.instruments.
Announces: nothing.
Needs: a monotonic clock, injected.
"""

from holdfast.domains.instruments.errors import (
    CardNumberRefused,
    InstrumentInvalid,
    InstrumentNotFound,
    PayerInvalid,
    PayerNotFound,
    TooManyInstruments,
)
from holdfast.domains.instruments.model import Instrument, Kind, Payer, Wallet
from holdfast.domains.instruments.operations import Instruments
from holdfast.domains.instruments.rules import check_instrument

__all__ = [
    "CardNumberRefused",
    "Instrument",
    "InstrumentInvalid",
    "InstrumentNotFound",
    "Instruments",
    "Kind",
    "Payer",
    "PayerInvalid",
    "PayerNotFound",
    "TooManyInstruments",
    "Wallet",
    "check_instrument",
]
