"""How each component did over the last day, and during an incident: numbers and curves that nobody edits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from markupsafe import Markup

from holdfast.status.graph import Graph
from holdfast.status.model import Numbers, Point
from holdfast.status.outcomes import Count, Probed, belongs
from holdfast.status.words import Tag, Words

STEP_S: Final = 900
STEPS: Final = 96
"""A day, by quarters of an hour."""
POINTS_MAX: Final = 240
"""Points of an incident's curve; a long one has wider steps."""


@dataclass(slots=True)
class Step:
    """One quarter of an hour: payments tried and failed, and probes that answered with their times."""

    start_s: int
    attempts: int = 0
    failed: int = 0
    probes: int = 0
    took_ms: int = 0


class Trends:
    """The last day of every component that is measured."""

    def __init__(self, graph: Graph) -> None:
        self._facts = {one.id: one.facts for one in graph.components.values() if one.facts}
        self._by: dict[tuple[str, str, str, str], list[str]] = {}
        self._steps: dict[str, deque[Step]] = {}

    def take(self, counts: Iterable[Count], probes: Iterable[Probed]) -> None:
        """Add what is new, oldest first."""
        for count in counts:
            for component in self._belongs(count):
                step = self._step(component, count.bucket_s)
                step.attempts += count.succeeded + count.failed
                step.failed += count.failed
        for probe in probes:
            if probe.outcome == "ok":
                step = self._step(probe.target, int(probe.at_s))
                step.probes += 1
                step.took_ms += probe.took_ms

    def _belongs(self, count: Count) -> list[str]:
        leaf = (count.capability, count.rail, count.bank, count.country)
        found = self._by.get(leaf)
        if found is None:
            if len(self._by) > 20_000:
                self._by.clear()
            found = self._by[leaf] = [id_ for id_, facts in self._facts.items() if belongs(facts, count)]
        return found

    def _step(self, component: str, at_s: int) -> Step:
        steps = self._steps.setdefault(component, deque(maxlen=STEPS))
        start_s = at_s // STEP_S * STEP_S
        if not steps or start_s > steps[-1].start_s:
            steps.append(Step(start_s))
        return steps[-1]

    def of(self, component: str, now: datetime) -> list[Step]:
        """Return the steps of the last day in which something was measured."""
        from_s = now.timestamp() - STEP_S * STEPS
        return [step for step in self._steps.get(component, ()) if step.start_s >= from_s]


def during(
    graph: Graph, components: Iterable[str], counts: Iterable[Count], from_s: float, to_s: float
) -> tuple[Numbers, ...]:
    """Return what was counted of some components between two moments, in 10 seconds or wider steps."""
    step_s = max(10, int((to_s - from_s) / (POINTS_MAX - 2)) // 10 * 10 + 10)
    measured = {id_: graph.components[id_].facts for id_ in components if id_ in graph.components}
    sums: dict[str, dict[int, list[int]]] = {id_: {} for id_, facts in measured.items() if facts}
    for count in counts:
        if not from_s - 10 <= count.bucket_s < to_s:
            continue
        for id_, points in sums.items():
            if belongs(measured[id_], count):
                point = points.setdefault(count.bucket_s // step_s * step_s, [0, 0, 0])
                for place, more in enumerate((count.succeeded + count.failed, count.failed, count.declined)):
                    point[place] += more
    made = []
    for id_, points in sums.items():
        totals = [sum(point[place] for point in points.values()) for place in range(3)]
        curve = tuple(Point(start_s, point[0], point[1]) for start_s, point in sorted(points.items()))
        if curve:
            made.append(Numbers(id_, totals[0], totals[1], totals[2], step_s, curve))
    return tuple(made)


_SHARE: Final = Words("%s: share of payments that succeeded, %s, lowest %s", "%s：支付成功率，%s，最低 %s")
_TIME: Final = Words("%s: time to answer, %s, longest %s", "%s：响应时间，%s，最长 %s")
_DAY_SPAN: Final = Words("last 24 hours", "近 24 小时")
_THEN: Final = Words("during the incident", "事件期间")


def curve_of_day(name: str, steps: Sequence[Step], now: datetime, tag: Tag) -> Markup:
    """Draw how a component did over the last day; nothing where nothing was measured."""
    from_s, width_s = now.timestamp() - STEP_S * STEPS, STEP_S * STEPS
    shares = [((s.start_s - from_s) / width_s, 1 - s.failed / s.attempts) for s in steps if s.attempts]
    times = [((s.start_s - from_s) / width_s, s.took_ms / s.probes) for s in steps if s.probes]
    parts = []
    if shares:
        lowest = min(share for _, share in shares)
        label = _SHARE.say(tag) % (name, _DAY_SPAN.say(tag), f"{lowest * 100:.1f} %")
        parts.append(_drawn(label, [(x, 1 - share) for x, share in shares]))
    if times:
        longest = max(ms for _, ms in times)
        label = _TIME.say(tag) % (name, _DAY_SPAN.say(tag), f"{longest:.0f} ms")
        parts.append(_drawn(label, [(x, 1 - ms / (longest or 1.0)) for x, ms in times]))
    return Markup("").join(parts)


def curve_of_incident(name: str, numbers: Numbers, tag: Tag) -> Markup:
    """Draw how a component did during an incident."""
    first, last = numbers.points[0].start_s, numbers.points[-1].start_s
    width_s = max(1, last - first)
    shares = [
        ((p.start_s - first) / width_s, 1 - p.failed / p.attempts) for p in numbers.points if p.attempts
    ]
    if not shares:
        return Markup("")
    lowest = min(share for _, share in shares)
    label = _SHARE.say(tag) % (name, _THEN.say(tag), f"{lowest * 100:.1f} %")
    return _drawn(label, [(x, 1 - share) for x, share in shares])


def _drawn(label: str, points: Sequence[tuple[float, float]]) -> Markup:
    """Draw a curve of points within 0 to 1, 0 being at the top, with its label as text."""
    path = " ".join(f"{x * 450:.1f},{2 + y * 44:.1f}" for x, y in points)
    if len(points) == 1:
        path += f" {points[0][0] * 450 + 3:.1f},{2 + points[0][1] * 44:.1f}"
    head = Markup(
        '<figure class="curve"><svg viewBox="0 0 450 48" preserveAspectRatio="none" role="img" '
        'aria-label="%s">'
        '<path d="M0 2H450M0 46H450" class="axis"/><polyline points="%s"/></svg><figcaption class="soft">%s'
        "</figcaption></figure>"
    )
    return head % (label, path, label)
