"""Whether what was maintained works again: told by payments and by probes since the end of the work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from holdfast.status.graph import Graph
from holdfast.status.maintenance.plan import Maintenance
from holdfast.status.outcomes import Count, Probed, belongs

Verdict = Literal["well", "bad", "unknown"]

ATTEMPTS: Final = 20
"""Payments that show that something works, unless more than `BAD_SHARE` of them fail."""
BAD_ATTEMPTS: Final = 10
BAD_SHARE: Final = 0.25
WELL_SHARE: Final = 0.05
IN_A_ROW: Final = 3


@dataclass(slots=True)
class _Seen:
    attempts: int = 0
    failed: int = 0
    good: int = 0
    bad: int = 0
    """Probes in a row."""

    def verdict(self) -> Verdict:
        if self.bad >= 2 or (self.attempts >= BAD_ATTEMPTS and self.failed > BAD_SHARE * self.attempts):
            return "bad"
        few = self.failed <= max(1, WELL_SHARE * self.attempts)
        if self.good >= IN_A_ROW and few:
            return "well"
        return "well" if self.attempts >= ATTEMPTS and few and not self.bad else "unknown"


class Checks:
    """What was seen of each component that is being checked. Kept in memory: a restart looks anew."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._seen: dict[tuple[str, str], _Seen] = {}
        """By maintenance and component."""

    def take(self, verifying: list[Maintenance], counts: Iterable[Count], probes: Iterable[Probed]) -> None:
        """Take what is new for the windows that are being checked."""
        live = {(one.id, component) for one in verifying for component in one.components}
        self._seen = {key: self._seen.get(key) or _Seen() for key in live}
        if not live:
            return
        counted, probed = list(counts), list(probes)
        for (_, component), seen in self._seen.items():
            self._one(component, seen, counted, probed)

    def _one(self, component: str, seen: _Seen, counts: list[Count], probes: list[Probed]) -> None:
        known = self._graph.components.get(component)
        for count in counts:
            if known is not None and known.facts and belongs(known.facts, count):
                seen.attempts += count.succeeded + count.failed + count.declined
                seen.failed += count.failed
        for probe in probes:
            if probe.target != component or probe.outcome == "unmeasured":
                continue
            if probe.outcome == "ok":
                seen.good, seen.bad = seen.good + 1, 0
            else:
                seen.good, seen.bad = 0, seen.bad + 1

    def verdict(self, one: Maintenance) -> Verdict:
        """Tell whether all that a window touched works again, as far as it can be measured."""
        found = [self._seen[one.id, c].verdict() for c in one.components if (one.id, c) in self._seen]
        if "bad" in found:
            return "bad"
        return "well" if "well" in found else "unknown"

    def share(self, one: Maintenance) -> tuple[float, int]:
        """Return the share of payments that failed since the end of the work, and how many there were."""
        seen = [self._seen[one.id, c] for c in one.components if (one.id, c) in self._seen]
        attempts, failed = sum(each.attempts for each in seen), sum(each.failed for each in seen)
        return (failed / attempts if attempts else 1.0), attempts
