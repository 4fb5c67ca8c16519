"""Merchants.

Owns: merchants, their API keys, their own rules.
Invariants: a merchant is in one mode for ever, and a business has at most one in each; a key is stored as
its digest only; a revoked key stays revoked. Tables: merchants.merchants, merchants.keys.
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
from holdfast.domains.merchants.model import (
    Caller,
    Capture,
    KeyFacts,
    KeyId,
    Merchant,
    MerchantRules,
    Right,
    Role,
    key_id,
)
from holdfast.domains.merchants.operations import Merchants
from holdfast.domains.merchants.rules import METHOD_KINDS, check_right, digest

__all__ = [
    "METHOD_KINDS",
    "Caller",
    "Capture",
    "KeyFacts",
    "KeyId",
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
    "digest",
    "key_id",
]
