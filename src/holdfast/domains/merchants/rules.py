"""Pure rules: the shape of a key, what a role may do, which rules a merchant may set."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Final
from unicodedata import category

from holdfast.domains.merchants.errors import KeyInvalid, MerchantInvalid, RightMissing
from holdfast.domains.merchants.model import MerchantRules, Right, Role

KEY_RANDOM_BYTES: Final = 32
"""Entropy of a key, bytes: it cannot be guessed, so its plain SHA-256 may be stored."""

METHOD_KINDS: Final = ("balance", "card", "bank")
NAME_CHARS_MAX: Final = 120
RAILS_MAX: Final = 16

_NEVER_IN_NAMES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, halves of characters, line and paragraph separators."""

_KEY: Final = re.compile(r"(sk|rk|pk)_(test|live)_[A-Za-z0-9_-]{43}")
_PREFIX: Final = {Role.FULL: "sk", Role.READ_ONLY: "rk", Role.PUBLISHABLE: "pk"}

RIGHTS: Final[dict[Role, frozenset[Right]]] = {
    Role.FULL: frozenset(Right),
    Role.READ_ONLY: frozenset({Right.READ, Right.SEE_HEALTH}),
    Role.PUBLISHABLE: frozenset({Right.SEE_HEALTH}),
}


def key_text(role: Role, *, live: bool, entropy: bytes) -> str:
    """Write a key: `sk_test_` (full), `rk_` (read only) or `pk_` (publishable), and 43 characters."""
    body = urlsafe_b64encode(entropy).rstrip(b"=").decode()
    return f"{_PREFIX[role]}_{'live' if live else 'test'}_{body}"


def digest(key: str) -> bytes:
    """Return the SHA-256 of `key` by which it is looked up.

    Raises: `KeyInvalid` when it cannot be a key at all.
    """
    if _KEY.fullmatch(key) is None:
        raise KeyInvalid
    return sha256(key.encode()).digest()


def hint(key: str) -> str:
    """Return what people may see of a key: its beginning and its last four characters."""
    return f"{key[:8]}…{key[-4:]}"


def check_right(role: Role, right: Right) -> None:
    """Raise `RightMissing` unless `role` includes `right`."""
    if right not in RIGHTS[role]:
        raise RightMissing(f"A {role.value.replace('_', ' ')} key may not do that ({right.value}).")


def check_merchant(name: str, rules: MerchantRules) -> None:
    """Raise `MerchantInvalid` unless the name and the rules can be kept."""
    if not name.strip() or len(name) > NAME_CHARS_MAX:
        raise MerchantInvalid(f"A merchant's name has 1 to {NAME_CHARS_MAX} characters.")
    if any(category(character) in _NEVER_IN_NAMES for character in name):
        raise MerchantInvalid("A merchant's name has no control characters and no line breaks.")
    unknown = set(rules.allowed_kinds) - set(METHOD_KINDS)
    if unknown:
        raise MerchantInvalid(
            f"There is no method kind {min(unknown)!r}; there are {', '.join(METHOD_KINDS)}."
        )
    if len(rules.rail_order) > RAILS_MAX:
        raise MerchantInvalid(f"A rail order names at most {RAILS_MAX} rails.")
    for named in (rules.allowed_kinds, rules.rail_order):
        if twice := _named_twice(named):
            raise MerchantInvalid(f"{twice} is named twice; once is enough.")


def _named_twice(names: Sequence[str]) -> str | None:
    return next((name for at, name in enumerate(names) if name in names[:at]), None)
