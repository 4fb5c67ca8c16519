"""From an incident to what regulators ask of it: what the service measured, under what people told besides.

What people told is kept as a fact of the board, so every version and its author stay. It wins over what was
measured, but for the numbers of payments, to which it can only add.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from holdfast.status.board import Board
from holdfast.status.model import Incident, rank
from holdfast.status.rules.downtime import Stop
from holdfast.status.rules.errors import RecordInvalid
from holdfast.status.rules.record import Figure, Record, Row

DOWN_FROM: Final = rank("partial_outage")
"""A component that stands so, or worse, is taken for not, or not fully, there."""
_CAUSES: Final = {"technical": "technical", "security": "security"}
_OURS: Final = frozenset({"id", "rows", "earlier"})
"""What is not for people to tell: it is measured."""


def record_of(one: Incident, board: Board) -> Record:
    """Return the evidence record of an incident. Raises: `RecordInvalid`."""
    measured = _measured(one, board)
    try:
        known = msgspec.to_builtins(measured)
        return msgspec.convert({**known, **(one.evidenced or {}), "id": one.id}, Record)
    except msgspec.ValidationError as error:
        raise RecordInvalid(f"evidence: {error}.") from None


def checked(one: Incident, board: Board, evidence: dict[str, Any]) -> None:
    """Refuse evidence that contradicts itself, or that is not for people to tell. Raises: `RecordInvalid`."""
    for name in evidence:
        if name in _OURS or name not in Record.__struct_fields__:
            raise RecordInvalid(f"evidence: {name[:60]!r} is not a field that people tell.")
    told = {name: value for name, value in evidence.items() if value is not None}
    record_of(msgspec.structs.replace(one, evidenced=told), board)


def _measured(one: Incident, board: Board) -> Record:
    down = [period for period in one.periods if rank(period.standing) >= DOWN_FROM]
    from_ = min((period.start_at for period in down), default=None)
    ends = [period.end_at for period in down]
    restored = max((end for end in ends if end), default=None) if None not in ends else None
    return Record(
        id=one.id,
        occurred=one.started_at,
        detected=one.created_at,
        aware=one.created_at,
        partly_unavailable_from=from_,
        unavailable=None if down else False,
        restored=restored,
        backlog=True if one.drained_at is not None else None,
        backlog_drained=max(one.drained_at, restored) if one.drained_at and restored else None,
        resolved=one.resolved_at,
        planned=False,
        rows=_rows(one) or None,
        supervised_service=True,
        cause=_CAUSES.get(one.cause, "unknown"),  # type: ignore[arg-type]
        earlier=tuple(stops(board, {period.component for period in down}, one.id)),
    )


def _rows(one: Incident) -> tuple[Row, ...]:
    """Return what was counted: payments that failed are those affected. Countries are not told apart."""
    return tuple(
        Row(numbers.component, "", payments_affected=Figure(numbers.failed)) for numbers in one.numbers
    )


def stops(board: Board, components: Iterable[str], besides: str = "") -> list[Stop]:
    """Return when some components were not, or not fully, there, incident by incident."""
    wanted = set(components)
    return [
        Stop(period.start_at, period.end_at)
        for one in board.incidents.values()
        if one.id != besides and one.merged_into is None
        for period in one.periods
        if period.component in wanted and rank(period.standing) >= DOWN_FROM
    ]
