"""Languages of the pages: which one a request gets, its catalogue, and how it writes amounts and times.

The catalogue is the gettext file `locale/zh_CN/LC_MESSAGES/holdfast.po` (English is the source text). It is
read as it is when first needed: a fresh clone needs no compile step, and no compiled file can be stale.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Final

from babel import Locale
from babel.dates import format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_currency, format_decimal
from babel.support import NullTranslations, Translations

from holdfast.base.money import Money, decimal_text

FOLDER: Final = Path(__file__).parent / "locale"
DOMAIN: Final = "holdfast"
LOCALES: Final[dict[str, str]] = {"en": "en_US", "zh-CN": "zh_CN"}
"""Language tags (BCP 47) of the pages, and Babel's name for each. The first is the source language."""

NAMES: Final[dict[str, str]] = {"en": "English", "zh-CN": "简体中文"}
"""Each language in its own words: what its link says."""

COOKIE: Final = "lang"
_CURRENCIES: Final = frozenset(("CNY", "USD", "EUR", "GBP", "JPY", "INR"))


_BETWEEN_SCRIPTS: Final = re.compile(
    r"(?<=[\u4e00-\u9fff])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=[\u4e00-\u9fff])"
)
"""Where a Chinese text takes a space: between its characters and Latin letters or digits."""


def N_(text: str) -> str:  # noqa: N802 - gettext's own name for "translated later"
    """Mark a text for the catalogue; it is translated where it is shown."""
    return text


def po_file(tag: str) -> Path:
    """Return where the catalogue of a language is."""
    return FOLDER / LOCALES[tag] / "LC_MESSAGES" / f"{DOMAIN}.po"


@lru_cache(maxsize=len(LOCALES))
def translations(tag: str) -> NullTranslations:
    """Return the translations into the language `tag`; the source language has none to make."""
    path = po_file(tag)
    if not path.exists():
        return NullTranslations()
    with path.open("rb") as file:
        catalogue = read_po(file, locale=LOCALES[tag], domain=DOMAIN)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled, domain=DOMAIN)


def choose(asked: str | None, cookie: str | None, accept_language: str | None) -> str:
    """Return the language for a request: what a link asks for, what was chosen, what the browser prefers."""
    for tag in (asked, cookie):
        if tag in LOCALES:
            return str(tag)
    for tag in _preferences(accept_language or ""):
        if tag.startswith("zh"):
            return "zh-CN"
        if tag.startswith("en"):
            return "en"
    return "en"


def _preferences(header: str) -> list[str]:
    """Return the language ranges of an Accept-Language header, most wanted first (RFC 9110, 12.5.4)."""
    wanted: list[tuple[float, str]] = []
    for part in header[:200].split(","):
        tag, _, quality = part.strip().lower().partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        if tag and weight > 0:
            wanted.append((weight, tag))
    return [tag for _, tag in sorted(wanted, key=lambda one: -one[0])]


@dataclass(frozen=True, slots=True)
class Language:
    """One language with what a page needs of it."""

    tag: str

    @property
    def _locale(self) -> Locale:
        return Locale.parse(LOCALES[self.tag])

    def say(self, text: str, **values: object) -> str:
        """Translate `text` and fill in its `%(name)s`."""
        said: str = translations(self.tag).gettext(text)
        if not values:
            return said
        filled = said % values
        return _BETWEEN_SCRIPTS.sub(" ", filled) if self.tag == "zh-CN" else filled

    def money(self, amount: Money) -> str:
        """Write an amount as people of this language do."""
        value = Decimal(decimal_text(amount))
        if amount.asset.code in _CURRENCIES:
            return str(format_currency(value, amount.asset.code, locale=self._locale))
        return f"{format_decimal(value, locale=self._locale, decimal_quantization=False)} {amount.asset.code}"

    def seconds(self, duration_s: float) -> str:
        """Write a duration: tenths below ten seconds, then whole seconds, then minutes."""
        if duration_s < 9.95:
            return self.say(
                "%(number)s s", number=format_decimal(round(duration_s, 1), "0.0", locale=self._locale)
            )
        if duration_s < 90:
            return self.say("%(number)s s", number=round(duration_s))
        return self.say("%(number)s min", number=round(duration_s / 60))

    def lasted(self, duration_s: float) -> str:
        """Write how long something took that is over."""
        return self.say(N_("at once")) if duration_s < 0.05 else self.seconds(duration_s)

    def mark(self, at_s: float) -> str:
        """Write a mark on a line of time: no more decimals than it needs."""
        if at_s < 90:
            return self.say("%(number)s s", number=format_decimal(round(at_s, 1), "0.#", locale=self._locale))
        return self.seconds(at_s)

    def moment(self, at: datetime) -> str:
        """Write a date and time, in UTC; the browser puts it into its own zone."""
        return str(format_datetime(at, "medium", locale=self._locale))
