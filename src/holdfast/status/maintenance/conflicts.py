"""What speaks against a window: busy days, other windows, too little notice, an error budget used up.

What is found is a veto: the window takes place only when a second person says so, with the reason kept.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from holdfast.status.graph import Graph
from holdfast.status.holidays import holidays_of
from holdfast.status.maintenance.lead import Policy, tell_by
from holdfast.status.maintenance.plan import Effect, Maintenance
from holdfast.status.model import Standing
from holdfast.status.words import Words

BUDGET_DAYS: Final = 30
_DAY: Final = timedelta(days=1)


VETO_WORDS: Final[dict[str, Words]] = {
    "lead_time": Words("told too late", "通知过晚"),
    "holiday": Words("a holiday", "节假日"),
    "payday": Words("a pay-day", "发薪日"),
    "bills_due": Words("bills are due", "账单到期"),
    "festival": Words("a shopping festival", "购物节"),
    "avoid": Words("a day to avoid", "应避开的日子"),
    "overlap": Words("another window at that time", "与其他维护重叠"),
    "no_way_left": Words("nothing would be left", "将无可用方式"),
    "budget": Words("the error budget is used up", "可用性余量不足"),
}


class Conflict(msgspec.Struct, frozen=True):
    """One thing that speaks against a window."""

    code: str
    words: Words


class Wanted(msgspec.Struct, frozen=True):
    """A window as somebody wants it. `id`: of the one that is to be changed."""

    effects: tuple[Effect, ...]
    starts_at: datetime
    ends_at: datetime
    id: str = ""


def conflicts(
    wanted: Wanted,
    others: Iterable[Maintenance],
    policy: Policy,
    graph: Graph,
    left_s: Mapping[str, float],
    now: datetime,
) -> list[Conflict]:
    """Return what speaks against a window.

    `others`: windows that are planned or go on. `left_s`: by capability, the seconds of its error budget that
    the last 30 days have left.
    """
    zone = policy.time_zone()
    meanwhile = [
        one
        for one in others
        if one.id != wanted.id and one.starts_at < wanted.ends_at and wanted.starts_at < one.ends_at
    ]
    days = list(_days(wanted, zone))
    return [
        *_lead(wanted, policy, zone, now),
        *_busy(days, policy),
        *_others(wanted, meanwhile, graph),
        *_budget(wanted, graph, left_s),
    ]


def hit(effects: Iterable[Effect], graph: Graph) -> list[str]:
    """Return what people cannot do while some components are cut: ids of capabilities."""
    own: dict[str, Standing] = {e.component: "major_outage" for e in effects if e.kind != "slower"}
    found = graph.standings(own)
    return [
        one.id
        for one in graph.components.values()
        if one.kind == "capability" and found[one.id] == "major_outage"
    ]


def _days(wanted: Wanted, zone: ZoneInfo) -> Iterator[date]:
    day = wanted.starts_at.astimezone(zone).date()
    last = (wanted.ends_at - timedelta(microseconds=1)).astimezone(zone).date()
    while day <= last:
        yield day
        day += _DAY


def _lead(wanted: Wanted, policy: Policy, zone: ZoneInfo, now: datetime) -> Iterator[Conflict]:
    by, lead = tell_by(wanted.starts_at, policy.all_leads(), zone)
    if now > by:
        said = f"{by:%Y-%m-%d %H:%M %Z}"
        yield Conflict(
            "lead_time",
            Words(
                f"It has to be told {lead.words.en} beforehand: by {said}.",
                f"须提前 {lead.words.zh} 通知，最迟 {said}。",
            ),
        )


def _busy(days: Sequence[date], policy: Policy) -> Iterator[Conflict]:
    for day in days:
        for country in policy.countries:
            name = holidays_of(country).get(day)
            if name is not None:
                yield Conflict(
                    "holiday",
                    Words(f"{day} is a holiday: {name} ({country}).", f"{day} 是节假日（{country}）。"),
                )
        if _of_month(day, policy.paydays):
            yield Conflict("payday", Words(f"Wages are paid on {day}.", f"{day} 是发薪日。"))
        if _of_month(day, policy.bills_due):
            yield Conflict("bills_due", Words(f"Bills are due on {day}.", f"{day} 有账单到期。"))
        for name in policy.festivals:
            if name in FESTIVALS and FESTIVALS[name][1](day):
                words = FESTIVALS[name][0]
                yield Conflict(
                    "festival",
                    Words(f"{day} is a shopping festival: {words.en}.", f"{day} 是购物节：{words.zh}。"),
                )
        for one in policy.avoid:
            if one.first <= day <= one.last:
                yield Conflict(
                    "avoid",
                    Words(
                        f"{day} is to be avoided: {one.name.en}.", f"{day} 应避开：{one.name.say('zh-CN')}。"
                    ),
                )


def _of_month(day: date, days: Sequence[int]) -> bool:
    last = monthrange(day.year, day.month)[1]
    return any(day.day == (last if each == -1 else min(each, last)) for each in days)


def _black_friday(day: date) -> bool:
    """Tell whether a day is from the Friday after the fourth Thursday of November to the Monday."""
    first = date(day.year, 11, 1)
    friday = first + timedelta(days=(3 - first.weekday()) % 7 + 21 + 1)
    return friday <= day <= friday + timedelta(days=3)


def _between(first: tuple[int, int], last: tuple[int, int]) -> Callable[[date], bool]:
    return lambda day: first <= (day.month, day.day) <= last


FESTIVALS: Final[dict[str, tuple[Words, Callable[[date], bool]]]] = {
    "618": (Words("618", "618"), _between((6, 16), (6, 20))),
    "singles_day": (Words("Singles' Day", "双十一"), _between((11, 9), (11, 12))),
    "double_twelve": (Words("Double Twelve", "双十二"), _between((12, 11), (12, 12))),
    "black_friday": (Words("Black Friday to Cyber Monday", "黑色星期五至网络星期一"), _black_friday),
}
"""Shopping festivals that are known, by name."""


def _others(wanted: Wanted, meanwhile: Sequence[Maintenance], graph: Graph) -> Iterator[Conflict]:
    mine = {effect.component for effect in wanted.effects}
    for one in meanwhile:
        both = sorted(mine & set(one.components))
        if both:
            names = ", ".join(graph.components[id_].name.en for id_ in both if id_ in graph.components)
            zh = "、".join(graph.components[id_].name.say("zh-CN") for id_ in both if id_ in graph.components)
            yield Conflict(
                "overlap",
                Words(
                    f"“{one.name.en}” touches {names} at that time.",
                    f"同时段“{one.name.say('zh-CN')}”也涉及{zh}。",
                ),
            )
    together = [*wanted.effects, *(effect for one in meanwhile for effect in one.effects)]
    apart = {
        id_
        for effects in (wanted.effects, *(one.effects for one in meanwhile))
        for id_ in hit(effects, graph)
    }
    for id_ in hit(together, graph):
        if id_ not in apart:
            name = graph.components[id_].name
            yield Conflict(
                "no_way_left",
                Words(
                    f"Together with other windows, nothing is left for: {name.en}.",
                    f"与其他维护同时进行时，将完全无法使用：{name.say('zh-CN')}。",
                ),
            )


def _budget(wanted: Wanted, graph: Graph, left_s: Mapping[str, float]) -> Iterator[Conflict]:
    whole_s = (wanted.ends_at - wanted.starts_at).total_seconds()
    cuts = [effect for effect in wanted.effects if effect.kind != "slower"]
    need_s = max(
        (min(whole_s, (e.longest_s or whole_s) * (e.cuts if e.longest_s else 1)) for e in cuts), default=0
    )
    for id_ in hit(wanted.effects, graph):
        left = left_s.get(id_)
        if left is not None and left < need_s:
            name, minutes, needed = graph.components[id_].name, max(0, int(left // 60)), int(need_s // 60)
            yield Conflict(
                "budget",
                Words(
                    f"{name.en}: the last {BUDGET_DAYS} days leave {minutes} minutes of the error budget; "
                    f"this needs {needed}.",
                    f"{name.say('zh-CN')}：近 {BUDGET_DAYS} 天的可用性余量剩 {minutes} 分钟，"
                    f"本次需要 {needed} 分钟。",
                ),
            )
