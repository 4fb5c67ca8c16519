"""One incident and one firm that the tests of the rules start from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from holdfast.status.rules.firm import Contact, Firm
from holdfast.status.rules.record import Cost, Figure, Record, Row

T0: Final = datetime(2026, 6, 9, 10, tzinfo=UTC)
"""A Tuesday."""
FIRM: Final = Firm(
    name="Nordwallet AB",
    lei="5493001KJTIIGC8Y1R12",
    kinds=("electronic money institution",),
    country="DE",
    zone="Europe/Berlin",
    contacts=(Contact("Ann", "ann@example.org", "+49 1"), Contact("Bo", "bo@example.org", "+49 2")),
)
QUIET: Final = {
    "supports_critical_function": True,
    "supervised_service": False,
    "malicious_access": False,
    "media": False,
    "complaints": False,
    "regulatory": False,
    "lost_clients": False,
    "relevant_affected": False,
    "availability": False,
    "authenticity": False,
    "integrity": False,
    "confidentiality": False,
    "financial_interest": False,
    "severe_widespread": False,
    "material_service": False,
    "escalated": False,
    "crisis_mode": False,
    "other_firms": False,
    "settlement_delayed": False,
    "fraud": False,
    "publicity": False,
    "duplicate_settlement": False,
    "unavailable": False,
    "backlog": False,
}


def at(**span: float) -> datetime:
    """Return a moment after T0."""
    return T0 + timedelta(**span)


def quiet(**changes: Any) -> Record:
    """Return an incident that meets no threshold anywhere, all being known, with some changes."""
    facts: dict[str, Any] = {
        **QUIET,
        "id": "inc-1",
        "occurred": T0,
        "detected": T0,
        "aware": T0,
        "resolved": at(minutes=10),
        "rows": (),
        "countries": ("DE",),
        "counterparts_affected": Figure(0),
        "costs": (),
        "records_leaked": Figure(0),
        "customers_leaked": Figure(0),
        "earlier": (),
        "peak": False,
        "provinces": (),
        **changes,
    }
    if facts.get("partly_unavailable_from") is not None:
        facts["unavailable"] = True
    if facts.get("backlog_drained") is not None:
        facts["backlog"] = True
    return Record(**facts)


def down(seconds: float, **changes: Any) -> Record:
    """Return an incident during which the service was away for some seconds."""
    end = at(seconds=seconds)
    return quiet(**{"partly_unavailable_from": T0, "restored": end, "resolved": end, **changes})


def row(country: str = "DE", /, **figures: float | None) -> Row:
    """Return a row of the capability `pay`."""
    return Row(
        "pay", country, **{name: None if one is None else Figure(one) for name, one in figures.items()}
    )


def cost(eur: float, *, estimated: bool = False) -> tuple[Cost, ...]:
    """Return costs of one kind."""
    return (Cost("staff", Figure(eur, estimated)),)
