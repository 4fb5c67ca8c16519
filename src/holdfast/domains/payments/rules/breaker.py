"""A circuit breaker for latency and money safety, never for success rate.

A rail that declines is a matter for routing, which learns and forgets gracefully. A rail that does not answer
is another: each call costs its whole timeout, and each unknown ties a payment's capture token up or leaves a
hold behind. So a breaker looks at two shares among its latest calls: unknown outcomes, and slow answers.

    closed --(a share too high)--> open --(cool-down over)--> half-open --(one probe answers in time)-->
    closed
                                    ^                             |
                                    +-------(it does not; longer)-+
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When to stop calling a rail, and for how long.

    It opens when, among the latest `window` calls of the last `window_s` (at least `calls_min` of them), the
    share of unknown outcomes reaches `unknown_share_max`, or that of answers later than `slow_s` reaches
    `slow_share_max`. It stays open for `cool_down_s`, twice as long after each failed probe, up to
    `cool_down_s_max`.
    """

    window: int = 20
    window_s: float = 120.0
    calls_min: int = 8
    unknown_share_max: float = 0.5
    slow_share_max: float = 0.75
    slow_s: float = 5.0
    cool_down_s: float = 5.0
    cool_down_s_max: float = 60.0


class Breaker:
    """One rail's breaker. Time is any clock in seconds that does not go back."""

    __slots__ = (
        "_calls",
        "_cool_down_s",
        "_open_until_s",
        "_probing",
        "_settings",
        "_slow",
        "_unknown",
        "why",
    )

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._calls: deque[tuple[float, bool, bool]] = deque()
        self._unknown = 0
        self._slow = 0
        self._open_until_s: float | None = None
        self._cool_down_s = settings.cool_down_s
        self._probing = False
        self.why = ""
        """Why it is not closed, in words."""

    def state(self, now_s: float) -> BreakerState:
        """Return where it stands."""
        if self._open_until_s is None:
            return "closed"
        return "open" if now_s < self._open_until_s else "half_open"

    def waited_s(self, now_s: float) -> float | None:
        """Return how long it has waited for a probe since its cool-down; None when it wants none."""
        if self._open_until_s is None or now_s < self._open_until_s or self._probing:
            return None
        return now_s - self._open_until_s

    def enter(self, now_s: float) -> Literal["call", "probe"] | None:
        """Ask to make a call: None when it must not be made; `probe` takes the one place of half-open."""
        if self._open_until_s is None:
            return "call"
        if self._probing or now_s < self._open_until_s:
            return None
        self._probing = True
        return "probe"

    def leave(self, now_s: float, *, probe: bool, unknown: bool, latency_s: float, sent: bool = True) -> None:
        """Tell how an admitted call went.

        A call that could not be sent is no doubt about money, and no recovery.
        """
        slow = latency_s >= self._settings.slow_s
        if probe:
            self._probing = False
            if unknown or slow or not sent:
                self._cool_down_s = min(self._cool_down_s * 2.0, self._settings.cool_down_s_max)
                self._open_until_s = now_s + self._cool_down_s
            else:
                self._close()
        elif self._open_until_s is None:
            self._count(now_s, unknown, slow)

    def abandon(self, *, probe: bool) -> None:
        """Give an admitted call back that told nothing (it was never made, or its end was never reported)."""
        if probe:
            self._probing = False

    def _close(self) -> None:
        self._open_until_s = None
        self._cool_down_s = self._settings.cool_down_s
        self._calls.clear()
        self._unknown = self._slow = 0
        self.why = ""

    def _count(self, now_s: float, unknown: bool, slow: bool) -> None:
        settings, calls = self._settings, self._calls
        calls.append((now_s, unknown, slow))
        self._unknown += unknown
        self._slow += slow
        while len(calls) > settings.window or calls[0][0] < now_s - settings.window_s:
            _, was_unknown, was_slow = calls.popleft()
            self._unknown -= was_unknown
            self._slow -= was_slow
        n = len(calls)
        if n < settings.calls_min or not (unknown or slow):
            return
        if self._unknown >= settings.unknown_share_max * n:
            self.why = f"{self._unknown} of its last {n} calls brought no answer"
        elif self._slow >= settings.slow_share_max * n:
            self.why = f"{self._slow} of its last {n} answers took {settings.slow_s:g} s or longer"
        else:
            return
        self._open_until_s = now_s + self._cool_down_s
