"""The nouns of merchants: who takes payments, by which rules, and what a key may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, NewType
from uuid import UUID

from holdfast.base.ids import MerchantId, uuid_of

KeyId = NewType("KeyId", UUID)
"""The first 128 bits of a key's digest: it names the key to people and opens nothing."""

KEY_ID_BYTES: Final = 16

Capture = Literal["automatic", "manual"]


class Role(StrEnum):
    """What a key may do. `rules.RIGHTS` says it in full."""

    FULL = "full"
    READ_ONLY = "read_only"
    PUBLISHABLE = "publishable"
    """May be shown to the world: it only tells which ways of paying work."""


class Right(StrEnum):
    """One thing that a role may or may not do."""

    MOVE_MONEY = "move_money"
    MANAGE = "manage"
    """Payers, instruments, webhook endpoints."""
    READ = "read"
    SEE_HEALTH = "see_health"


@dataclass(frozen=True, slots=True)
class MerchantRules:
    """A merchant's own rules. Empty `allowed_kinds` takes every kind; empty `rail_order` prefers none."""

    allowed_kinds: tuple[str, ...] = ()
    rail_order: tuple[str, ...] = ()
    capture: Capture = "automatic"


@dataclass(frozen=True, slots=True)
class Merchant:
    """A business in one mode. Its test half and its live half are two merchants with one `business`."""

    id: MerchantId
    business: UUID
    live: bool
    name: str
    rules: MerchantRules
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a key speaks for, and as what."""

    merchant: Merchant
    role: Role


def key_id(digest: bytes) -> KeyId:
    """Return the id of the key that has this digest."""
    return KeyId(uuid_of(int.from_bytes(digest[:KEY_ID_BYTES], "big")))


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What may be told of a key. `digest` names it where it is revoked."""

    digest: bytes
    merchant: MerchantId
    role: Role
    hint: str
    created_at: datetime
    revoked_at: datetime | None

    @property
    def id(self) -> KeyId:
        """How people name the key."""
        return key_id(self.digest)
