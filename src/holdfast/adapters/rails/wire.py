"""What rail adapters share.

One request under an order's deadline, and an answer for every way in which it can end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError, Refused, Unavailable
from holdfast.base.limits import RAIL_CALL_TIMEOUT_S_MAX
from holdfast.base.secret import Secret
from holdfast.domains.payments.ports import Answer, Evidence, Order, RailTraits, Said
from holdfast.platform.http import HttpClient, NoAnswer, NotSent, Reply, UrlInvalid


class RailEventInvalid(Refused):
    """The message does not come from the rail that it names, or cannot be read."""

    code = "rail_event_invalid"


class SettlementFileInvalid(Unavailable):
    """The settlement file is incomplete or cannot be read. Nothing of it was used."""

    code = "settlement_file_invalid"


@dataclass(frozen=True, slots=True)
class RailSettings:
    """Where a rail is, how to prove who we are, and what it costs.

    `backup_url`: a second host that answers the same keys. `live`: whether it moves real money.
    """

    name: str
    base_url: str
    secret_key: Secret
    webhook_secret: Secret
    backup_url: str | None = None
    cost_bp: int = 0
    timeout_s: float = 10.0
    concurrency_max: int = 64
    live: bool | None = None
    assets: tuple[str, ...] = ("USD", "EUR", "GBP", "CNY", "JPY", "INR")


class Wire:
    """Sends requests of one order, all within the one deadline."""

    def __init__(
        self, http: HttpClient, settings: RailSettings, traits: RailTraits, clock: Clock, order: Order
    ) -> None:
        self._http = http
        self._clock = clock
        left_s = (order.deadline_at - clock.now()).total_seconds()
        self._end_s = clock.monotonic_s() + min(left_s, traits.timeout_s, RAIL_CALL_TIMEOUT_S_MAX)
        self._base = settings.backup_url if order.use_backup and settings.backup_url else settings.base_url

    @property
    def left_s(self) -> float:
        """Seconds until the order's deadline."""
        return self._end_s - self._clock.monotonic_s()

    async def call(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Reply | Answer:
        """Return the reply, or the answer for a request that never left or was never answered."""
        try:
            return await self._http.call(
                method, self._base.rstrip("/") + path, timeout_s=self.left_s, headers=headers, body=body
            )
        except UrlInvalid as error:
            return Answer(Said.NOT_SENT, Evidence.QUERY, code=error.code, message=error.message)
        except NotSent as error:
            return Answer(Said.NOT_SENT, Evidence.QUERY, code=error.reason, message=error.message)
        except NoAnswer as error:
            return unanswered(error.reason, error.message)


UNREADABLE: Final = (KeyError, IndexError, TypeError, ValueError, AttributeError, HoldfastError)
"""What reading an answer raises when it is not of the shape that the rail documents."""


def unreadable(error: BaseException) -> Answer:
    """Say that an answer came and could not be understood: it proves nothing."""
    return unanswered("unreadable", f"The answer could not be read: {error!r}"[:500])


def unanswered(code: str, message: str, *, remote_id: str | None = None) -> Answer:
    """Say that bytes left and no evidence came back."""
    return Answer(Said.UNKNOWN, Evidence.TIMEOUT, remote_id, code, message)


def document(reply: Reply) -> dict[str, Any] | None:
    """Return the body as a JSON object, or None when it is none."""
    try:
        doc = json.loads(reply.body)
    except ValueError:
        return None
    return doc if isinstance(doc, dict) else None
