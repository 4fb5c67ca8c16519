"""The 76 fields: what each stage asks for, how values are written, what is refused, JSON and PDF."""

from __future__ import annotations

import json
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from msgspec.structs import replace
from pypdf import PdfReader

from holdfast.status.rules.dora_names import NAMES
from holdfast.status.rules.dora_pdf import as_pdf
from holdfast.status.rules.dora_report import Report, Stage, as_json, fill, template
from holdfast.status.rules.dora_values import Value, moment, percent, span, thousands, whole
from holdfast.status.rules.errors import ChoiceImpossible, LeiWrong
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.record import Figure, Record, Told
from tests.status.rules.worlds import FIRM, T0, at, cost, down, row

NOW = at(hours=30)
TOLD = Told(
    reference="NW-7",
    description="支付中断：Payments stood in a queue <for> 3 h & more.",
    discovered_by="monitoring systems",
    continuity_plan=True,
    reputation="Two newspapers.",
    state_impacts=("clients",),
    states_description="Clients in France could not pay.",
    types=("System failure",),
    functions="Payments by card",
    infrastructure="No",
    authorities=("None",),
    measures=False,
    cause_groups=("system failure / malfunction",),
    causes=("system failure: hardware capacity and performance",),
    causes_more=("capacity and performance management",),
    causes_description="The disk was full.",
    resolution="A larger disk.",
    cause_addressed=at(hours=20),
    plan_differs="no",
    recoveries=Figure(0),
)
RECORD = down(
    3 * 3600,
    backlog_drained=at(hours=25, minutes=1),
    resolved=at(hours=26),
    classified=at(hours=2),
    media=True,
    countries=("FR", "DE"),
    rows=(
        row(
            payments_affected=2_345,
            usual_daily_count=10_000,
            value_affected=1_234_567.89,
            usual_daily_value=9e6,
            clients_affected=1_250,
            clients_of_service=10_000,
        ),
    ),
    counterparts_of_service=Figure(4),
    costs=cost(2_500),
    told=TOLD,
)


def filled(stage: Stage = "final", record: Record = RECORD, firm: Firm = FIRM) -> Report:
    return fill(record, firm, stage, NOW)


def value(field: str, stage: Stage = "final", record: Record = RECORD, firm: Firm = FIRM) -> Value:
    return next(one.value for one in filled(stage, record, firm).fields if one.field == field)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("1.1", "final report"),
        ("1.3", "5493001KJTIIGC8Y1R12"),
        ("1.10", "Bo"),
        ("1.15", "EUR"),
        ("2.2", "2026-06-09T10:00:00Z"),
        ("2.3", "2026-06-09T12:00:00Z"),
        (
            "2.5",
            (
                "clients, financial counterparts and transactions affected",
                "reputational impact",
                "duration and service downtime",
                "geographical spread",
                "critical services affected",
            ),
        ),
        ("2.6", ("DE", "FR")),
        ("2.9", "Yes"),
        ("3.3", "2026-06-10T11:01:00Z"),
        ("3.4", 1250),
        ("3.5", "12.5"),
        ("3.7", "0.0"),
        ("3.9", 2345),
        ("3.10", "23.5"),
        ("3.11", "1234.568"),
        (
            "3.12",
            (
                "actual figures for clients affected",
                "no impact on financial counterparts",
                "actual figures for transactions affected",
            ),
        ),
        ("3.13", ("the major ICT-related incident has been reflected in the media",)),
        ("3.15", "01:02:00"),
        ("3.16", "01:01:01"),
        ("3.17", "Actual figures"),
        ("3.30", "No"),
        ("4.12", "EUR 100 000 not exceeded"),
        ("4.13", "2.5"),
        ("4.14", "0"),
    ],
)
def test_fields_are_filled_from_the_record(field: str, expected: Value) -> None:
    assert value(field) == expected


def test_a_full_record_leaves_no_field_missing_at_any_stage() -> None:
    for stage in ("initial", "intermediate", "final"):
        assert filled(stage).missing == ()


def test_each_stage_asks_only_for_its_own_fields() -> None:
    bare = Record(id="inc-9")
    assert not any(one.startswith(("3.", "4.")) for one in filled("initial", bare).missing)
    assert not any(one.startswith("4.") for one in filled("intermediate", bare).missing)
    assert {"4.2", "3.4", "2.4", "1.1"} & set(filled("final", bare).missing) == {"4.2", "3.4", "2.4"}
    assert value("4.13", "intermediate") is None


