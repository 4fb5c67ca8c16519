"""The life of a window, by the clock and by what is measured: reminders, start, check, end, overrun.

scheduled --start--> in_progress --end of the window--> verifying --measured well--> completed
                                                            |
                                          measured bad, or nothing known for 5 minutes
                                                            v
                                                  an incident opens by itself
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from holdfast.status.board import Board, Fact, Opened, Told
from holdfast.status.graph import Graph
from holdfast.status.maintenance.book import Planned, Stepped
from holdfast.status.maintenance.checks import Checks
from holdfast.status.maintenance.conflicts import Wanted, conflicts
from holdfast.status.maintenance.lead import Policy, remind_at
from holdfast.status.maintenance.plan import Kind, Maintenance
from holdfast.status.maintenance.series import windows
from holdfast.status.model import OVER, Evidence, Standing
from holdfast.status.words import Words

KNOWN_WITHIN: Final = timedelta(minutes=5)
"""After the end of its window, so long nothing needs to be known of what was maintained."""
STANDING_OF: Final[dict[Kind, Standing]] = {
    "cut": "major_outage",
    "read_only": "partial_outage",
    "slower": "degraded_performance",
}
"""How a component stands that is still cut after its window."""

NewId = Callable[[str], str]


class Life:
    """Sees to the windows of one service."""

    def __init__(self, graph: Graph, policy: Policy) -> None:
        self._graph = graph
        self._policy = policy
        self.checks = Checks(graph)

    def due(self, board: Board, now: datetime, new_id: NewId) -> list[Fact]:
        """Return what is to be said and done now."""
        facts: list[Fact] = []
        for one in board.maintenance.live:
            facts += self._of(one, board, now, new_id)
        return facts

    def _of(self, one: Maintenance, board: Board, now: datetime, new_id: NewId) -> Iterator[Fact]:
        if one.state == "proposed":
            if now >= one.starts_at:
                yield Stepped(one.id, new_id("ntc"), "cancelled", "cancelled", _NOT_APPROVED)
        elif one.state == "scheduled":
            if now >= one.starts_at:
                yield Stepped(one.id, new_id("ntc"), "started", "in_progress", _STARTED)
            else:
                yield from self._reminder(one, now, new_id)
        elif one.state == "in_progress":
            if now >= one.ends_at:
                yield Stepped(one.id, new_id("ntc"), "verifying", "verifying", VERIFYING)
        else:
            yield from self._verified(one, board, now, new_id)

    def _reminder(self, one: Maintenance, now: datetime, new_id: NewId) -> Iterator[Fact]:
        zone = self._policy.time_zone()
        told_at = max(note.at for note in one.notes if note.moment in ("planned", "changed"))
        due = []
        for each in self._policy.all_reminders():
            at = remind_at(one.starts_at, each, self._policy.countries, zone)
            if told_at <= at <= now and each.name not in one.reminded:
                due.append((at, each))
        if due:
            _, last = max(due, key=lambda both: both[0])
            body = Words(
                f"It starts {last.words.en}. {one.body.en}", f"{last.words.zh}开始。{one.body.say('zh-CN')}"
            )
            names = tuple(each.name for _, each in due)
            yield Stepped(one.id, new_id("ntc"), "reminder", one.state, body, names)

    def _verified(self, one: Maintenance, board: Board, now: datetime, new_id: NewId) -> Iterator[Fact]:
        verdict = self.checks.verdict(one)
        if verdict == "well":
            yield from completed(one, board, new_id, COMPLETED)
            return
        if one.overran is not None or now < one.ends_at:
            return
        since = max(one.ends_at, one.verifying_at or one.ends_at)
        if verdict == "bad" or now >= since + KNOWN_WITHIN:
            share, attempts = self.checks.share(one)
            incident = new_id("inc")
            yield Opened(
                incident, new_id("upd"),
                Words(f"Maintenance lasts longer: {one.name.en}", f"维护超时：{one.name.say('zh-CN')}"),
                _OVERRUN, "maintenance", "identified",
                {effect.component: STANDING_OF[effect.kind] for effect in one.effects}, one.ends_at,
                Evidence({"maintenance": one.id}, share, attempts, "overrun"),
            )  # fmt: skip
            yield Stepped(one.id, new_id("ntc"), "overrun", "verifying", _OVERRUN, incident=incident)

    def recurring(
        self, board: Board, now: datetime, new_id: NewId, left_s: Callable[[], dict[str, float]]
    ) -> list[Fact]:
        """Return the windows of series that are to be planned now, with what speaks against each."""
        facts: list[Fact] = []
        book = board.maintenance
        known = {(one.series, one.occurrence) for one in book.every.values() if one.series}
        for series in book.series.values():
            for starts_at, ends_at in windows(series, now):
                if (series.id, starts_at) in known:
                    continue
                wanted = Wanted(series.effects, starts_at, ends_at)
                against = conflicts(wanted, book.live, self._policy, self._graph, left_s(), now)
                facts.append(
                    Planned(
                        new_id("mnt"), new_id("ntc"), series.name, series.body, series.effects, series.retry,
                        starts_at, ends_at, series.id, starts_at, tuple(each.code for each in against),
                    )
                )  # fmt: skip
        return facts


def completed(one: Maintenance, board: Board, new_id: NewId, said: Words) -> Iterator[Fact]:
    """Say that a window is over, and end the incident that opened because it went on for too long."""
    yield Stepped(one.id, new_id("ntc"), "completed", "completed", said)
    incident = board.incidents.get(one.overran or "")
    if incident is not None and incident.stage not in OVER and incident.merged_into is None:
        yield Told(incident.id, new_id("upd"), "resolved", said)


VERIFYING: Final = Words(
    "The work is done. It is being checked whether all works again.", "维护工作已完成，正在验证是否恢复正常。"
)
COMPLETED: Final = Words(
    "It is over: by what is measured, all works again.", "维护结束：测量显示已恢复正常。"
)
_STARTED: Final = Words("It has started.", "维护已开始。")
_OVERRUN: Final = Words(
    "It was to be over by now, and is not, or cannot be told to be. From here on it counts as an incident.",
    "维护应已结束，但尚未恢复或无法确认。此后按事件处理。",
)
_NOT_APPROVED: Final = Words("No second person approved it in time.", "未及时获得第二人批准。")
