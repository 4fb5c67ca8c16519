"""Small boards and views for tests of the status service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from holdfast.status.board import Board, Entry, Fact, Opened
from holdfast.status.graph import Graph, default
from holdfast.status.model import Cause, Standing
from holdfast.status.notices.genuine import Official
from holdfast.status.shapes import View
from holdfast.status.words import Words

NOON = datetime(2026, 11, 11, 12, 0, tzinfo=UTC)
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def later(**span: float) -> datetime:
    return NOON + timedelta(**span)


def opened(
    id_: str = "inc_1",
    components: dict[str, Standing] | None = None,
    at: datetime = NOON,
    cause: Cause = "technical",
) -> Opened:
    touched: dict[str, Standing] = components or {"north": "major_outage"}
    return Opened(
        id_,
        f"upd_{id_}",
        Words("North does not answer", "North 无应答"),
        Words("We are looking into it & see <all>.", "正在调查。"),
        cause,
        "investigating",
        touched,
        at,
    )


def board_of(*said: tuple[datetime, str, Fact]) -> Board:
    board = Board()
    for at, by, fact in said:
        board.check(fact, at, by)
        board.take(Entry(at, by, fact))
    return board


def view_of(board: Board, at: datetime = NOON, graph: Graph | None = None) -> View:
    known = graph or default()
    return View(
        "Wallet",
        "https://status.example.org",
        known,
        board,
        board.standings(),
        known.standings(board.standings()),
        at,
        Official(("example.org",)),
        SINCE,
    )
