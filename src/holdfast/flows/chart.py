"""The chart of accounts: which account is for what, by name.

Numbers follow from names, so nobody looks one up.

| account | holds | rule |
|---|---|---|
| `payer:<id>:<ASSET>` | what a payer may spend | debits must not exceed credits |
| `merchant:<id>:<ASSET>` | what a merchant has earned | debits must not exceed credits |
| `rail:<name>:<ASSET>` | what a provider took and owes us | free |
| `in_doubt:<ASSET>` | charged and not to be kept, until it is back; less what was paid ahead | free |
| `debt:<id>:<ASSET>` | what a payer owes since the wallet paid ahead | credits must not exceed debits |
| `fees:<ASSET>`, `world:<ASSET>` | fees; the equity that opens balances | free |
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from uuid import UUID

from holdfast.base.ids import AccountId, MerchantId, PayerId, TransferId, public, uuid_of
from holdfast.domains.ledger.model import NewAccount

_CACHE = 65_536


@lru_cache(_CACHE)
def number(code: str) -> AccountId:
    """Return the account number of `code`: the first 63 bits of its BLAKE2b-64 digest, never 0."""
    return AccountId(int.from_bytes(blake2b(code.encode(), digest_size=8).digest(), "big") >> 1 or 1)


def payer(id: PayerId, asset: str) -> NewAccount:  # noqa: A002 - the field's own word
    """Return a payer's account."""
    return _of_owner("payer", "pyr", id.int, asset)


def merchant(id: MerchantId, asset: str) -> NewAccount:  # noqa: A002 - the field's own word
    """Return a merchant's account."""
    return _of_owner("merchant", "mer", id.int, asset)


@lru_cache(_CACHE)
def _of_owner(kind: str, prefix: str, owner: int, asset: str) -> NewAccount:
    return _account(f"{kind}:{public(prefix, uuid_of(owner))}:{asset}", asset, spendable=True)


@lru_cache(_CACHE)
def debt(id: PayerId, asset: str) -> NewAccount:  # noqa: A002 - the field's own word
    """Return the account of what a payer owes."""
    code = f"debt:{public('pyr', id)}:{asset}"
    return NewAccount(number(code), code, asset, "credits_must_not_exceed_debits")


@lru_cache(_CACHE)
def rail(name: str, asset: str) -> NewAccount:
    """Return the account of what a provider owes."""
    return _account(f"rail:{name}:{asset}", asset)


@lru_cache(_CACHE)
def in_doubt(asset: str) -> NewAccount:
    """Return the suspense account."""
    return _account(f"in_doubt:{asset}", asset)


@lru_cache(_CACHE)
def fees(asset: str) -> NewAccount:
    """Return the account of fees."""
    return _account(f"fees:{asset}", asset)


@lru_cache(_CACHE)
def world(asset: str) -> NewAccount:
    """Return the equity account that opens balances."""
    return _account(f"world:{asset}", asset)


def _account(code: str, asset: str, *, spendable: bool = False) -> NewAccount:
    return NewAccount(number(code), code, asset, "debits_must_not_exceed_credits" if spendable else "free")


_SPREAD = 0x9E3779B97F4A7C15
_LOW_62 = (1 << 62) - 1


def transfer_id(of: UUID, purpose: int) -> TransferId:
    """Return the id of the one transfer that `of` causes for `purpose`: asking twice moves once.

    Only random bits change, so it stays as time-ordered as `of`.
    """
    return TransferId(uuid_of(of.int ^ (purpose * _SPREAD & _LOW_62)))


PAID, BOOKED, GIVEN_BACK, FUNDED, RESERVED, ADVANCED, OWED, REFUND_HELD, REFUND_DONE = range(1, 10)
"""Purposes of transfers. PAID: the merchant's money for a payment, the same however it was paid."""
