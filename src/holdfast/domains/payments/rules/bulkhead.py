"""A cap on the calls that are under way at one rail, so that a rail which hangs never takes what others need.

The cap follows latency: when answers take longer than they used to, requests are queueing somewhere over
there, and more of them would only wait. After the gradient limiter of Netflix's concurrency-limits
("Gradient2"): the ratio of long-term to recent latency, with some tolerance, scales the cap; a small
allowance for bursts lets it grow back.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BulkheadSettings:
    """Bounds and temper of a cap, in calls under way.

    `tolerance`: how many times its usual latency a rail may take before the cap falls. `burst`: the growth
    per answer while all is well, before smoothing. `long_samples`, `short_samples`: answers that the two
    latency averages remember.
    """

    floor: int = 4
    ceiling: int = 64
    tolerance: float = 2.0
    burst: float = 4.0
    smoothing: float = 0.2
    long_samples: int = 600
    short_samples: int = 10


class Bulkhead:
    """One rail's cap."""

    __slots__ = ("_answers", "_ceiling", "_limit", "_long_s", "_settings", "_short_s", "in_flight")

    def __init__(self, settings: BulkheadSettings, ceiling: int | None = None) -> None:
        """Start at the ceiling: there is no evidence yet against the rail."""
        self._settings = settings
        self._ceiling = max(settings.floor, settings.ceiling if ceiling is None else ceiling)
        self._limit = float(self._ceiling)
        self._long_s = 0.0
        self._short_s = 0.0
        self._answers = 0
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """How many calls may be under way now."""
        return int(self._limit)

    @property
    def latency_s(self) -> float:
        """What answers take lately, seconds; 0 before the first."""
        return self._short_s

    @property
    def full(self) -> bool:
        """Whether another call must wait or go elsewhere."""
        return self.in_flight >= int(self._limit)

    def enter(self) -> bool:
        """Take a place, if there is one."""
        if self.in_flight >= int(self._limit):
            return False
        self.in_flight += 1
        return True

    def leave(self, latency_s: float | None) -> None:
        """Give a place back. `latency_s` None: the call told nothing about latency (nothing was sent)."""
        busy = self.in_flight
        self.in_flight = max(busy - 1, 0)
        if latency_s is None:
            return
        settings = self._settings
        self._answers += 1
        self._long_s += (latency_s - self._long_s) / min(self._answers, settings.long_samples)
        self._short_s += (latency_s - self._short_s) / min(self._answers, settings.short_samples)
        if self._long_s > 2.0 * self._short_s:
            self._long_s *= 0.95  # after a long slowness the memory of it must not excuse the next one
        if busy < self._limit / 2.0:
            return  # the cap did not bind, so this answer says nothing about it
        gradient = min(1.0, max(0.5, settings.tolerance * self._long_s / max(self._short_s, 1e-6)))
        wanted = self._limit * gradient + settings.burst
        limit = self._limit + (wanted - self._limit) * settings.smoothing
        self._limit = min(float(self._ceiling), max(float(settings.floor), limit))
