"""`make bench-detect`: how fast trouble in payments is noticed, and how often there is none.

Generated traffic over two capabilities, four rails and five banks, with the shape of a day and of a week, 1 %
of payments failing at a rate that wanders (over minutes, up to three times as high), told to the watch twice
a second as the wallet would. The watch has learned a week of it. Time is the traffic's own: nothing waits.

* total loss of one rail, and a failure of 30 % on one rail, each from many onsets: seconds until an incident
  opens, and whether it stands at that rail;
* quiet days: incidents that are opened although nothing is wrong.

Ratios: none is a ratio of two rates; the figures are seconds and counts. Seeds differ from those that the
thresholds were chosen with.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from bench.report import report
from holdfast.status.detect.nodes import Leaf
from holdfast.status.detect.watch import Decision, Found, Watch
from holdfast.status.outcomes import Count

RATES: Final = (5.0, 50.0, 500.0)
"""Payments per second, on average over a week."""
LEAVES: Final = tuple(
    (capability, rail, f"bank{bank}", "")
    for capability in ("pay", "top_up")
    for rail in ("north", "south", "east", "west")
    for bank in range(5)
)
MONDAY_S: Final = 1_767_571_200  # 2026-01-05, in UTC
SEED: Final = 20_261_127
_WEEK_S: Final = 7 * 86_400
_FAILS: Final = 0.01


class Traffic:
    """Payments of a wallet, drawn by seed. `faults`: rail -> the share of its payments that fail."""

    def __init__(self, rate: float, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        weights = 1.0 / np.arange(1, len(LEAVES) + 1) ** 0.7
        self._weights = rate * weights / weights.sum()
        self._wander = np.zeros(len(LEAVES))
        self.faults: dict[str, float] = {}

    def step(self, at_s: float, step_s: float) -> list[Count]:
        """Return what happens in a step of time."""
        hour = at_s % 86_400 / 3_600
        shape = 0.25 + 1.5 * max(0.0, float(np.sin((hour - 6) / 18 * np.pi))) if hour >= 6 else 0.25
        weekend = 1.3 if at_s % _WEEK_S // 86_400 in (2, 3) else 0.9
        many = self._draw.poisson(self._weights * (shape * weekend * step_s))
        calm = np.exp(-step_s / 300)
        noise = self._draw.normal(size=len(LEAVES)) * np.sqrt(1 - calm**2)
        self._wander = self._wander * calm + noise
        shares = np.minimum(0.5, _FAILS * np.exp(0.45 * self._wander))
        for place, leaf in enumerate(LEAVES):
            if leaf[1] in self.faults:
                shares[place] = max(shares[place], self.faults[leaf[1]])
        failed = self._draw.binomial(many, shares)
        bucket_s = int(at_s) // 10 * 10
        return [
            Count(bucket_s, *LEAVES[i], int(many[i] - failed[i]), int(failed[i]), 0)
            for i in np.nonzero(many)[0]
        ]


def _learned(
    rate: float, seed: int, days: float, step_s: float
) -> tuple[Watch, Traffic, float, list[Decision]]:
    watch, traffic, at_s = Watch(), Traffic(rate, seed), float(MONDAY_S)
    decisions: list[Decision] = []
    while at_s < MONDAY_S + days * 86_400:
        decisions += watch.tick(at_s, traffic.step(at_s, step_s), live=True)
        at_s += step_s
    return watch, traffic, at_s, decisions


@dataclass(slots=True)
class _Onsets:
    """Seconds until each fault was opened, and how many of them at the right place."""

    took_s: list[float] = field(default_factory=list)
    placed: int = 0

    def row(self) -> str:
        right = f"{self.placed}/{len(self.took_s)}"
        return f"{statistics.median(self.took_s):.1f}, {max(self.took_s):.1f}, {right}"


def _onsets(rate: float, seed: int, share: float, onsets: int, week: dict[str, Any]) -> _Onsets:
    """Try faults at moments spread over a day. `week`: what the watch has learned."""
    at_s = MONDAY_S + 7 * 86_400.0
    watch, traffic = Watch.load(week, at_s), Traffic(rate, seed)
    done = _Onsets()
    for _ in range(onsets):
        pause_s = 86_400 / onsets
        start_s, rail = at_s + pause_s, ("north", "south", "east", "west")[len(done.took_s) % 4]
        while at_s < start_s - 120:
            watch.tick(at_s, traffic.step(at_s, 60.0), live=True)
            at_s += 60.0
        traffic.faults = {}
        found: Leaf | None = None
        while found is None and at_s < start_s + 600:
            if at_s >= start_s:
                traffic.faults = {rail: share}
            for one in watch.tick(at_s, traffic.step(at_s, 0.5), live=True):
                if isinstance(one, Found) and at_s >= start_s and one.node[1] in (rail, "*"):
                    found = one.node
            at_s += 0.5
        done.took_s.append(at_s - start_s)
        done.placed += bool(watch.open) and watch.open[-1] == ("*", rail, "*", "*")
        traffic.faults = {}
        ends_s = at_s + 600
        while watch.open and at_s < ends_s:
            watch.tick(at_s, traffic.step(at_s, 1.0), live=True)
            at_s += 1.0
    return done


def _tick_ms(leaves: int) -> float:
    """Return the middle milliseconds of a tick with so many leaves, all of them busy."""
    watch = Watch()
    counts = [Count(0, "pay", f"rail{n % 10}", f"bank{n}", "CN", 5, 0, 0) for n in range(leaves)]
    took = []
    for tick in range(60):
        began_s = time.perf_counter()
        watch.tick(MONDAY_S + tick / 2, counts, live=True)
        took.append((time.perf_counter() - began_s) * 1_000)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--onsets", type=int, default=32)
    parser.add_argument(
        "--days", type=float, default=37.0, help="quiet days, the week of learning among them"
    )
    parser.add_argument("--quick", action="store_true", help="only prove that it works")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    onsets, days = (4, 8.0) if options.quick else (options.onsets, options.days)
    rows: list[tuple[str, ...]] = [
        ("payments/s", "total loss: middle, worst s, placed", "30 % failing", "false in 30 days")
    ]
    figures: dict[str, float] = {}
    for number, rate in enumerate(RATES):
        week = _learned(rate, options.seed + 30 + number, 7.0, 60.0)[0].dump()
        total = _onsets(rate, options.seed + number, 1.0, onsets, week)
        part = _onsets(rate, options.seed + 10 + number, 0.3, onsets, week)
        *_, decisions = _learned(rate, options.seed + 20 + number, days, 60.0)
        false = sum(isinstance(one, Found) for one in decisions) / days * 30
        rows.append(
            (
                f"{rate:g}",
                total.row(),
                part.row(),
                f"{false:.1f}",
            )
        )
        figures |= {
            f"total_loss_s_{rate:g}": statistics.median(total.took_s),
            f"total_loss_worst_s_{rate:g}": max(total.took_s),
            f"part_loss_s_{rate:g}": statistics.median(part.took_s),
            f"part_loss_worst_s_{rate:g}": max(part.took_s),
            f"false_in_30_days_{rate:g}": false,
        }
    figures["tick_ms_500_leaves"] = _tick_ms(500)
    report(
        "detect",
        ratios={},
        figures=figures,
        table=rows,
        notes=[f"A tick with 500 busy leaves takes {figures['tick_ms_500_leaves']:.1f} ms."],
    )


if __name__ == "__main__":
    main()
