"""Writes of merchants, and the look-up of callers that every request needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from holdfast.base.ids import MerchantId, public
from holdfast.base.limits import API_KEY_KEEP_S
from holdfast.base.secret import Secret
from holdfast.domains.merchants import rules, store
from holdfast.domains.merchants.errors import KeyInvalid, MerchantInvalid, MerchantNotFound
from holdfast.domains.merchants.model import Caller, KeyFacts, KeyId, Merchant, MerchantRules, Role
from holdfast.platform.batch import Lookup
from holdfast.platform.db import Database


class Merchants:
    """Merchants and their keys. `now_s` is a clock that never goes back, `entropy` a source of random bytes.

    A key that was revoked elsewhere opens nothing after `API_KEY_KEEP_S` and one query at the latest; one
    revoked through this object opens nothing from then on.
    """

    def __init__(
        self, database: Database, now_s: Callable[[], float], entropy: Callable[[int], bytes]
    ) -> None:
        self._database = database
        self._entropy = entropy
        self._callers: Lookup[bytes, Caller] = Lookup(self._load_callers, now_s, keep_s=API_KEY_KEEP_S)

    async def _load_callers(self, digests: Sequence[bytes]) -> dict[bytes, Caller]:
        async with self._database.connection() as connection:
            return await store.callers(connection, digests)

    def known(self, key: str) -> Caller | None:
        """Return whom `key` speaks for when that is fresh in memory, else None. Raises: `KeyInvalid`."""
        kept = self._callers.peek(rules.digest(key))
        return None if kept is None else kept[0]

    async def caller(self, key: str) -> Caller:
        """Return whom `key` speaks for. Raises: `KeyInvalid`, `DatabaseUnavailable`."""
        caller = await self._callers.get(rules.digest(key))
        if caller is None:
            raise KeyInvalid
        return caller

    async def enrol(
        self,
        id_: UUID,
        business: UUID,
        name: str,
        now: datetime,
        *,
        live: bool,
        ruled: MerchantRules | None = None,
    ) -> Merchant:
        """Add a merchant and return it; one that has `id_` already stays as it is.

        A business has one merchant in each mode. Raises: `MerchantInvalid`.
        """
        merchant = Merchant(MerchantId(id_), business, live, name, ruled or MerchantRules(), now)
        rules.check_merchant(name, merchant.rules)
        async with self._database.connection() as connection:
            await store.add_merchant(connection, merchant)
            there = await store.merchants(connection, (merchant.id,))
            if merchant.id not in there:
                raise _taken(merchant, await store.of_business(connection, business))
        return there[merchant.id]

    async def set_rules(self, merchant: MerchantId, ruled: MerchantRules) -> Merchant:
        """Replace a merchant's rules. Raises: `MerchantInvalid`, `MerchantNotFound`."""
        rules.check_merchant("-", ruled)
        async with self._database.connection() as connection:
            if not await store.set_rules(connection, merchant, ruled):
                raise MerchantNotFound
        self._callers.forget_all()
        return await self.merchant(merchant)

    async def merchant(self, merchant: MerchantId) -> Merchant:
        """Return a merchant. Raises: `MerchantNotFound`."""
        async with self._database.connection() as connection:
            found = await store.merchants(connection, (merchant,))
        if merchant not in found:
            raise MerchantNotFound
        return found[merchant]

    async def of_business(self, business: UUID) -> list[Merchant]:
        """Return the merchants of a business: none, one, or its test half and its live half."""
        async with self._database.connection() as connection:
            return await store.of_business(connection, business)

    async def merchants(self, *, after: MerchantId | None = None, limit: int) -> list[Merchant]:
        """Return at most `limit` merchants, newest first, beginning after `after`."""
        async with self._database.connection() as connection:
            return await store.newest(connection, after, limit)

    async def issue_key(self, merchant: Merchant, role: Role, now: datetime) -> Secret:
        """Make a key and return it, the only time that it can be seen."""
        key = rules.key_text(role, live=merchant.live, entropy=self._entropy(rules.KEY_RANDOM_BYTES))
        await self.keep_key(merchant, key, role, now)
        return Secret(key)

    async def keep_key(self, merchant: Merchant, key: str, role: Role, now: datetime) -> None:
        """Let a key that was made elsewhere (demonstration data) speak for `merchant`.

        Raises: `KeyInvalid`.
        """
        digest = rules.digest(key)
        facts = KeyFacts(digest, merchant.id, role, rules.hint(key), now, None)
        async with self._database.connection() as connection:
            await store.add_key(connection, facts)
        self._callers.forget(digest)

    async def keys(self, merchant: MerchantId) -> list[KeyFacts]:
        """Return what may be told of a merchant's keys, oldest first."""
        async with self._database.connection() as connection:
            return await store.keys_of(connection, merchant)

    async def key(self, id_: KeyId) -> KeyFacts:
        """Return what may be told of a key, in force or revoked. Raises: `KeyInvalid`."""
        async with self._database.connection() as connection:
            found = await store.key(connection, id_)
        if found is None:
            raise KeyInvalid("There is no such API key.")
        return found

    async def revoke_key(self, merchant: MerchantId, digest: bytes, now: datetime) -> bool:
        """Revoke a key; return whether it was in use until now."""
        async with self._database.connection() as connection:
            done = await store.revoke(connection, merchant, digest, now)
        self._callers.forget(digest)
        return done


def _taken(wanted: Merchant, there: Sequence[Merchant]) -> MerchantInvalid:
    mode = "live" if wanted.live else "test"
    taken = ", ".join(public("mer", one.id) for one in there if one.live == wanted.live)
    return MerchantInvalid(
        f"The business has its {mode} merchant already, {taken}. Use that one, or make a merchant of a new "
        "business."
    )
