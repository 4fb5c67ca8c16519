"""Pure rules: what may be kept of a payer and of an instrument."""

from __future__ import annotations

import re
from typing import Final

from holdfast.base.limits import REFERENCE_CHARS_MAX
from holdfast.domains.instruments.errors import CardNumberRefused, InstrumentInvalid, PayerInvalid
from holdfast.domains.instruments.model import Kind

NAME_CHARS_MAX: Final = 120
LABEL_CHARS_MAX: Final = 80
TOKEN_CHARS_MAX: Final = 200

_LONG_NUMBER: Final = re.compile(r"[0-9](?:[ -]?[0-9]){11,}")
_CARD_DIGITS: Final = range(12, 20)
"""How many digits a card number has: ISO/IEC 7812-1."""


def looks_like_card_number(text: str) -> bool:
    """Whether `text` holds 12 to 19 digits whose check digit is right (Luhn, ISO/IEC 7812-1 annex B)."""
    for run in _LONG_NUMBER.findall(text):
        digits = [int(c) for c in run if c.isdecimal()]
        if len(digits) in _CARD_DIGITS and _luhn(digits):
            return True
    return False


def _luhn(digits: list[int]) -> bool:
    doubled = [d * 2 - 9 if d > 4 else d * 2 for d in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def check_payer(name: str, reference: str) -> None:
    """Raise `PayerInvalid` unless these can be kept."""
    if not name.strip() or len(name) > NAME_CHARS_MAX:
        raise PayerInvalid(f"A payer's name has 1 to {NAME_CHARS_MAX} characters.")
    if len(reference) > REFERENCE_CHARS_MAX:
        raise PayerInvalid(f"A reference has at most {REFERENCE_CHARS_MAX} characters.")


def check_instrument(kind: Kind, label: str, token: str) -> None:
    """Raise `InstrumentInvalid` unless these can be kept; `CardNumberRefused` for a card number."""
    if not label.strip() or len(label) > LABEL_CHARS_MAX:
        raise InstrumentInvalid(f"A label has 1 to {LABEL_CHARS_MAX} characters.")
    if len(token) > TOKEN_CHARS_MAX:
        raise InstrumentInvalid(f"A token has at most {TOKEN_CHARS_MAX} characters.")
    if (kind is Kind.BALANCE) == bool(token):
        raise InstrumentInvalid("A balance has no token, and every other kind has one.")
    if _LONG_NUMBER.search(label) or (kind is not Kind.BANK and _LONG_NUMBER.fullmatch(token)):
        raise CardNumberRefused
    if looks_like_card_number(token) and kind is Kind.CARD:
        raise CardNumberRefused
