"""Public holidays by country, from the library of this name."""

from __future__ import annotations

from functools import lru_cache

import holidays


@lru_cache(maxsize=64)
def holidays_of(country: str, subdivision: str = "") -> holidays.HolidayBase:
    """Return the public holidays of a country (ISO 3166-1, two letters), or a part of it.

    Raises: `ValueError`.
    """
    known = holidays.list_supported_countries()
    if country not in known or (subdivision and subdivision not in known[country]):
        raise ValueError(f"The holidays of {' '.join((country, subdivision)).strip()!r} are not known.")
    return holidays.country_holidays(country, subdiv=subdivision or None)
