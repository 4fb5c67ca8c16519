"""Merchants.

Owns: merchants, their API keys, their own rules.
Invariants: a merchant is in one mode for ever; a key is stored as its digest only; a revoked key stays
revoked. Tables: merchants.merchants, merchants.keys.
Announces: nothing.
Needs: a monotonic clock and random bytes, injected.
"""

from holdfast.domains.merchants.errors import (
    KeyInvalid,
    KeyMissing,
    MerchantInvalid,
    MerchantNotFound,
    RightMissing,
)
from holdfast.domains.merchants.model import Caller, Capture, KeyFacts, Merchant, MerchantRules, Right, Role
from holdfast.domains.merchants.operations import Merchants
from holdfast.domains.merchants.rules import METHOD_KINDS, check_right

__all__ = [
    "METHOD_KINDS",
    "Caller",
    "Capture",
    "KeyFacts",
    "KeyInvalid",
    "KeyMissing",
    "Merchant",
    "MerchantInvalid",
    "MerchantNotFound",
    "MerchantRules",
    "Merchants",
    "Right",
    "RightMissing",
    "Role",
    "check_right",
]
