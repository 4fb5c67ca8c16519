"""Delivering webhooks: lease what is due, send it signed, write down what came back.

At least once, same id each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from holdfast import __version__
from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.base.limits import WEBHOOK_IN_FLIGHT_MAX, WEBHOOK_RESPONSE_CHARS_MAX, WEBHOOK_TIMEOUT_S
from holdfast.domains.webhooks import Claim, Result, operations, rules
from holdfast.platform import metrics
from holdfast.platform.db import Database
from holdfast.platform.http import HttpClient, NoAnswer, NotSent, Reply, UrlInvalid
from holdfast.platform.log import logger, mask_text

_log = logger(__name__)


class Courier:
    """Sends what is due, at most `WEBHOOK_IN_FLIGHT_MAX` at once.

    `chance` gives random numbers in [0, 1) for the jitter.
    """

    def __init__(
        self,
        database: Database,
        http: HttpClient,
        clock: Clock,
        chance: Callable[[], float],
        *,
        timeout_s: float = WEBHOOK_TIMEOUT_S,
    ) -> None:
        self._database = database
        self._http = http
        self._clock = clock
        self._chance = chance
        self._timeout_s = timeout_s
        self._under_way: set[asyncio.Task[None]] = set()

    async def deliver_due(self) -> int:
        """Take what is due and start sending it, as far as there is room; return how many were taken."""
        room = WEBHOOK_IN_FLIGHT_MAX - len(self._under_way)
        if room <= 0:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED, timeout=1.0)
            return 0
        claims = await operations.claim(self._database, now=self._clock.now(), limit=room)
        for claim in claims:
            task = asyncio.create_task(self._deliver(claim))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return len(claims)

    async def finish(self) -> None:
        """Wait until what is under way has ended; none takes longer than its timeout."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _deliver(self, claim: Claim) -> None:
        began_at, began_s = self._clock.now(), self._clock.monotonic_s()
        try:
            result = await self._send(claim, began_s)
            verdict = await operations.record(
                self._database, claim, result, began_at=began_at, now=self._clock.now(), chance=self._chance()
            )
        except HoldfastError as error:  # not recorded: the lease runs out, and it is tried again
            _log.warning(
                "a webhook try could not be recorded", delivery=str(claim.delivery_id), error=error.message
            )
            return
        metrics.WEBHOOKS.labels(verdict.outcome if verdict is not None else "taken_over").inc()
        if verdict is not None and verdict.outcome == "given_up":
            _log.warning("a webhook was given up", endpoint=str(claim.endpoint_id), message=claim.message_id)

    async def _send(self, claim: Claim, began_s: float) -> Result:
        headers = rules.signed_headers(claim.secrets, claim.message_id, claim.body, now=self._clock.now())
        headers["user-agent"] = f"Holdfast/{__version__}"
        try:
            reply = await self._http.call(
                "POST", claim.url, timeout_s=self._timeout_s, headers=headers, body=claim.body.encode()
            )
        except (NotSent, NoAnswer, UrlInvalid) as error:
            return Result(
                None, mask_text(error.message)[:WEBHOOK_RESPONSE_CHARS_MAX], self._took_ms(began_s), ""
            )
        return self._read(reply, began_s)

    def _read(self, reply: Reply, began_s: float) -> Result:
        said = reply.body[: WEBHOOK_RESPONSE_CHARS_MAX * 4].decode(errors="replace").replace("\0", "")
        return Result(
            reply.status,
            "",
            self._took_ms(began_s),
            said[:WEBHOOK_RESPONSE_CHARS_MAX],
            retry_after_s(reply.headers.get("retry-after", ""), now_s=self._clock.now().timestamp()),
        )

    def _took_ms(self, began_s: float) -> int:
        return max(0, round((self._clock.monotonic_s() - began_s) * 1_000))


def retry_after_s(header: str, *, now_s: float) -> float | None:
    """Read a Retry-After header, seconds or a date (RFC 9110, 10.2.3).

    None when it is absent or makes no sense.
    """
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header[:9])
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now_s) if header else None
    except (ValueError, TypeError):
        return None
