"""Outcomes of payments, counted where they are learned and told to the status service once a second.

The counters are this process's own: they need no database, so that they go on telling while it is away. Each
payment counts once on each rail that it was tried on, by its first try there: retries do not make a failure
look larger. What could not be told is kept and told with the next report; a report that may have arrived is
sent again under its number, which the service takes once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Final, Literal

import msgspec

from holdfast.base.errors import HoldfastError
from holdfast.base.secret import Secret
from holdfast.platform.http import HttpClient
from holdfast.platform.log import logger

_log: Final = logger(__name__)
EVERY_S: Final = 1.0
"""How often a process reports, also when nothing happened: silence would be trouble of its own."""
TIMEOUT_S: Final = 3.0
PLANNED_S: Final = 600.0
"""What was said of maintenance holds for so long without the status service."""
LEAVES_MAX: Final = 5_000
"""Leaves of one report; what is beyond is counted under its capability and rail alone."""
COUNT_MAX: Final = 1_000_000_000
"""Outcomes of one kind in one row."""

Kind = Literal["succeeded", "failed", "declined"]
_PLACE: Final[dict[Kind, int]] = {"succeeded": 0, "failed": 1, "declined": 2}

_Text = Annotated[str, msgspec.Meta(max_length=40, pattern="^[A-Za-z0-9_.:-]*$")]
_Number = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class Row(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A line of a report: the leaf, and what is new since the last report.

    `failed` is technical: errors and silence of the other side. `declined` is the payer's bank or funds
    saying no, which counts against no rail.
    """

    capability: _Text
    rail: _Text
    bank: _Text
    country: _Text
    succeeded: _Number
    failed: _Number
    declined: _Number


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one process tells.

    `number` increases by one with each report of a `source`; a repeated one is taken once. `waiting` are
    payments that are open, `oldest_s` how long the oldest of them has been.
    """

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    number: Annotated[int, msgspec.Meta(ge=0)]
    rows: Annotated[tuple[Row, ...], msgspec.Meta(max_length=LEAVES_MAX)] = ()
    waiting: _Number | None = None
    oldest_s: Annotated[float, msgspec.Meta(ge=0)] | None = None


class Outcomes:
    """Counts outcomes. `waiting` and `oldest_s` are told along when they are known."""

    __slots__ = ("_counts", "oldest_s", "waiting")

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str, str], list[int]] = {}
        self.waiting: int | None = None
        self.oldest_s: float | None = None

    def count(self, kind: Kind, capability: str, rail: str, bank: str = "", country: str = "") -> None:
        """Count one payment's first try on a rail."""
        leaf = (capability, rail, bank, country)
        counts = self._counts.get(leaf)
        if counts is None:
            if len(self._counts) >= LEAVES_MAX // 2:
                leaf = (capability, rail, "", "")
            counts = self._counts.setdefault(leaf, [0, 0, 0])
        counts[_PLACE[kind]] += 1

    def drain(self) -> tuple[Row, ...]:
        """Return what is new, and begin anew."""
        counts, self._counts = self._counts, {}
        return tuple(Row(*leaf, *numbers) for leaf, numbers in counts.items())


class Answer(msgspec.Struct, frozen=True):
    """What the status service says to a report: `planned` rails are, or will soon be, under maintenance."""

    taken: bool
    planned: tuple[str, ...] = ()


@asynccontextmanager
async def telling(
    outcomes: Outcomes, url: str, token: Secret | None, source: str, planned: Callable[[Sequence[str]], None]
) -> AsyncIterator[None]:
    """Tell the status service at `url` what is counted, for as long as the block runs; with no `url`, nobody.

    Nothing waits for the service, and nothing fails with it. `planned` is told the rails to avoid, whenever
    they change; a service that is silent for `PLANNED_S` has said nothing of the kind.
    """
    if not url or token is None:
        yield
        return
    teller = asyncio.create_task(_tell(outcomes, f"{url}/v1/facts", token, source, planned))
    try:
        yield
    finally:
        teller.cancel()
        await asyncio.gather(teller, return_exceptions=True)


async def _tell(
    outcomes: Outcomes, url: str, token: Secret, source: str, planned: Callable[[Sequence[str]], None]
) -> None:
    client = HttpClient(allow_private=True, connections_max=1)
    headers = {"authorization": f"Bearer {token.reveal()}", "content-type": "application/json"}
    number, told = 0, True
    avoided: tuple[str, ...] = ()
    heard_s = time.monotonic()
    try:
        while True:
            body = msgspec.json.encode(
                Report(source, number, outcomes.drain(), outcomes.waiting, outcomes.oldest_s)
            )
            while (answer := await _sent(client, url, headers, body)) is None:
                if avoided and time.monotonic() - heard_s > PLANNED_S:
                    avoided = ()
                    planned(avoided)
                if told:
                    _log.warning("the status service does not take reports", url=url)
                told = False
                await asyncio.sleep(EVERY_S)
            told, number, heard_s = True, number + 1, time.monotonic()
            if answer.planned != avoided:
                avoided = answer.planned
                planned(avoided)
            await asyncio.sleep(EVERY_S)
    finally:
        await client.close()


async def _sent(client: HttpClient, url: str, headers: dict[str, str], body: bytes) -> Answer | None:
    try:
        reply = await client.call("POST", url, timeout_s=TIMEOUT_S, headers=headers, body=body)
        return msgspec.json.decode(reply.body, type=Answer) if reply.status == 200 else None
    except (HoldfastError, msgspec.DecodeError):
        return None
