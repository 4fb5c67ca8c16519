"""What instruments refuse.

Refused
x PayerNotFound
x InstrumentNotFound
x PayerInvalid
x InstrumentInvalid
  x CardNumberRefused
x TooManyInstruments
"""

from __future__ import annotations

from holdfast.base.errors import Refused


class PayerNotFound(Refused):
    """There is no such payer."""

    code = "payer_not_found"


class InstrumentNotFound(Refused):
    """The payer has no such instrument."""

    code = "instrument_not_found"


class PayerInvalid(Refused):
    """The payer's details are not valid."""

    code = "payer_invalid"


class InstrumentInvalid(Refused):
    """The instrument's details are not valid."""

    code = "instrument_invalid"


class CardNumberRefused(InstrumentInvalid):
    """That looks like a card number. Holdfast keeps tokens only; have the provider make one."""

    code = "card_number_refused"


class TooManyInstruments(Refused):
    """The payer has as many instruments as can be kept."""

    code = "too_many_instruments"
