"""Assets and amounts. An amount is a whole number of minor units of one asset; no float ever touches it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from holdfast.base.errors import Refused
from holdfast.base.limits import AMOUNT_MINOR_MAX


class AmountInvalid(Refused):
    """The amount is not a whole number of minor units within the limits of its asset."""

    code = "amount_invalid"


class AssetUnknown(Refused):
    """No such asset. Ask for the list of assets."""

    code = "asset_unknown"


@dataclass(frozen=True, slots=True)
class Asset:
    """A kind of money, named by `code`.

    `scale` is how many decimal places its minor unit has (ISO 4217 for currencies); `number` is its short id
    in stored rows and never changes.
    """

    code: str
    scale: int
    number: int


ASSETS: Final[dict[str, Asset]] = {
    a.code: a
    for a in (
        Asset("CNY", 2, 156),
        Asset("USD", 2, 840),
        Asset("EUR", 2, 978),
        Asset("GBP", 2, 826),
        Asset("JPY", 0, 392),
        Asset("INR", 2, 356),
        Asset("POINTS", 0, 1001),
        Asset("USDC", 6, 1002),
    )
}
ASSETS_BY_NUMBER: Final[dict[int, Asset]] = {a.number: a for a in ASSETS.values()}


def asset(code: str) -> Asset:
    """Return the asset named `code`. Raises: `AssetUnknown`."""
    try:
        return ASSETS[code]
    except (KeyError, TypeError):
        raise AssetUnknown(f"There is no asset {code!r}; there are {', '.join(ASSETS)}.") from None


_DECIMAL: Final = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,16}))?").fullmatch


@dataclass(frozen=True, slots=True)
class Money:
    """`amount_minor` minor units of `asset`, at most AMOUNT_MINOR_MAX either way. Raises: `AmountInvalid`."""

    asset: Asset
    amount_minor: int

    def __post_init__(self) -> None:
        amount = self.amount_minor
        if type(amount) is not int or not -AMOUNT_MINOR_MAX <= amount <= AMOUNT_MINOR_MAX:
            raise AmountInvalid(
                f"{self.amount_minor!r} is no whole number of minor units up to {AMOUNT_MINOR_MAX}."
            )

    def __str__(self) -> str:
        return f"{decimal_text(self)} {self.asset.code}"

    def plus(self, other: Money) -> Money:
        """Add two amounts of one asset. Raises: `AmountInvalid` on another asset or beyond the bound."""
        if other.asset is not self.asset and other.asset != self.asset:
            raise AmountInvalid(f"{other} cannot be added to {self}: they are different assets.")
        return Money(self.asset, self.amount_minor + other.amount_minor)


def decimal_text(money: Money) -> str:
    """Write the amount as a plain decimal, exactly: `Money(USD, -1234)` is `-12.34`."""
    scale, minor = money.asset.scale, money.amount_minor
    sign = "-" if minor < 0 else ""
    digits = str(abs(minor)).zfill(scale + 1)
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"


def read_decimal(text: str, of: Asset) -> Money:
    """Read an amount from a plain decimal, exactly: `"12.3"` of USD is 1230 minor units.

    No sign, no exponent, nothing between digits, no more decimal places than the asset has. Raises:
    `AmountInvalid`.
    """
    found = _DECIMAL(text)
    whole, rest = found.groups(default="") if found is not None else ("", "")
    if found is None or len(rest) > of.scale:
        places = f"up to {of.scale} decimal places" if of.scale else "no decimal places"
        raise AmountInvalid(f"{text[:40]!r} is no amount of {of.code}: digits, with {places}.")
    return Money(of, int(whole + rest.ljust(of.scale, "0")))


def share(
    amount_minor: int, numerator: int, denominator: int, *, rounding: Literal["down", "half_even"]
) -> int:
    """Return `amount_minor * numerator / denominator`, rounded as said, in exact integer arithmetic."""
    quotient, rest = divmod(amount_minor * numerator, denominator)
    if rounding == "half_even" and (rest * 2 > denominator or (rest * 2 == denominator and quotient % 2)):
        quotient += 1
    return quotient
