"""The watch over probes: what somebody outside finds, also where nobody pays.

A component is out when three probes in a row failed, or one while the wallet, which reported before, is
silent: missing facts are evidence. It is well again after three good ones in a row. A probe that could not
try says nothing, either way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from holdfast.status.outcomes import Probed

IN_A_ROW: Final = 3
SILENT_S: Final = 5.0
"""The wallet reports every second; so long without one is silence."""
LOST_S: Final = 15.0
"""So long without any report, and without a probe that could try: nothing is measured."""


@dataclass(slots=True)
class _Line:
    """Failures and successes in a row, since when, whether it is out, and whether that was told."""

    failed: int = 0
    good: int = 0
    since_s: float = 0.0
    out: bool = False
    tried_s: float = 0.0
    told: bool = False


class Probing:
    """Watches probes and the wallet's own reports."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._heard_s = 0.0

    def heard(self, at_s: float) -> None:
        """Note a report of the wallet."""
        self._heard_s = max(self._heard_s, at_s)

    def live(self, now_s: float) -> bool:
        """Tell whether the wallet reports at present."""
        return now_s - self._heard_s < SILENT_S

    def unmeasured(self, now_s: float) -> bool:
        """Tell whether nothing is measured: no reports, though there were some, and no probe could try."""
        tried_s = max((line.tried_s for line in self._lines.values()), default=0.0)
        told = self._heard_s > 0 or bool(self._lines)
        return told and now_s - self._heard_s >= LOST_S and now_s - tried_s >= LOST_S

    def tick(self, now_s: float, probes: Iterable[Probed]) -> dict[str, float | None]:
        """Return the components that changed: since when they are out, or None when well again."""
        changed: dict[str, float | None] = {}
        for probe in probes:
            line = self._lines.setdefault(probe.target, _Line(tried_s=now_s))
            if probe.outcome == "unmeasured":
                continue
            line.tried_s = now_s
            if probe.outcome == "ok":
                line.failed, line.good = 0, line.good + 1
                if line.good >= IN_A_ROW and (line.out or not line.told):
                    line.out, line.told = False, True
                    changed[probe.target] = None
                continue
            if not line.failed:
                line.since_s = probe.at_s
            line.failed, line.good = line.failed + 1, 0
        silent = self._heard_s > 0 and not self.live(now_s)
        for target, line in self._lines.items():
            if not line.out and (line.failed >= IN_A_ROW or (line.failed and silent)):
                line.out = line.told = True
                changed[target] = line.since_s
        return changed

    def out(self, target: str) -> bool:
        """Tell whether probes find a component out."""
        return target in self._lines and self._lines[target].out

    def dump(self) -> dict[str, Any]:
        """Return what a restart needs."""
        return {"out": {target: line.since_s for target, line in self._lines.items() if line.out}}

    @classmethod
    def load(cls, kept: dict[str, Any]) -> Probing:
        """Return what was dumped."""
        made = cls()
        for target, since_s in kept["out"].items():
            made._lines[target] = _Line(failed=IN_A_ROW, since_s=since_s, out=True)
        return made
