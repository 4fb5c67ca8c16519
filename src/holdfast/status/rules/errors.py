"""What the rules refuse.

Refused
x RecordInvalid       the evidence contradicts itself
x ChoiceImpossible    a field has a list of answers, and this is none of them
x LeiWrong            20 characters whose check digits do not hold
x CountryUnknown      no calendar of holidays for it
"""

from __future__ import annotations

from holdfast.base.errors import Refused


class RecordInvalid(Refused):
    """The evidence contradicts itself: the message names the field."""

    code = "status_record_invalid"


class ChoiceImpossible(Refused):
    """The template does not know this answer: the message names the field and lists what it knows."""

    code = "status_choice_impossible"


class LeiWrong(Refused):
    """A legal entity identifier has 20 characters, of which the last two check the others (ISO 17442-1)."""

    code = "status_lei_wrong"


class CountryUnknown(Refused):
    """There is no calendar of bank holidays for this country: give its ISO 3166-1 alpha-2 code."""

    code = "status_country_unknown"
