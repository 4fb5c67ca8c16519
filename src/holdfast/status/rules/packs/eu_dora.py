"""European Union: DORA, Regulation (EU) 2022/2554, with its standards (EU) 2024/1772 and (EU) 2025/301.

    major = critical services and (T5b or at least two of T1, T2, T3, T4, T5a, T6)    2024/1772, Article 8(1)

All comparisons are strict but the one of Member States. T1 counts by affected service, countries together.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Final

from holdfast.status.rules.assessment import (
    Assessment,
    Deadline,
    Grade,
    Threshold,
    all_of,
    any_of,
    at_least,
    deadline,
    flag,
    only_if,
    over,
)
from holdfast.status.rules.downtime import later
from holdfast.status.rules.firm import Firm, moved, zone_of
from holdfast.status.rules.record import (
    Bounds,
    Record,
    began,
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

ID: Final = "eu-dora"
NAME: Final = Words("European Union: DORA", "欧盟：DORA")
IN_FORCE: Final = date(2025, 1, 17)

RTS: Final = "Regulation (EU) 2024/1772"
LIMITS: Final = "Regulation (EU) 2025/301"
STATES: Final = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split()  # noqa: SIM905
)
"""The 27 Member States; states of the wider economic area are not counted."""

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "critical": ("critical.function", "critical.service", "critical.access"),
    "T1": ("T1.clients_share", "T1.clients", "T1.counterparts", "T1.count", "T1.value", "T1.relevant"),
    "T2": ("T2.media", "T2.complaints", "T2.regulatory", "T2.lost_clients"),
    "T3": ("T3.duration", "T3.downtime"),
    "T4": ("T4",),
    "T5a": ("T5a",),
    "T5b": ("T5b",),
    "T6": ("T6",),
}
"""Ids of the thresholds of each criterion: one that is met is enough."""
COUNTED: Final = ("T1", "T2", "T3", "T4", "T5a", "T6")
NEVER_MOVED: Final = frozenset({"credit institution", "central counterparty", "trading venue"})
"""Kinds of firm whose initial and intermediate deadlines no weekend moves (2025/301, Article 5(5))."""


def assess(record: Record, now: datetime, firm: Firm) -> Assessment:
    """Return the class of an incident, the numbers behind it, and what is due. Raises: `CountryUnknown`."""
    tests = thresholds(record, now)
    criteria = met_criteria(tests)
    verdict = is_major(criteria)
    grade: Grade = "unknown" if verdict is None else "major" if verdict else "not_major"
    tipping = tuple(name for name, met in criteria.items() if not met and is_major({**criteria, name: True}))
    return Assessment(
        pack=ID,
        name=NAME,
        grade=grade,
        tests=tests,
        deadlines=() if grade == "not_major" and not record.classified else deadlines(record, now, firm),
        at=now,
        in_force_from=IN_FORCE,
        in_force=(known_at(record) or now).date() >= IN_FORCE,
        tipping=() if verdict else tipping,
    )


def is_major(criteria: dict[str, bool | None]) -> bool | None:
    """Return whether an incident is major; None where what is not known decides (2024/1772, Article 8(1))."""
    enough = at_least(2, (criteria[name] for name in COUNTED))
    return all_of((criteria["critical"], any_of((criteria["T5b"], enough))))


def met_criteria(tests: Iterable[Threshold]) -> dict[str, bool | None]:
    """Return for each criterion whether one of its thresholds is met."""
    by_id = {test.id: test.met for test in tests}
    return {name: any_of(by_id[id_] for id_ in ids) for name, ids in GROUPS.items()}


def thresholds(record: Record, now: datetime) -> tuple[Threshold, ...]:
    """Return every threshold of Article 9 and the three conditions of Article 6 of (EU) 2024/1772."""
    return (*_critical(record), *_touched(record), *_reputation(record), *_time(record, now), *_rest(record))


def _critical(record: Record) -> tuple[Threshold, ...]:
    return (
        flag(
            "critical.function",
            Words("supports a critical or important function", "支持关键或重要职能"),
            record.supports_critical_function,
            f"{RTS}, Article 6(a)",
        ),
        flag(
            "critical.service",
            Words("a financial service that needs a licence", "需要许可或受监管的金融服务"),
            record.supervised_service,
            f"{RTS}, Article 6(b)",
        ),
        flag(
            "critical.access",
            Words("successful malicious unauthorised access", "成功的恶意未授权访问"),
            record.malicious_access,
            f"{RTS}, Article 6(c)",
        ),
    )


def _touched(record: Record) -> tuple[Threshold, ...]:
    services = by_capability(record).values()
    none = record.rows == ()

    def part(affected: str, usual: str) -> Bounds:
        if none:
            return Bounds(0, 0)
        return largest(share(column(rows, affected), column(rows, usual)) for rows in services)

    clients = Bounds(0, 0) if none else largest(column(rows, "clients_affected") for rows in services)
    counterparts = share(Bounds.of(record.counterparts_affected), Bounds.of(record.counterparts_of_service))
    source = f"{RTS}, Article 9(1)"
    numbers: tuple[tuple[str, Words, Bounds, float], ...] = (
        (
            "T1.clients_share",
            Words("clients of the service", "受影响客户占比"),
            part("clients_affected", "clients_of_service"),
            0.10,
        ),
        ("T1.clients", Words("number of clients", "受影响客户数"), clients, 100_000),
        ("T1.counterparts", Words("financial counterparts", "金融交易对手占比"), counterparts, 0.30),
        (
            "T1.count",
            Words("payments to the daily average", "受影响交易笔数与日均之比"),
            part("payments_affected", "usual_daily_count"),
            0.10,
        ),
        (
            "T1.value",
            Words("value to the daily average", "受影响交易金额与日均之比"),
            part("value_affected", "usual_daily_value"),
            0.10,
        ),
    )
    return (
        *(
            over(id_, words, number, limit, "count" if limit > 1 else "share", f"{source}({letter})")
            for letter, (id_, words, number, limit) in zip("abcde", numbers, strict=True)
        ),
        flag(
            "T1.relevant",
            Words("a client or counterpart named as relevant", "涉及已认定的重要客户或交易对手"),
            record.relevant_affected,
            f"{source}(f)",
        ),
    )


def _reputation(record: Record) -> tuple[Threshold, ...]:
    asked = (
        ("media", Words("in the media", "媒体报道"), record.media),
        (
            "complaints",
            Words("repeated complaints of different clients", "不同客户反复投诉"),
            record.complaints,
        ),
        (
            "regulatory",
            Words("duties cannot be met, or likely not", "无法或可能无法满足监管要求"),
            record.regulatory,
        ),
        (
            "lost_clients",
            Words("clients lost, or likely, that matter", "流失或可能流失重要客户"),
            record.lost_clients,
        ),
    )
    return tuple(
        flag(f"T2.{name}", words, value, f"{RTS}, Article 9(2) with Article 2({letter})")
        for letter, (name, words, value) in zip("abcd", asked, strict=True)
    )


def _time(record: Record, now: datetime) -> tuple[Threshold, ...]:
    lasted = duration(record, now)
    stand_in = began(record)[1]
    long = Bounds() if lasted is None else Bounds(lasted.total_seconds(), lasted.total_seconds(), stand_in)
    down = downtime_bounds(record, now)
    words = Words("downtime of a critical or important function", "关键或重要职能的服务中断时间")
    runs = now if record.partly_unavailable_from and recovered(record) is None else None
    clock = over("T3.downtime", words, down, 2 * 3600, "seconds", f"{RTS}, Article 9(3)(b)", runs_from=runs)
    return (
        over(
            "T3.duration",
            Words("duration", "事件持续时间"),
            long,
            24 * 3600,
            "seconds",
            f"{RTS}, Article 9(3)(a)",
            runs_from=None if record.resolved else now,
        ),
        only_if(clock, record.supports_critical_function),
    )


def _rest(record: Record) -> tuple[Threshold, ...]:
    states: Bounds = Bounds()
    if record.countries is not None:
        number = len(STATES.intersection(record.countries))
        states = Bounds(number, number)
    data = (record.availability, record.authenticity, record.integrity, record.confidentiality)
    return (
        over(
            "T4",
            Words("Member States", "受影响成员国数"),
            states,
            2,
            "states",
            f"{RTS}, Article 9(4)",
            at_least=True,
        ),
        flag(
            "T5a",
            Words("data losses that do harm", "造成损害的数据损失"),
            any_of(data),
            f"{RTS}, Article 9(5)(a)",
        ),
        flag(
            "T5b",
            Words("malicious access, data may be lost", "恶意访问且可能造成数据损失"),
            record.malicious_access,
            f"{RTS}, Article 9(5)(b)",
        ),
        over(
            "T6",
            Words("costs and losses", "成本与损失"),
            costs_eur(record),
            100_000,
            "EUR",
            f"{RTS}, Article 9(6)",
        ),
    )


def deadlines(record: Record, now: datetime, firm: Firm) -> tuple[Deadline, ...]:
    """Return what is due when (2025/301, Article 5). Later steps rest on the earlier ones."""
    sent = record.submitted
    exempt = firm.nis2 or firm.designated or bool(NEVER_MOVED.intersection(firm.kinds))

    def move(due: datetime) -> datetime:
        return moved(due, firm)

    early = None if exempt else move
    source = f"{LIMITS}, Article 5(1)"
    initial = deadline(
        "initial",
        _initial_words(record),
        _initial_due(record),
        now,
        f"{source}(a) and 5(2)",
        done_at=sent.initial_at,
        move=early,
    )
    start = sent.initial_at or initial.due
    intermediate = deadline(
        "intermediate",
        Words("intermediate report: 72 hours after the initial one", "中期报告：首次通知后 72 小时内"),
        start + timedelta(hours=72) if start else None,
        now,
        f"{source}(b)",
        done_at=sent.intermediate_at,
        projected=sent.initial_at is None,
        move=early,
    )
    last = max((at for at in (sent.intermediate_at, sent.updated_at) if at), default=None)
    start = last or intermediate.due
    final = deadline(
        "final",
        Words(
            "final report: one month after the latest intermediate one",
            "最终报告：最近一次中期报告后一个月内",
        ),
        next_month(start, firm) if start else None,
        now,
        f"{source}(c)",
        done_at=sent.final_at,
        projected=last is None,
        move=move,
    )
    return (initial, intermediate, *_updated(record, now, last), final, *_clients(record, now))


def _initial_due(record: Record) -> datetime | None:
    aware, classified = known_at(record), record.classified
    if classified is None:
        return aware + timedelta(hours=24) if aware else None
    due = classified + timedelta(hours=4)
    if aware is None or classified > aware + timedelta(hours=24):
        return due
    return min(due, aware + timedelta(hours=24))


def _initial_words(record: Record) -> Words:
    if record.classified is None:
        return Words(
            "initial notification: 24 hours after awareness; 4 hours after it is classified as major",
            "首次通知：知悉后 24 小时内；定级为重大后 4 小时内",
        )
    return Words("initial notification: 4 hours after classification", "首次通知：定级后 4 小时内")


def next_month(moment: datetime, firm: Firm) -> datetime:
    """Return the moment one calendar month on, in the firm's zone: 31 January to the last of February."""
    return later(moment.astimezone(zone_of(firm)), 1).astimezone(moment.tzinfo)


def _updated(record: Record, now: datetime, last: datetime | None) -> tuple[Deadline, ...]:
    back = recovered(record)
    if back is None or record.submitted.intermediate_at is None:
        return ()
    done = last if last and last >= back else None
    words = Words(
        "updated intermediate report: regular activities have recovered", "更新中期报告：业务已恢复正常"
    )
    return (deadline("update", words, back, now, f"{LIMITS}, Article 5(1)(b)", done_at=done),)


def _clients(record: Record, now: datetime) -> tuple[Deadline, ...]:
    if not record.financial_interest:
        return ()
    told = min((message.at for message in record.log if message.to == "clients"), default=None)
    words = Words("tell clients without undue delay", "及时告知客户，不得无故拖延")
    return (deadline("clients", words, None, now, "Regulation (EU) 2022/2554, Article 19(3)", done_at=told),)
