"""United Kingdom: FCA PS26/2 and FG26/3, PRA PS7/26, in force 18 March 2027; until then as the EBA asked.

EBA/GL/2021/03 was repealed in the EU on 17 January 2025 and remains the model here. Its numbers come from
memory but for EUR 500 000, EUR 15 million and one hour. Major: one higher threshold, or three criteria at the
lower level. The new rules go by principles; the start of their clock is not confirmed, so the earliest moment
is taken.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from holdfast.status.rules.assessment import (
    Assessment,
    Deadline,
    Grade,
    Threshold,
    any_of,
    at_least,
    deadline,
    flag,
    only_if,
    over,
)
from holdfast.status.rules.firm import Firm, working_days_after
from holdfast.status.rules.record import (
    Bounds,
    Record,
    by_capability,
    column,
    costs_eur,
    downtime_bounds,
    duration,
    known_at,
    largest,
    recovered,
    share,
)
from holdfast.status.words import Words

ID: Final = "uk-fca"
NAME: Final = Words("United Kingdom: FCA and PRA", "英国：FCA 与 PRA")
IN_FORCE: Final = date(2027, 3, 18)
NEW: Final = "FCA PS26/2 and FG26/3, PRA PS7/26"
OLD: Final = "EBA/GL/2021/03 as the model"
CRITERIA: Final[dict[str, tuple[str, ...]]] = {
    "transactions": ("tx.share", "tx.value", "tx.share.high", "tx.value.high"),
    "users": ("users.count", "users.share", "users.count.high", "users.share.high"),
    "downtime": ("downtime",),
    "breach": ("breach",),
    "escalation": ("escalation", "escalation.high"),
    "others": ("others",),
    "reputation": ("reputation",),
    "economic": ("economic.tier1.high", "economic.high"),
}


def assess(record: Record, now: datetime, firm: Firm) -> Assessment:
    """Return the class by the rules of the day on which the firm knew of it. Raises: `CountryUnknown`."""
    known = known_at(record)
    new = (known or now).date() >= IN_FORCE
    tests = _principles(record) if new else _model(record, now, firm)
    verdict = any_of(test.met for test in tests) if new else is_major(tests)
    yes: Grade = "reportable" if new else "major"
    no: Grade = "not_reportable" if new else "not_major"
    grade: Grade = "unknown" if verdict is None else yes if verdict else no
    due = _new_deadlines(record, now, known) if new else _old_deadlines(record, now, firm)
    return Assessment(
        pack=ID,
        name=NAME,
        grade=grade,
        tests=tests,
        deadlines=() if grade == no and not record.classified else due,
        at=now,
        in_force_from=IN_FORCE,
        in_force=new,
        tipping=() if verdict else tuple(test.id for test in tests if new or test.id.endswith(".high")),
        notes=(
            Words(
                "Payment firms report as enhanced firms from 18 March 2027; before that this is a model.",
                "自 2027 年 3 月 18 日起支付机构按加强报告类机构报告；此前仅为参照模型。",
            ),
        ),
    )


def is_major(tests: tuple[Threshold, ...]) -> bool | None:
    """Return whether one higher threshold is met, or criteria at the lower level at least are three."""
    high = any_of(test.met for test in tests if test.id.endswith(".high"))
    met = {test.id: test.met for test in tests}
    return any_of((high, at_least(3, (any_of(met[id_] for id_ in ids) for ids in CRITERIA.values()))))


def _principles(record: Record) -> tuple[Threshold, ...]:
    asked = (
        ("consumers", Words("harm to consumers", "对消费者造成损害"), record.harm_consumers),
        ("market", Words("harm to the integrity of the market", "损害市场诚信"), record.harm_market),
        ("soundness", Words("harm to safety and soundness", "损害安全与稳健"), record.harm_soundness),
    )
    return tuple(flag(id_, words, value, NEW, sure=False) for id_, words, value in asked)


def _model(record: Record, now: datetime, firm: Firm) -> tuple[Threshold, ...]:
    return (*_payments(record, now, firm), *_users(record, now), *_others(record, now, firm))


def _long_enough(record: Record, now: datetime) -> bool | None:
    """The lower numbers of operational incidents count only after one hour; those of security at once."""
    if record.cause == "security":
        return True
    lasted = duration(record, now)
    return None if lasted is None else lasted > timedelta(hours=1)


def _payments(record: Record, now: datetime, firm: Firm) -> tuple[Threshold, ...]:
    none, long = record.rows == (), _long_enough(record, now)
    services = by_capability(record).values()
    part = (
        Bounds(0, 0)
        if none
        else largest(
            share(column(rows, "payments_affected"), column(rows, "usual_daily_count")) for rows in services
        )
    )
    value = Bounds(0, 0) if none else _eur(column(record.rows or (), "value_affected"), firm)
    count, amount = (
        Words("payments to the usual number", "受影响笔数与正常水平之比"),
        Words("value", "受影响金额"),
    )
    return (
        only_if(over("tx.share", count, part, 0.10, "share", OLD, sure=False), long),
        only_if(over("tx.value", amount, value, 500_000, "EUR", OLD), long),
        over("tx.share.high", count, part, 0.25, "share", OLD, sure=False),
        over("tx.value.high", amount, value, 15_000_000, "EUR", OLD),
    )


def _eur(bounds: Bounds, firm: Firm) -> Bounds:
    rate = firm.rate()
    if rate is None:
        return Bounds(0, 0) if bounds.most == 0 else Bounds()
    least = None if bounds.least is None else bounds.least * rate.value
    most = None if bounds.most is None else bounds.most * rate.value
    return Bounds(least, most, bounds.estimated or rate.estimated)


def _users(record: Record, now: datetime) -> tuple[Threshold, ...]:
    none, long = record.rows == (), _long_enough(record, now)
    services = by_capability(record).values()
    users = Bounds.of(record.clients_affected)
    if record.clients_affected is None:
        users = Bounds(0, 0) if none else largest(column(rows, "clients_affected") for rows in services)
    part = (
        Bounds(0, 0)
        if none
        else largest(
            share(column(rows, "clients_affected"), column(rows, "clients_of_service")) for rows in services
        )
    )
    number, ratio = Words("users", "受影响用户数"), Words("users of the service", "受影响用户占比")
    return (
        only_if(over("users.count", number, users, 5_000, "count", OLD, sure=False), long),
        only_if(over("users.share", ratio, part, 0.10, "share", OLD, sure=False), long),
        over("users.count.high", number, users, 50_000, "count", OLD, sure=False),
        over("users.share.high", ratio, part, 0.25, "share", OLD, sure=False),
    )


def _others(record: Record, now: datetime, firm: Firm) -> tuple[Threshold, ...]:
    runs = now if record.partly_unavailable_from and recovered(record) is None else None
    cost, losses = costs_eur(record), Words("costs and losses", "成本与损失")
    escalated = Words("escalated to the top", "上报至最高管理层")
    tier = None if firm.tier1_eur is None else max(firm.tier1_eur.value * 0.001, 200_000)
    first = over("economic.tier1.high", losses, cost, tier or 200_000, "EUR", OLD, sure=False)
    if tier is None and first.met is True:
        first = only_if(first, None)
    reputation = any_of((record.media, record.complaints, record.publicity))
    return (
        over(
            "downtime",
            Words("downtime", "服务中断时间"),
            downtime_bounds(record, now),
            2 * 3600,
            "seconds",
            OLD,
            sure=False,
            runs_from=runs,
        ),
        flag(
            "breach", Words("security was breached", "安全被突破"), record.malicious_access, OLD, sure=False
        ),
        flag("escalation", escalated, record.escalated, OLD, sure=False),
        flag("escalation.high", Words("crisis mode", "进入危机模式"), record.crisis_mode, OLD, sure=False),
        flag("others", Words("other firms affected", "其他机构受影响"), record.other_firms, OLD, sure=False),
        flag("reputation", Words("reputation", "声誉影响"), reputation, OLD, sure=False),
        first,
        over("economic.high", losses, cost, 5_000_000, "EUR", OLD, sure=False),
    )


def _new_deadlines(record: Record, now: datetime, known: datetime | None) -> tuple[Deadline, ...]:
    due = known + timedelta(hours=4) if known else None
    words = Words("initial report: 4 hours", "首次报告：4 小时内")
    return (deadline("initial", words, due, now, NEW, done_at=record.submitted.initial_at, sure=False),)


def _old_deadlines(record: Record, now: datetime, firm: Firm) -> tuple[Deadline, ...]:
    found, sent, made = record.detected or known_at(record), record.submitted, record.classified
    classify = found + timedelta(hours=24) if found else None
    start = made or classify
    initial = start + timedelta(hours=4) if start else None
    begun = sent.initial_at or initial
    middle = working_days_after(begun, 3, firm) if begun else None
    back = recovered(record)
    return (
        deadline(
            "classify",
            Words("classify: 24 hours after detection", "发现后 24 小时内定级"),
            classify,
            now,
            OLD,
            done_at=made,
            sure=False,
        ),
        deadline(
            "initial",
            Words("initial report: 4 hours after classification", "定级后 4 小时内首次报告"),
            initial,
            now,
            OLD,
            done_at=sent.initial_at,
            sure=False,
            projected=made is None,
        ),
        deadline(
            "intermediate",
            Words("intermediate report: 3 working days", "中期报告：3 个工作日内"),
            middle,
            now,
            OLD,
            done_at=sent.intermediate_at,
            sure=False,
            projected=sent.initial_at is None,
        ),
        deadline(
            "final",
            Words("final report: 20 working days after recovery", "恢复后 20 个工作日内最终报告"),
            working_days_after(back, 20, firm) if back else None,
            now,
            OLD,
            done_at=sent.final_at,
            sure=False,
        ),
    )