@pytest.mark.parametrize(
    ("told", "missing"),
    [
        ({"types": ("Other (please specify)",)}, {"3.24"}),
        ({"types": ("Cybersecurity-related",)}, {"3.25", "3.35"}),
        ({"techniques": ("Other (please specify)",)}, {"3.26"}),
        ({"infrastructure": "Yes"}, {"3.29"}),
        ({"authorities": ("Other (please specify)",)}, {"3.32"}),
        ({"measures": True}, {"3.34"}),
        ({"causes": ("human error: other (please specify)",)}, {"4.4"}),
        ({"causes": ("external event: third-party failures",)}, {"2.8"}),
        ({"recurring": "Twice."}, {"4.16"}),
        ({"reputation": ""}, {"3.14"}),
    ],
)
def test_an_answer_that_asks_for_another_says_that_it_is_missing(
    told: dict[str, Any], missing: set[str]
) -> None:
    assert set(filled(record=replace(RECORD, told=replace(TOLD, **told))).missing) == missing


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("2.7", {"discovered_by": "a dog"}),
        ("3.18", {"state_impacts": ("clients", "weather")}),
        ("3.28", {"infrastructure": "Perhaps"}),
        ("4.2", {"causes": ("human error",)}),
        ("4.3", {"causes_more": ("luck",)}),
    ],
)
def test_an_answer_the_template_does_not_know_is_refused(field: str, told: dict[str, Any]) -> None:
    with pytest.raises(ChoiceImpossible, match=field) as caught:
        filled(record=replace(RECORD, told=replace(TOLD, **told)))
    assert caught.value.code == "status_choice_impossible"


def test_codes_that_are_none_are_refused() -> None:
    with pytest.raises(ChoiceImpossible, match="ISO 4217"):
        filled(firm=replace(FIRM, currency="euro", eur_per_unit=Figure(1)))
    with pytest.raises(ChoiceImpossible, match="ISO 3166"):
        filled(record=replace(RECORD, countries=("DE", "FR", "Italy")))
    with pytest.raises(ChoiceImpossible, match=r"1\.4"):
        filled(firm=replace(FIRM, kinds=("wallet",)))
    for lei in ("5493001KJTIIGC8Y1R13", "5493001KJTIIGC8Y1R1", "5493001kjtiigc8y1r12"):
        with pytest.raises(LeiWrong):
            Firm(lei=lei)


def test_costs_stand_in_the_currency_of_the_report() -> None:
    crowns = replace(FIRM, currency="SEK", eur_per_unit=Figure(0.1))
    assert value("4.13", firm=crowns) == "25"
    assert value("4.13", firm=replace(crowns, eur_per_unit=None)) is None


def test_a_reclassified_incident_says_so_and_asks_why() -> None:
    report = filled(record=replace(RECORD, reclassified=True))
    assert report.submission == "major incident reclassified as non-major"
    assert report.missing == ("2.10",)


def test_a_clock_that_still_runs_is_an_estimate() -> None:
    running = replace(RECORD, backlog_drained=None, resolved=None)
    assert value("3.17", record=running) == "Estimates"
    assert value("3.17", record=replace(running, resolved=at(hours=26))) == "Actual figures and estimates"
    assert value("3.16", record=running) == "01:06:00"
    assert value("3.17", record=Record(id="x")) == "No information available"


def test_values_are_written_as_the_regulation_wants_them() -> None:
    assert [percent(one) for one in (0.0245, 0.02449, 0.1, 1.5, None)] == [
        "2.5",
        "2.4",
        "10.0",
        "150.0",
        None,
    ]
    assert [thousands(one) for one in (2500, 2_500_000, 0, 1, None)] == ["2.5", "2500", "0", "0.001", None]
    assert span(timedelta(days=12, hours=3, minutes=4, seconds=59)) == "12:03:04"
    assert moment(T0.astimezone()) == "2026-06-09T10:00:00Z"
    assert whole(2.5) == 3


def test_the_template_has_76_fields_named_in_both_languages() -> None:
    assert len(template()) == 76
    assert [one.field for one in template()] == list(NAMES)


def test_json_has_all_76_fields_and_the_deadlines() -> None:
    data = json.loads(as_json(filled("initial")))
    assert len(data["fields"]) == 76
    assert data["fields"][18]["value"] == TOLD.description
    assert (data["stage"], data["missing"], data["grade"]) == ("initial", [], "major")
    assert data["deadlines"][0]["due"] == "2026-06-09T16:00:00Z"
    assert data["deadlines"][0]["remaining_s"] == -24 * 3600


def text_of(pdf: bytes) -> str:
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages)
    return "".join(text.split())


def test_pdf_shows_the_values_the_countdown_and_what_is_missing() -> None:
    bare = replace(RECORD, told=replace(TOLD, discovered_by=""))
    text = text_of(as_pdf(filled("intermediate", bare)))
    for part in ("NordwalletAB", "1234.568", "01:01:01", "lateby24h", "MISSING", "支付中断", "<for>3h&more"):
        assert part in text


def test_pdf_speaks_chinese_and_is_the_same_bytes_each_time() -> None:
    report = filled()
    text = text_of(as_pdf(report, "zh-CN"))
    for part in ("重大信息通信技术事件报告", "服务中断时间", "逾期", "01:01:01"):
        assert part in text
    assert as_pdf(report, "zh-CN") == as_pdf(report, "zh-CN")
    assert as_pdf(report) == as_pdf(report)


def test_pdf_takes_long_text_over_pages() -> None:
    long = replace(RECORD, told=replace(TOLD, description="word " * 4_000))
    assert len(PdfReader(BytesIO(as_pdf(filled(record=long)))).pages) > 3
