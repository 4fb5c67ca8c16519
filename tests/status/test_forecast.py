"""When it will be back: said at once, and again only when something changed; and how good that was."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from holdfast.status import forecast
from holdfast.status.board import Board, Entry, Told
from holdfast.status.model import Stage
from holdfast.status.seal import Signer
from holdfast.status.site import Site
from holdfast.status.words import Words
from tests.status.worlds import NOON, board_of, later, opened, view_of


def give(board: Board, at: datetime) -> int:
    """Give the estimates that are due; return how many."""
    facts = forecast.due(board, at)
    for fact in facts:
        board.take(Entry(at, "measured", fact))
    return len(facts)


def tell(board: Board, stage: Stage, at: datetime) -> None:
    board.take(Entry(at, "alice", Told("inc_1", f"upd_{stage}", stage, Words("News"))))


def test_an_estimate_is_given_at_once_and_again_only_on_a_change_or_when_it_passed() -> None:
    board = board_of((NOON, "measured", opened()))
    assert give(board, later(seconds=1)) == 1
    first = board.incident("inc_1").estimate
    assert first is not None
    assert NOON < first.half_at < first.most_at
    assert first.alike == 0  # it does not rest on itself
    assert give(board, later(minutes=5)) == 0
    tell(board, "identified", later(minutes=6))
    assert give(board, later(minutes=6)) == 1
    tell(board, "identified", later(minutes=7))
    assert give(board, later(minutes=8)) == 0
    second = board.incident("inc_1").estimate
    assert second is not None
    assert give(board, second.most_at) == 0
    assert give(board, later(days=2)) == 1
    tell(board, "resolved", later(days=2, minutes=1))
    assert give(board, later(days=2, minutes=2)) == 0
    assert board.incident("inc_1").estimate is None


def test_how_past_estimates_did_is_counted_from_what_was_said() -> None:
    board = board_of((NOON, "measured", opened()))
    give(board, NOON)
    assert forecast.so_far(board).count == 0
    tell(board, "resolved", later(minutes=10))
    told = forecast.so_far(board)
    assert (told.count, told.half, told.most) == (1, 1.0, 1.0)


def test_the_page_gives_the_interval_and_the_history_its_record(tmp_path: Path) -> None:
    signer = Signer.kept(tmp_path / "signing.key")
    board = board_of((NOON, "measured", opened()))
    give(board, NOON)
    files = Site(signer).files(view_of(board, later(minutes=1)), unmeasured=False)
    assert "We expect it to be over between" in files["index.html"].decode()
    assert "预计恢复时间" in files["zh/incidents/inc_1.html"].decode()
    late = Site(signer).files(view_of(board, later(days=3)), unmeasured=False)
    assert "longer than we expected" in late["index.html"].decode()
    tell(board, "resolved", later(minutes=10))
    after = Site(signer).files(view_of(board, later(minutes=11)), unmeasured=False)
    assert "100 % " in after["history.html"].decode()
    assert "We expect" not in after["index.html"].decode()
