"""The watch over outcomes: a likelihood-ratio CUSUM at every node, burn rates over hours, and silence.

**CUSUM** (Page 1954). At each node, each attempt adds log(p1/p0) when it failed and log((1-p1)/(1-p0)) when
it did not; the sum never falls below 0, and reaching `ALARM` is an alarm. p0 is twice what is normal, and 2
% at least, so that rates which wander do not add up. There are two sums: with p1 15 points above p0, which
30 % of failures raise by 0.4 an attempt, and with p1 of 90 %, where eight failures in a row suffice (a
router moves payments away from a rail that is gone, so there may not be many more). With nothing wrong a sum
reaches h about once in e^h attempts: for h = 28 never in a wallet's life, and the margin is for rates that
wander.

**Burn** (SRE workbook, chapter 5): what is too small for the CUSUM uses up the error budget of 1 %: 14.4
times its rate over an hour and over 5 minutes, or 6 times over 6 hours and over 30 minutes, with at least
`BURN_FAILED` failures.

**Silence**: where so many payments are normal that none in this time has a chance below 1e-9 (Poisson), and
there is none although the wallet reports, payments do not reach it.

**Where**: a leaf fails when its own sum is up, and is well when it is 0 after attempts. One incident stands
at the node that explains most of the attempts in leaves that fail, and of whose leaves, weighted by
attempts, at least 70 % of those that can be told fail; of several, the most general. While it is open
nothing below it opens another, and what it tells counts nowhere else; when a wider node explains more, it
moves there.

**Over**: after two windows in a row (of a minute; of five for a burn) with attempts, in which no more fails
than p0 and 2 points.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.status.detect.baseline import Baseline
from holdfast.status.detect.nodes import ANY, Leaf, Node, covers, depth, meets, nodes_of
from holdfast.status.outcomes import Count

ALARM: Final = 28.0
SUM_MAX: Final = 2 * ALARM
"""A sum grows no further, so that an end is seen soon."""
TOTAL: Final = 0.9
"""p1 of the second sum."""
SETTLE_S: Final = 1.5
"""From the first alarm until an incident is placed: others that belong to it are as far by then."""
WINDOW_S: Final = 60
"""One window; also how far back leaves are compared."""
CLEAN_WINDOWS: Final = 2
CLEAN_MORE: Final = 0.02
"""Share above p0 that a clean window may have; one failure is always allowed."""
CLEAN_ATTEMPTS: Final = 3
"""Attempts without which a window says nothing."""
AGREE: Final = 0.7
FAILS: Final = 6.0
"""The sum from which a leaf fails by itself: three failures in a row."""
WELL_ATTEMPTS: Final = 3
FRESH_S: Final = 20
"""A leaf is well when it made so many attempts in so many seconds and its sum is 0."""
BURN_FAILED: Final = 20
BURN_EVERY_S: Final = 10
BURN_WINDOW_S: Final = 300
"""One window of what burns slowly: in a minute of it too little happens."""
BUDGET: Final = 0.01
BURNS: Final = ((14.4, 60, 5), (6.0, 360, 30))
"""Times the budget's rate, over so many minutes and over so many."""
SILENT_CHANCE: Final = 1e-9
TRACKS_MAX: Final = 20_000
"""Nodes and leaves watched at a time; beyond, a new one is judged with its rail alone."""
LEARN_AFTER_S: Final = 300
"""What happened is learned so much later, unless trouble was noticed meanwhile."""
_MINUTES: Final = 360


@dataclass(frozen=True, slots=True)
class Found:
    """Something is wrong at a node. `share` of `attempts` failed since `since_s`."""

    node: Node
    since_s: float
    share: float
    attempts: int
    rule: str


@dataclass(frozen=True, slots=True)
class Moved:
    """An incident is at another node than was thought."""

    before: Node
    after: Found


@dataclass(frozen=True, slots=True)
class Over:
    """It is over at a node."""

    node: Node


Decision = Found | Moved | Over


