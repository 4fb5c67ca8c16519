"""Probes: what somebody outside would find, tried every few seconds, payments among it.

A probe that failed because of this machine (no name, no route) measured nothing, and says so: that is another
thing than a wallet that does not answer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final
from uuid import uuid4

import msgspec

from holdfast.base.clock import Clock
from holdfast.platform.http import HttpClient, NoAnswer, NotSent, UrlInvalid
from holdfast.platform.log import logger
from holdfast.status.outcomes import Outcome, Probed
from holdfast.status.settings import Probe

_log: Final = logger(__name__)
_OURS: Final = frozenset({"name_not_resolved", "no_route"})
"""Reasons of `NotSent` that lie on this side."""
_FAILED_FROM: Final = 500
"""Answers from here on are failures of the wallet; a refusal below is an answer."""


class Prober:
    """Tries every probe at its own pace, and tells what it found."""

    def __init__(self, probes: tuple[Probe, ...], clock: Clock, tell: Callable[[Probed], None]) -> None:
        self._probes = probes
        self._clock = clock
        self._tell = tell

    async def run(self) -> None:
        """Probe until cancelled."""
        if not self._probes:
            return
        client = HttpClient(allow_private=True, connections_max=2 * len(self._probes))
        try:
            async with asyncio.TaskGroup() as group:
                for number, probe in enumerate(self._probes):
                    share = number / len(self._probes)
                    group.create_task(self._again_and_again(client, probe, share * probe.every_s))
        finally:
            await client.close()

    async def _again_and_again(self, client: HttpClient, probe: Probe, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        due_s = self._clock.monotonic_s()
        while True:
            self._tell(await self.once(client, probe))
            due_s = max(due_s + probe.every_s, self._clock.monotonic_s())
            await self._clock.sleep(due_s - self._clock.monotonic_s())

    async def once(self, client: HttpClient, probe: Probe) -> Probed:
        """Try one probe."""
        started_s = self._clock.monotonic_s()
        outcome = await self._outcome(client, probe)
        took_ms = int((self._clock.monotonic_s() - started_s) * 1_000)
        return Probed(self._clock.now().timestamp(), probe.component, outcome, took_ms)

    async def _outcome(self, client: HttpClient, probe: Probe) -> Outcome:
        headers, body, method = _request(probe)
        try:
            reply = await client.call(
                method, probe.url, timeout_s=probe.timeout_s, headers=headers, body=body
            )
        except NotSent as error:
            return "unmeasured" if error.reason in _OURS else "failed"
        except NoAnswer:
            return "failed"
        except UrlInvalid as error:
            _log.error("a probe's address is wrong", component=probe.component, why=error.message)
            return "unmeasured"
        if reply.status >= _FAILED_FROM:
            return "failed"
        if 200 <= reply.status < 300:
            return "ok"
        _log.warning("a probe was refused", component=probe.component, status=reply.status)
        return "unmeasured"


def _request(probe: Probe) -> tuple[dict[str, str], bytes | None, str]:
    headers = {"user-agent": "holdfast-status"}
    key = os.environ.get(probe.key_variable, "") if probe.key_variable else ""
    if key:
        headers["authorization"] = f"Bearer {key}"
    if probe.payment is None:
        return headers, None, "GET"
    body = {
        "amount": {"asset": probe.payment.asset, "amount_minor": probe.payment.amount_minor},
        "payer": probe.payment.payer,
        "description": "status probe",
    }
    headers |= {"content-type": "application/json", "idempotency-key": str(uuid4())}
    return headers, msgspec.json.encode(body), "POST"
