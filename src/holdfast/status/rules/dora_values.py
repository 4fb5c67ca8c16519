"""What stands in each of the 76 fields of Regulation (EU) 2025/302, and when a field is asked for.

Formats: times in UTC (ISO 8601), durations `DD:HH:MM` in whole minutes, percentages with one decimal, rounded
half up, amounts in thousands of the reporting currency.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from holdfast.status.rules.assessment import Assessment
from holdfast.status.rules.firm import Contact, Firm
from holdfast.status.rules.packs.eu_dora import met_criteria
from holdfast.status.rules.record import (
    Bounds,
    Figure,
    Record,
    began,
    column,
    costs_eur,
    downtime,
    downtime_bounds,
    duration,
    recovered,
    share,
)

Value = str | int | tuple[str, ...] | None
"""What a field says. None, "" and (): nothing."""

OTHER: Final = "Other (please specify)"
CYBER: Final = "Cybersecurity-related"
TITLES: Final = {
    "T1": "clients, financial counterparts and transactions affected",
    "T2": "reputational impact",
    "T3": "duration and service downtime",
    "T4": "geographical spread",
    "T5a": "data losses",
    "T5b": "data losses",
    "critical": "critical services affected",
    "T6": "economic impact",
}
"""Our criteria in the words of field 2.5."""
REPUTATION: Final = {
    "media": "the major ICT-related incident has been reflected in the media",
    "complaints": "the major ICT-related incident has resulted in repetitive complaints from different "
    "clients or financial counterparts on client-facing services or critical business relationships",
    "regulatory": "the financial entity will not be able to or is likely not to be able to meet regulatory "
    "requirements as a result of the major ICT-related incident",
    "lost_clients": "the financial entity will or is likely to lose clients or financial counterparts with a "
    "material impact on its business as a result of the major ICT-related incident",
}
"""Facts of the record in the words of field 3.13."""


def moment(at: datetime | None) -> str | None:
    """Return a time in UTC to the second, as `2026-01-31T10:00:00Z`."""
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(time: timedelta | None) -> str | None:
    """Return a duration as `DD:HH:MM`; seconds are left off."""
    if time is None:
        return None
    hours, minutes = divmod(int(time.total_seconds()) // 60, 60)
    return f"{hours // 24:02}:{hours % 24:02}:{minutes:02}"


def percent(part: float | None) -> str | None:
    """Return a share, 1 being all, as a percentage with one decimal, rounded half up."""
    if part is None:
        return None
    return str((Decimal(repr(part)) * 100).quantize(Decimal("0.1"), ROUND_HALF_UP))


def thousands(amount: float | None) -> str | None:
    """Return an amount in thousands of units, to a whole unit: 2500 is `2.5`."""
    if amount is None:
        return None
    text = str((Decimal(repr(amount)) / 1000).quantize(Decimal("0.001"), ROUND_HALF_UP))
    return text.rstrip("0").rstrip(".")


def whole(number: float | None) -> int | None:
    """Return a number without decimals, rounded half up."""
    return None if number is None else int(Decimal(repr(number)).quantize(Decimal(1), ROUND_HALF_UP))


def yes_no(answer: bool | None) -> str | None:
    """Return an answer in the words of the template."""
    return None if answer is None else ("Yes" if answer else "No")


def values(record: Record, firm: Firm, found: Assessment, kind: str, now: datetime) -> dict[str, Value]:
    """Return the value of every field. `kind` is the type of submission (field 1.1)."""
    return {
        **_general(firm, kind),
        **_initial(record, found),
        **_numbers(record, found),
        **_intermediate(record, found, now),
        **_final(record, firm, found),
    }


def _general(firm: Firm, kind: str) -> dict[str, Value]:
    first, second = (*firm.contacts, Contact(), Contact())[:2]
    return {
        "1.1": kind,
        "1.2": firm.name,
        "1.3": firm.lei,
        "1.4": firm.kinds,
        "1.5": firm.affected_name,
        "1.6": firm.affected_lei,
        "1.7": first.name,
        "1.8": first.email,
        "1.9": first.telephone,
        "1.10": second.name,
        "1.11": second.email,
        "1.12": second.telephone,
        "1.13": firm.parent_name,
        "1.14": firm.parent_lei,
        "1.15": firm.currency,
    }


def _initial(record: Record, found: Assessment) -> dict[str, Value]:
    told, criteria = record.told, met_criteria(found.tests)
    titles = dict.fromkeys(title for name, title in TITLES.items() if criteria[name])
    return {
        "2.1": told.reference or record.id,
        "2.2": moment(record.detected),
        "2.3": moment(record.classified),
        "2.4": told.description,
        "2.5": tuple(titles),
        "2.6": tuple(sorted(record.countries or ())) if criteria["T4"] else (),
        "2.7": told.discovered_by,
        "2.8": told.third_party,
        "2.9": yes_no(told.continuity_plan),
        "2.10": told.other,
    }


def clients(record: Record, found: Assessment) -> Bounds:
    """Return the clients affected: as told, else those of the capability with the most."""
    if record.clients_affected is not None:
        return Bounds.of(record.clients_affected)
    test = found.test("T1.clients")
    several = len({row.capability for row in record.rows or ()}) > 1
    return Bounds(test.number, test.number, test.estimated or several)


def payments(record: Record, name: str = "payments_affected") -> Bounds:
    """Return what all capabilities together had of a column; nothing where no row was touched."""
    return Bounds(0, 0) if record.rows == () else column(record.rows or (), name)


def _numbers(record: Record, found: Assessment) -> dict[str, Value]:
    counted, paid = clients(record, found), payments(record)
    counterparts = Bounds.of(record.counterparts_affected)
    part = share(counterparts, Bounds.of(record.counterparts_of_service))
    basis = (("clients", counted), ("financial counterparts", counterparts), ("transactions", paid))
    return {
        "3.4": whole(counted.least),
        "3.5": percent(found.test("T1.clients_share").number),
        "3.6": whole(counterparts.least),
        "3.7": percent(part.least),
        "3.8": yes_no(record.relevant_affected),
        "3.9": whole(paid.least),
        "3.10": percent(found.test("T1.count").number),
        "3.11": thousands(payments(record, "value_affected").least),
        "3.12": tuple(word for name, number in basis if (word := _basis(name, number))),
    }


def _basis(name: str, number: Bounds) -> str | None:
    if number.least is None:
        return None
    if number.most == 0:
        return f"no impact on {name}"
    estimated = number.estimated or number.most is None
    return f"{'estimates' if estimated else 'actual figures'} for {name} affected"


def _intermediate(record: Record, found: Assessment, now: datetime) -> dict[str, Value]:
    told = record.told
    data = ("availability", "authenticity", "integrity", "confidentiality")
    interest = {True: "Yes", False: "No", None: "Information not available"}[record.financial_interest]
    critical = [test.words.en for test in found.tests if test.id.startswith("critical.") and test.met]
    return {
        "3.1": told.authority_reference,
        "3.2": moment(record.occurred),
        "3.3": moment(recovered(record)),
        "3.13": tuple(words for name, words in REPUTATION.items() if getattr(record, name)),
        "3.14": told.reputation,
        "3.15": span(duration(record, now)),
        "3.16": span(downtime(record, now)),
        "3.17": _times_basis(record, now),
        "3.18": told.state_impacts,
        "3.19": told.states_description,
        "3.20": tuple(name for name in data if getattr(record, name)),
        "3.21": told.data_losses,
        "3.22": told.critical_services or "; ".join(critical),
        "3.23": told.types,
        "3.24": told.types_other,
        "3.25": told.techniques,
        "3.26": told.techniques_other,
        "3.27": told.functions,
        "3.28": told.infrastructure,
        "3.29": told.infrastructure_description,
        "3.30": interest,
        "3.31": told.authorities,
        "3.32": told.authorities_other,
        "3.33": yes_no(told.measures),
        "3.34": told.measures_description,
        "3.35": told.indicators,
    }


def _times_basis(record: Record, now: datetime) -> str:
    """Say whether both times are measured: one that still runs, or whose start is a stand-in, is not yet."""
    known = []
    if duration(record, now) is not None:
        known.append(record.resolved is not None and not began(record)[1])
    if (down := downtime_bounds(record, now)).most is not None:
        known.append(not down.estimated and (down.most == 0 or recovered(record) is not None))
    if not known:
        return "No information available"
    if all(known):
        return "Actual figures"
    return "Actual figures and estimates" if any(known) else "Estimates"


def _final(record: Record, firm: Firm, found: Assessment) -> dict[str, Value]:
    told, economic = record.told, found.test("T6")
    verdict = {True: "exceeded", False: "not exceeded", None: None}[economic.met]
    return {
        "4.1": told.cause_groups,
        "4.2": told.causes,
        "4.3": told.causes_more,
        "4.4": told.causes_other,
        "4.5": told.causes_description,
        "4.6": told.resolution,
        "4.7": moment(told.cause_addressed),
        "4.8": moment(record.resolved),
        "4.9": told.plan_differs,
        "4.10": told.resolution_risk,
        "4.11": told.resolvability,
        "4.12": told.economic or (verdict and f"EUR 100 000 {verdict}"),
        "4.13": thousands(_in_currency(costs_eur(record).exact, firm)),
        "4.14": thousands(_in_currency(_number(told.recoveries), firm)),
        "4.15": told.recurring,
        "4.16": tuple(text for at in told.recurring_at if (text := moment(at))),
    }


def _number(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _in_currency(eur: float | None, firm: Firm) -> float | None:
    rate = firm.rate()
    return None if eur is None or rate is None or rate.value == 0 else eur / rate.value


def conditions(record: Record, firm: Firm, found: Assessment, stage: str, now: datetime) -> dict[str, bool]:
    """Return for each field that is asked for only under a condition whether that holds now."""
    told, criteria = record.told, met_criteria(found.tests)
    spread, data = criteria["T4"] is True, criteria["T5a"] is True or criteria["T5b"] is True
    paid, down = payments(record).most != 0, downtime(record, now) != timedelta()
    cyber, again = CYBER in told.types, bool(told.recurring_at or told.recurring)
    elsewhere = bool(firm.affected_name or firm.affected_lei)
    group = bool(firm.parent_name or firm.parent_lei)
    reputation = criteria["T2"] is True
    third = bool(told.third_party) or "external event: third-party failures" in told.causes
    return {
        "1.5": elsewhere,
        "1.6": elsewhere,
        "1.13": group,
        "1.14": group,
        "2.6": spread,
        "2.8": third,
        "2.10": bool(told.other) or record.reclassified,
        "3.1": bool(told.authority_reference),
        "3.8": record.relevant_affected is True,
        "3.3": down and (stage == "final" or recovered(record) is not None),
        **dict.fromkeys(("3.9", "3.10", "3.11"), paid),
        "3.13": reputation,
        "3.14": reputation,
        "3.16": down,
        "3.17": criteria["T3"] is True,
        "3.18": spread,
        "3.19": spread,
        "3.20": data,
        "3.21": data,
        "3.24": OTHER in told.types,
        "3.25": cyber,
        "3.26": OTHER in told.techniques,
        "3.35": cyber,
        "3.29": told.infrastructure == "Yes",
        "3.32": OTHER in told.authorities,
        "3.34": told.measures is True,
        "4.4": any("other (please" in cause for cause in told.causes),
        "4.10": bool(told.resolution_risk),
        "4.11": bool(told.resolvability),
        "4.15": again,
        "4.16": again,
    }
