"""Demonstration data: merchants, payers with instruments, opening balances. So that there is life at once.

Every id is fixed and every step does nothing when it was done before, so loading it twice changes nothing.
The key is public on purpose: it speaks for a merchant in test mode and opens nothing real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

from holdfast.base.errors import Refused, ensure
from holdfast.base.ids import MerchantId, PayerId, TransferId
from holdfast.base.secret import Secret
from holdfast.domains.instruments import Instruments, Kind
from holdfast.domains.ledger.model import NewAccount, NewTransfer
from holdfast.domains.ledger.ports import Ledger
from holdfast.domains.merchants import MerchantRules, Merchants, Role
from holdfast.flows import chart

ASSETS: Final = ("CNY", "USD", "EUR", "JPY")
RAIL_ORDER: Final = ("north", "south", "harbour", "book")
"""The shop's own rule: it prefers North, the cheaper one. So there is something to see when North breaks."""

SHOP_NAME: Final = "Tidepool Tea"
PAYER_NAME: Final = "Lin Xia"
"""Who shops on the first page."""

API_KEY: Final = Secret("sk_test_holdfast-demonstration-key-opens-nothing-re")
"""Speaks for the shop in test mode, in examples of the documentation."""


class DemoRefused(Refused):
    """Demonstration data is never loaded in production."""

    code = "demo_refused"


def _id(name: str) -> UUID:
    """Return the fixed id of something, a UUID version 8 (RFC 9562) made from its name."""
    digest = int.from_bytes(blake2b(name.encode(), digest_size=16, person=b"holdfast demo").digest(), "big")
    return UUID(int=digest & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62)


@dataclass(frozen=True, slots=True)
class _Instrument:
    kind: Kind
    label: str
    token: str = ""


@dataclass(frozen=True, slots=True)
class _Payer:
    name: str
    merchant: str | None
    instruments: tuple[_Instrument, ...]
    balances: tuple[tuple[str, int], ...]
    """Opening balances: asset and minor units."""


_MERCHANTS: Final = (SHOP_NAME, "Lantern Books", "Low Tide Ferries")
_BALANCE: Final = _Instrument(Kind.BALANCE, "Wallet balance")
PAYERS: Final = (
    _Payer(
        PAYER_NAME,
        SHOP_NAME,
        (
            _Instrument(Kind.CARD, "Visa ending 4242", "pm_card_visa"),
            _Instrument(Kind.CARD, "UnionPay ending 0005", "pm_card_unionpay"),
            _BALANCE,
            _Instrument(Kind.BANK, "Bank account", "HB-0001-OK"),
        ),
        (("CNY", 500_000), ("USD", 20_000)),
    ),
    _Payer(
        "Amara Okafor",
        SHOP_NAME,
        (_BALANCE, _Instrument(Kind.CARD, "Mastercard ending 4444", "pm_card_mastercard")),
        (("EUR", 75_000), ("CNY", 120_000)),
    ),
    _Payer(
        "Sato Kenji",
        "Lantern Books",
        (_Instrument(Kind.CARD, "JCB ending 0505", "pm_card_jcb"), _BALANCE),
        (("JPY", 300_000), ("USD", 45_000)),
    ),
)

MERCHANT: Final = MerchantId(_id(f"merchant {SHOP_NAME}"))
PAYER: Final = PayerId(_id(f"payer {PAYER_NAME}"))
CHECKOUT_CALLER: Final = f"{MERCHANT.hex}:checkout"
"""In whose name the shop's checkout takes idempotency keys: apart from the merchant's own requests."""


async def load(
    merchants: Merchants,
    instruments: Instruments,
    ledger: Ledger,
    *,
    mode: str,
    rails: Sequence[str],
    now: datetime,
) -> None:
    """Load the demonstration data; what is there already stays as it is.

    Raises: `DemoRefused` in production, `Unavailable`.
    """
    if mode == "production":
        raise DemoRefused
    await _merchants(merchants, now)
    await _payers(instruments, now)
    await ledger.open_accounts(_accounts(rails))
    postings = await ledger.post(_openings())
    ensure(all(one.outcome.moved for one in postings), "every opening balance of the demonstration is posted")


async def _merchants(merchants: Merchants, now: datetime) -> None:
    for name in _MERCHANTS:
        ruled = MerchantRules(rail_order=RAIL_ORDER) if name == SHOP_NAME else MerchantRules()
        made = await merchants.enrol(
            _id(f"merchant {name}"), _id(f"business {name}"), name, now, live=False, ruled=ruled
        )
        if made.id == MERCHANT:
            await merchants.keep_key(made, API_KEY.reveal(), Role.FULL, now)


async def _payers(instruments: Instruments, now: datetime) -> None:
    for payer in PAYERS:
        merchant = None if payer.merchant is None else MerchantId(_id(f"merchant {payer.merchant}"))
        made = await instruments.enrol(_id(f"payer {payer.name}"), merchant, payer.name, now)
        for each in payer.instruments:
            id_ = _id(f"instrument {payer.name} {each.label}")
            await instruments.add(id_, made.id, each.kind, each.label, now, token=each.token)


def _accounts(rails: Sequence[str]) -> list[NewAccount]:
    accounts: list[NewAccount] = []
    for asset in ASSETS:
        accounts += [chart.world(asset), chart.in_doubt(asset), chart.fees(asset)]
        accounts += [chart.rail(name, asset) for name in rails]
        accounts += [chart.merchant(MerchantId(_id(f"merchant {name}")), asset) for name in _MERCHANTS]
        for payer in PAYERS:
            id_ = PayerId(_id(f"payer {payer.name}"))
            accounts += [chart.payer(id_, asset), chart.debt(id_, asset)]
    return accounts


def _openings() -> list[NewTransfer]:
    return [
        NewTransfer(
            id=TransferId(_id(f"opening {payer.name} {asset}")),
            debit=chart.world(asset).number,
            credit=chart.payer(PayerId(_id(f"payer {payer.name}")), asset).number,
            asset=asset,
            amount_minor=amount_minor,
        )
        for payer in PAYERS
        for asset, amount_minor in payer.balances
    ]
