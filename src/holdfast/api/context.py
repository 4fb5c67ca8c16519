"""What every endpoint works with: the application, who is calling, and how an answer is written."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.base.ids import AccountId, MerchantId
from holdfast.base.limits import REQUESTS_PER_MERCHANT_MAX
from holdfast.base.values import quick
from holdfast.boot import App
from holdfast.domains.merchants import Caller, KeyMissing, Right, check_right

JSON: Final = b"application/json"
PROBLEM_JSON: Final = b"application/problem+json"
encode: Final = msgspec.json.Encoder().encode


@quick
@dataclass(frozen=True, slots=True)
class Reply:
    """An answer ready to be sent: `body` is JSON; `replayed` says that it is an earlier one again."""

    status: int
    body: bytes
    replayed: bool = False
    retry_after_s: float = 0.0

    @property
    def content_type(self) -> bytes:
        """Problems have a type of their own (RFC 9457)."""
        return JSON if self.status < 400 else PROBLEM_JSON


def reply(status: int, shown: Any) -> Reply:  # noqa: ANN401 - any wire shape
    """Return `shown` as an answer."""
    return Reply(status, encode(shown))


@dataclass(slots=True)
class Api:
    """The application as the endpoints see it, with what this process has under way.

    `under_way` holds the fingerprint of each keyed request that this process works on; `busy` counts them by
    merchant, `batches` those of many transfers. `own` remembers accounts that belong to a merchant and are
    open: by merchant and asset, the number of each owner's.
    """

    app: App
    under_way: dict[tuple[str, str], bytes] = field(default_factory=dict)
    busy: dict[str, int] = field(default_factory=dict)
    busy_max: int = REQUESTS_PER_MERCHANT_MAX
    batches: dict[MerchantId, int] = field(default_factory=dict)
    own: dict[tuple[MerchantId, str], dict[str, AccountId]] = field(default_factory=dict)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def now(self) -> datetime:
        """Return the time, aware, UTC."""
        return self.app.clock.now()

    async def caller(self, authorization: str | None, right: Right) -> Caller:
        """Return who calls, by an `Authorization` header's value.

        Raises: `KeyMissing`, `KeyInvalid`, `RightMissing`, `DatabaseUnavailable`.
        """
        if authorization is None or authorization[:7].lower() != "bearer ":
            raise KeyMissing
        key = authorization[7:].strip()
        merchants = self.app.merchants
        caller = merchants.known(key) or await merchants.caller(key)
        check_right(caller.role, right)
        return caller
