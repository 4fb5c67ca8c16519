"""What is normal: how often payments fail, and how many there are, at this hour of the week.

For each node and each of the 168 hours of a week, attempts and failures are remembered with forgetting: when
an hour comes round again, what was known of it counts `KEPT` as much as before. A share is shrunk towards
the node's own share over all hours, that towards a rate of 1 %, each as if so many attempts had been seen
there:

    p(hour) = (failed(hour) + 50 p(all)) / (attempts(hour) + 50)
    p(all)  = (failed + 200 * 0.01) / (attempts + 200)

the means of Beta posteriors. What happened during an incident, or in the five minutes before it was noticed,
is not learned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from holdfast.status.detect.nodes import Node

HOURS: Final = 168
KEPT: Final = 0.7
USUAL: Final = 0.01
"""The share that fails where nothing is known yet."""
_HOUR_WEIGHT: Final = 50.0
_HOUR_TIMES_MAX: Final = 2.0
"""An hour is not taken to be worse than so many times the usual: what fails slowly would pass for normal."""
_NODE_WEIGHT: Final = 200.0
NODES_MAX: Final = 5_000
"""Nodes that are remembered; further ones are judged by what is usual."""


def hour_of(at_s: float) -> int:
    """Return the hour of the week, 0 to 167, of a moment in seconds since 1970 (a Thursday)."""
    return int(at_s // 3_600) % HOURS


class Baseline:
    """What was learned."""

    def __init__(self) -> None:
        self._seen: dict[Node, NDArray[np.float64]] = {}
        """By node: attempts, failures, and seconds watched, each by hour."""
        self._hours: dict[Node, tuple[int, int]] = {}
        """By node: the hour of the week that is being learned, and its number since 1970."""

    def learn(self, node: Node, at_s: float, attempts: int, failed: int, watched_s: float) -> None:
        """Remember what happened at a node in a stretch of time without trouble."""
        seen = self._seen.get(node)
        if seen is None:
            if len(self._seen) >= NODES_MAX:
                return
            seen = self._seen[node] = np.zeros((3, HOURS))
        hour, number = hour_of(at_s), int(at_s // 3_600)
        if self._hours.get(node) != (hour, number):
            self._hours[node] = (hour, number)
            seen[:, hour] *= KEPT
        seen[:, hour] += (attempts, failed, watched_s)

    def known(self, also: Iterable[Node]) -> list[Node]:
        """Return every node that is remembered, and `also` those."""
        return list(dict.fromkeys((*self._seen, *also)))

    def usual(self, node: Node) -> float:
        """Return the share of attempts that fails normally, over all hours."""
        seen = self._seen.get(node)
        if seen is None:
            return USUAL
        return float((seen[1].sum() + _NODE_WEIGHT * USUAL) / (seen[0].sum() + _NODE_WEIGHT))

    def share(self, node: Node, at_s: float) -> float:
        """Return the share of attempts that fails normally at this hour of the week."""
        seen = self._seen.get(node)
        if seen is None:
            return USUAL
        whole = self.usual(node)
        hour = hour_of(at_s)
        here = float((seen[1, hour] + _HOUR_WEIGHT * whole) / (seen[0, hour] + _HOUR_WEIGHT))
        return min(here, _HOUR_TIMES_MAX * whole)

    def rate(self, node: Node, at_s: float) -> float:
        """Return the attempts per second that are normal; 0 where this hour is not known."""
        seen = self._seen.get(node)
        hour = hour_of(at_s)
        if seen is None or seen[2, hour] < _RATE_WATCHED_S:
            return 0.0
        return float(seen[0, hour] / seen[2, hour])

    def dump(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        return {
            "|".join(node): {
                "hour": self._hours[node],
                "seen": {
                    str(hour): [round(float(x), 3) for x in seen[:, hour]] for hour in np.nonzero(seen[2])[0]
                },
            }
            for node, seen in self._seen.items()
        }

    @classmethod
    def load(cls, kept: dict[str, Any]) -> Baseline:
        """Return what was dumped."""
        made = cls()
        for text, one in kept.items():
            capability, rail, bank, country = text.split("|")
            node = (capability, rail, bank, country)
            seen = made._seen[node] = np.zeros((3, HOURS))
            made._hours[node] = (one["hour"][0], one["hour"][1])
            for hour, numbers in one["seen"].items():
                seen[:, int(hour)] = numbers
        return made


_RATE_WATCHED_S: Final = 600.0
"""Seconds of an hour that were watched before its number of payments is taken as normal."""
