"""What merchants refuse.

Refused
x MerchantNotFound
x MerchantInvalid
x KeyMissing
x KeyInvalid
x RightMissing
"""

from __future__ import annotations

from holdfast.base.errors import Refused


class MerchantNotFound(Refused):
    """There is no such merchant."""

    code = "merchant_not_found"


class MerchantInvalid(Refused):
    """The merchant's details or rules are not valid."""

    code = "merchant_invalid"


class KeyMissing(Refused):
    """An API key is needed here, as `Authorization: Bearer sk_…`."""

    code = "api_key_missing"


class KeyInvalid(Refused):
    """The API key is unknown or was revoked."""

    code = "api_key_invalid"


class RightMissing(Refused):
    """The API key may not do that."""

    code = "right_missing"
