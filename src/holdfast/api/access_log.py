"""Watching requests: counted for Prometheus, and a JSON line each in the access log.

Lines are written in blocks, so that they cost next to nothing.
A line holds no secret: no header, no query string, no body.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Final, TextIO

import msgspec

from holdfast.base.limits import ACCESS_LOG_FLUSH_S, ACCESS_LOG_LINES_MAX
from holdfast.platform import metrics

_encode: Final = msgspec.json.Encoder().encode
_PATH_CHARS_MAX: Final = 200
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STRANGE: Final = "other"
"""Whatever else a caller calls a method: it can be any word, and each would be counted for ever."""
_SHED: Final = {503: "unavailable", 429: "merchant"}


class _Line(msgspec.Struct, frozen=True, gc=False):
    """One line; its fields in the order in which they are written."""

    timestamp: datetime
    event: str
    method: str
    path: str
    status: int
    duration_ms: float
    request_id: str


class Watcher:
    """Counts every request, and logs those whose status is at least `logged_from`."""

    def __init__(self, log: AccessLog, *, logged_from: int = 0) -> None:
        self._log = log
        self._logged_from = logged_from
        self._observe: dict[tuple[str, str, int], Callable[[float], None]] = {}

    def __call__(
        self, method: str, path: str, route: str, status: int, seconds: float, request_id: str
    ) -> None:
        """Take note of a request that was answered with `status` after `seconds`."""
        if method not in _METHODS:
            method = _STRANGE
        labels = (route, method, status)
        observe = self._observe.get(labels)
        if observe is None:
            observe = self._observe[labels] = metrics.REQUESTS.labels(route, method, str(status)).observe
        observe(seconds)
        if status in _SHED:
            metrics.SHED.labels(_SHED[status]).inc()
        if status >= self._logged_from:
            self._log(method, path, status, seconds, request_id)


class AccessLog:
    """Collects lines and writes them every `ACCESS_LOG_FLUSH_S`.

    Beyond `ACCESS_LOG_LINES_MAX` in between, it counts.
    """

    def __init__(self, now: Callable[[], datetime], out: TextIO | None = None) -> None:
        self._now = now
        self._out = out
        self._lines: list[bytes] = []
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, method: str, path: str, status: int, seconds: float, request_id: str) -> None:
        """Note a request that was answered after `seconds`."""
        if len(self._lines) >= ACCESS_LOG_LINES_MAX:
            self._dropped += 1
            return
        duration_ms = round(seconds * 1000, 2)
        line = _Line(self._now(), "request", method, path[:_PATH_CHARS_MAX], status, duration_ms, request_id)
        self._lines.append(_encode(line))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ACCESS_LOG_FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what was collected."""
        self._timer = None
        lines, self._lines = self._lines, []
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(
                _encode({"timestamp": self._now(), "event": "access lines dropped", "count": dropped})
            )
        if lines:
            out = self._out or sys.stderr
            out.write(b"\n".join(lines).decode() + "\n")
            out.flush()