@dataclass(slots=True)
class _Track:
    """What is known of one node: its sums, and what happened lately, newest last, by 10 s and by minute.

    `gains`: for each sum what a failure and a success add, from p0 and each p1; they hold until `until_s`.
    `rising`: attempts and failures since the sums left 0, at `since_s`.
    """

    p0: float = 0.0
    p1: float = 0.0
    gains: tuple[tuple[float, float], ...] = ()
    until_s: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    since_s: float = 0.0
    rising: tuple[int, int] = (0, 0)
    alarm_s: float = 0.0
    recent: deque[list[float]] = field(default_factory=lambda: deque(maxlen=WINDOW_S // 10 + 1))
    minutes: deque[list[float]] = field(default_factory=lambda: deque(maxlen=_MINUTES))

    def add(self, at_s: float, attempts: int, failed: int) -> None:
        for entries, size_s in ((self.recent, 10), (self.minutes, 60)):
            start_s = at_s // size_s * size_s
            if not entries or entries[-1][0] != start_s:
                entries.append([start_s, 0, 0])
            entries[-1][1] += attempts
            entries[-1][2] += failed

    def over(self, entries: deque[list[float]], from_s: float) -> tuple[int, int]:
        """Return attempts and failures since a moment."""
        attempts = failed = 0.0
        for start_s, many, bad in reversed(entries):
            if start_s < from_s:
                break
            attempts += many
            failed += bad
        return int(attempts), int(failed)

    @property
    def sum(self) -> float:
        """The larger of the sums."""
        return max(self.sums)

    def still(self) -> None:
        """Begin anew."""
        self.sums = [0.0, 0.0]
        self.alarm_s = 0.0


@dataclass(slots=True)
class _Open:
    """An incident that goes on: the start of the present window, how long it is, and clean ones so far."""

    window_s: float
    length_s: float = WINDOW_S
    clean: int = 0
    began_s: float = 0.0


class Watch:
    """Watches outcomes. `tick` is told what is new, about twice a second."""

    def __init__(self, baseline: Baseline | None = None) -> None:
        self.baseline = baseline or Baseline()
        self._tracks: dict[Node, _Track] = {}
        self._leaves: dict[Leaf, None] = {}
        self._open: dict[Node, _Open] = {}
        self._pending: deque[tuple[float, dict[Leaf, list[int]]]] = deque()
        """What is not learned yet, by minute."""
        self._burned_s = 0.0
        self._last_s: dict[str, float] = {}
        """By capability: when payments were last seen."""

    @property
    def open(self) -> tuple[Node, ...]:
        """Nodes at which an incident goes on."""
        return tuple(self._open)

    def tick(
        self, now_s: float, counts: Iterable[Count], *, live: bool, planned: Iterable[Node] = ()
    ) -> list[Decision]:
        """Take what is new, and decide.

        `live`: the wallet reports at present; while it does not, nothing is opened or closed by what is
        missing. `planned`: nodes under maintenance, where nothing opens and nothing is learned.
        """
        fresh = self._take(now_s, counts, tuple(planned))
        if not live:
            self._last_s = dict.fromkeys(self._last_s, now_s)  # what nobody counted is not silence
            return []
        self._learn(now_s, fresh)
        return [*self._openings(now_s, tuple(planned)), *self._silence(now_s), *self._endings(now_s)]

    def _take(
        self, now_s: float, counts: Iterable[Count], planned: tuple[Node, ...]
    ) -> list[tuple[Leaf, int, int]]:
        fresh: list[tuple[Leaf, int, int]] = []
        sums: dict[Node, list[int]] = {}
        for count in counts:
            leaf = (count.capability, count.rail, count.bank, count.country)
            attempts = count.succeeded + count.failed + count.declined
            if not attempts:
                continue
            self._last_s[count.capability] = now_s
            if any(covers(node, leaf) for node in planned):
                continue
            if leaf not in self._leaves:
                if len(self._leaves) >= TRACKS_MAX // 4:
                    leaf = (count.capability, count.rail, "", "")
                self._leaves[leaf] = None
            fresh.append((leaf, attempts, count.failed))
            told = [one for one in self._open if covers(one, _named(leaf))]
            for node in nodes_of(leaf):
                if told and not any(covers(one, node) for one in told):
                    continue  # what an incident tells already raises no alarm elsewhere
                both = sums.setdefault(node, [0, 0])
                both[0] += attempts
                both[1] += count.failed
        for node, (attempts, failed) in sums.items():
            self._score(node, now_s, attempts, failed)
        return fresh

    def _score(self, node: Node, now_s: float, attempts: int, failed: int) -> None:
        track = self._tracks.get(node)
        if track is None:
            if len(self._tracks) >= TRACKS_MAX:
                return
            track = self._tracks[node] = _Track()
        track.add(now_s, attempts, failed)
        self._bound(node, track, now_s)
        before = track.sum
        for place, (bad, good) in enumerate(track.gains):
            gained = track.sums[place] + failed * bad + (attempts - failed) * good
            track.sums[place] = min(SUM_MAX, max(0.0, gained))
        if before == 0.0:
            track.since_s, track.rising = now_s, (0, 0)
        track.rising = (track.rising[0] + attempts, track.rising[1] + failed)
        if track.sum < ALARM:
            track.alarm_s = 0.0
        elif not track.alarm_s:
            track.alarm_s = now_s

    def _bound(self, node: Node, track: _Track, now_s: float) -> None:
        """See to it that a track knows p0 and p1 of this minute."""
        if now_s < track.until_s:
            return
        track.until_s = (now_s // 60 + 1) * 60
        track.p0 = min(0.8, max(0.02, 2 * self.baseline.share(node, now_s)))
        track.p1 = min(0.97, track.p0 + 0.15)
        track.gains = tuple(
            (math.log(p1 / track.p0), math.log((1 - p1) / (1 - track.p0)))
            for p1 in (track.p1, max(TOTAL, track.p1))
        )

    def _learn(self, now_s: float, fresh: list[tuple[Leaf, int, int]]) -> None:
        """Learn what is old enough; what trouble touched meanwhile is not learned."""
        start_s = now_s // 60 * 60
        if not self._pending or self._pending[-1][0] != start_s:
            self._pending.append((start_s, {}))
        newest = self._pending[-1][1]
        for leaf, attempts, failed in fresh:
            both = newest.setdefault(leaf, [0, 0])
            both[0] += attempts
            both[1] += failed
        while now_s - self._pending[0][0] >= LEARN_AFTER_S + 60:
            at_s, old = self._pending.popleft()
            sums: dict[Node, list[int]] = {}
            for leaf, (attempts, failed) in old.items():
                for node in nodes_of(leaf):
                    both = sums.setdefault(node, [0, 0])
                    both[0] += attempts
                    both[1] += failed
            for node in self.baseline.known(sums):
                if not self._troubled(node):
                    attempts, failed = sums.get(node, (0, 0))
                    self.baseline.learn(node, at_s, attempts, failed, 60.0)

    def _troubled(self, node: Node) -> bool:
        return any(covers(one, node) or covers(node, one) for one in self._open)

    def _openings(self, now_s: float, planned: tuple[Node, ...]) -> list[Decision]:
        ready = [
            node
            for node, track in self._tracks.items()
            if track.alarm_s and now_s - track.alarm_s >= SETTLE_S
        ]
        if now_s - self._burned_s >= BURN_EVERY_S:
            self._burned_s = now_s
            ready += [node for node, track in self._tracks.items() if self._burns(node, track, now_s)]
        fresh = [n for n in ready if not any(covers(one, n) for one in (*self._open, *planned))]
        failing = self._failing() if fresh else {}
        fresh = [node for node in fresh if not self._explained(node, failing)]
        if not fresh:
            return []
        node = self._place(fresh, failing, now_s)  # one at a time: the next tick sees to the others
        if node in self._open:
            return []
        found = self._found(node, now_s)
        inside = [one for one in self._open if covers(node, one)]
        for one in inside:
            del self._open[one]
        self._open[node] = _Open(now_s, BURN_WINDOW_S if found.rule == "burn" else WINDOW_S, began_s=now_s)
        self._forget(node)
        return [Moved(inside[0], found) if inside else found, *(Over(one) for one in inside[1:])]

    def _explained(self, node: Node, failing: dict[Leaf, float]) -> bool:
        """Tell whether all that fails under a node lies under an incident already.

        Where no leaf fails by itself, any incident that has to do with the node explains it.
        """
        under = [leaf for leaf in failing if covers(node, _named(leaf))]
        if not under:
            return self._troubled(node)
        return all(any(covers(one, _named(leaf)) for one in self._open) for leaf in under)

    def _burns(self, node: Node, track: _Track, now_s: float) -> bool:
        if not track.recent or track.recent[-1][0] < now_s - WINDOW_S:
            return False
        usual = 2 * self.baseline.usual(node)
        for times, long, short in BURNS:
            spans = (track.over(track.minutes, now_s - span * 60) for span in (short, long))
            if all(
                failed >= max(BURN_FAILED, max(times * BUDGET, usual) * attempts)
                for attempts, failed in spans
            ):
                return True
        return False

    def _failing(self) -> dict[Leaf, float]:
        """Return the leaves that fail by themselves, with their sums."""
        sums = ((leaf, self._tracks.get(_named(leaf))) for leaf in self._leaves)
        return {leaf: track.sum for leaf, track in sums if track is not None and track.sum >= FAILS}

    def _place(self, alarmed: list[Node], failing: dict[Leaf, float], now_s: float) -> Node:
        """Return the node that explains most of what fails, and of which most fails."""
        explains: dict[Node, list[float]] = {node: [0.0, 0.0] for node in alarmed}
        for leaf in failing:
            if any(covers(node, _named(leaf)) for node in alarmed):
                explains |= {node: [0.0, 0.0] for node in nodes_of(leaf)}
        for leaf in self._leaves:
            track = self._tracks.get(_named(leaf))
            if track is None:
                continue
            attempts, _ = track.over(track.recent, now_s - FRESH_S)
            if leaf not in failing and (track.sum or attempts < WELL_ATTEMPTS):
                continue  # it cannot be told yet
            for node in nodes_of(leaf):
                if node in explains:
                    explains[node][leaf not in failing] += attempts
        agreed = [node for node, (bad, well) in explains.items() if bad and bad >= AGREE * (bad + well)]
        if not agreed:
            return max(alarmed, key=lambda node: self._tracks[node].sum)
        return max(agreed, key=lambda node: (explains[node][0], -depth(node), node[1] != ANY))

    def _found(self, node: Node, now_s: float, rule: str = "") -> Found:
        track = self._tracks.setdefault(node, _Track())
        attempts, failed = track.rising if track.alarm_s else track.over(track.minutes, now_s - BURN_WINDOW_S)
        rule = rule or ("share" if track.alarm_s else "burn")
        since_s = track.since_s if track.alarm_s else now_s
        return Found(node, since_s, failed / attempts if attempts else 1.0, attempts, rule)

    def _silence(self, now_s: float) -> list[Decision]:
        decisions: list[Decision] = []
        for capability, last_s in self._last_s.items():
            node: Node = (capability, ANY, ANY, ANY)
            expected = self.baseline.rate(node, now_s) * (now_s - last_s)
            if node not in self._open and expected > -math.log(SILENT_CHANCE):
                self._open[node] = _Open(now_s)
                decisions.append(Found(node, last_s, 1.0, 0, "silence"))
        return decisions

    def _endings(self, now_s: float) -> list[Decision]:
        decisions: list[Decision] = []
        for node, one in list(self._open.items()):
            if now_s - one.window_s < one.length_s:
                continue
            track = self._tracks.setdefault(node, _Track())
            attempts, failed = track.over(track.minutes, one.window_s // 60 * 60)
            self._bound(node, track, now_s)
            one.window_s = now_s
            if attempts < CLEAN_ATTEMPTS:
                continue
            one.clean = one.clean + 1 if failed <= max(1, (track.p0 + CLEAN_MORE) * attempts) else 0
            if one.clean >= CLEAN_WINDOWS:
                del self._open[node]
                self._forgive(node)
                decisions.append(Over(node))
        return decisions

    def _forget(self, node: Node) -> None:
        """Begin anew at all nodes that share leaves with an incident and do not lie under it."""
        for other, track in self._tracks.items():
            if meets(node, other) and not covers(node, other):
                track.still()
                track.recent.clear()
                track.minutes.clear()

    def _forgive(self, node: Node) -> None:
        """Begin anew at a node and all below it: what was, is over."""
        for other, track in self._tracks.items():
            if covers(node, other):
                track.still()
                track.minutes.clear()

    def share(self, node: Node, now_s: float) -> tuple[int, int]:
        """Return attempts and failures of the last half minute at a node, since an incident there began."""
        began = [one.began_s for place, one in self._open.items() if meets(place, node)]
        track = self._tracks.get(node)
        from_s = max(now_s - WINDOW_S / 2, *began) if began else now_s - WINDOW_S / 2
        return (0, 0) if track is None else track.over(track.recent, from_s)

    def dump(self) -> dict[str, Any]:
        """Return what a restart needs: what is normal, and what goes on."""
        return {"baseline": self.baseline.dump(), "open": ["|".join(node) for node in self._open]}

    @classmethod
    def load(cls, kept: dict[str, Any], now_s: float) -> Watch:
        """Return the watch that was dumped."""
        made = cls(Baseline.load(kept["baseline"]))
        for text in kept["open"]:
            capability, rail, bank, country = text.split("|")
            made._open[(capability, rail, bank, country)] = _Open(now_s)
        return made


def _named(leaf: Leaf) -> Node:
    capability, rail, bank, country = (each or ANY for each in leaf)
    return (capability, rail, bank, country)
