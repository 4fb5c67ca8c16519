"""Server-sent events that follow one payment (HTML standard, 9.2).

Each message is the whole story as it stands, ready to be shown, and its id is the position of the payment: a
browser that reconnects with `Last-Event-ID` gets at once what it missed, and nothing again that it has. While
something is under way the story is sent every half second as well, since its clock runs. A stream has a
longest life; the browser then reconnects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from litestar.response.sse import ServerSentEventMessage

from holdfast.base.clock import Clock
from holdfast.base.limits import (
    PAGE_STREAM_LIFE_S,
    PAGE_STREAM_POLL_S,
    PAGE_STREAM_RETRY_MS,
    PAGE_STREAM_TELL_S,
)

EAGER_S: Final = 60.0
"""For so long every change is looked for at once; afterwards at leisure."""

LEISURE: Final = 8
"""How many times slower a stream gets after that."""


@dataclass(frozen=True, slots=True)
class Told:
    """A story to send: `html` shows it, `position` names how far it goes."""

    position: str
    html: str
    settled: bool


async def follow(
    version: Callable[[], Awaitable[int]],
    tell: Callable[[], Awaitable[Told]],
    *,
    clock: Clock,
    last_seen: str | None,
) -> AsyncIterator[ServerSentEventMessage]:
    """Yield the story whenever it changed, until it is settled or the stream's life is over.

    `version` reads cheaply whether anything may have changed; `tell` reads and renders all. `last_seen`: the
    position that the browser has already.
    """
    begun_s = clock.monotonic_s()
    yield ServerSentEventMessage(data=None, comment="follows", retry=PAGE_STREAM_RETRY_MS)
    known = await version()
    told, told_s = await tell(), clock.monotonic_s()
    if told.settled or told.position != last_seen:
        yield _message(told)
    while not told.settled and (age_s := clock.monotonic_s() - begun_s) < PAGE_STREAM_LIFE_S:
        slower = 1 if age_s < EAGER_S else LEISURE
        await clock.sleep(PAGE_STREAM_POLL_S * slower)
        now_known = await version()
        if now_known == known and clock.monotonic_s() - told_s < PAGE_STREAM_TELL_S * slower:
            continue
        told = await tell()
        yield _message(told)
        known, told_s = now_known, clock.monotonic_s()


def _message(told: Told) -> ServerSentEventMessage:
    return ServerSentEventMessage(
        data=told.html, event="settled" if told.settled else "story", id=told.position
    )
