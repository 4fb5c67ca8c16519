"""An id that was posted is looked up by whoever writes next."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from holdfast.base.limits import CLOCK_AHEAD_MS_MAX
from holdfast.domains.ledger.rules.seen import Seen

NOW = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def ids_of(ms: int, count: int) -> list[int]:
    return [UUID(int=ms << 80 | 7 << 76 | 2 << 62 | n).int for n in range(count)]


def raw(ids: list[int]) -> bytes:
    return b"".join(i.to_bytes(16, "big") for i in ids)


@pytest.mark.parametrize("count", [1, 200], ids=["a few", "many"])
@pytest.mark.parametrize("ahead_ms", [-3_600_000, -1, 0, CLOCK_AHEAD_MS_MAX - 1, CLOCK_AHEAD_MS_MAX])
def test_the_next_writer_looks_up_what_was_posted_last_however_far_its_own_time_lay_ahead(
    count: int, ahead_ms: int
) -> None:
    """What lies farther ahead is noted as early, with its batch."""
    ids = ids_of(NOW_MS + ahead_ms, count)
    assert Seen(NOW).early(ids, NOW) == []
    assert sorted(Seen(NOW).maybe(raw(ids), NOW)) == ids


def test_what_lies_farther_ahead_than_clocks_differ_is_noted() -> None:
    ids = ids_of(NOW_MS + CLOCK_AHEAD_MS_MAX + 1, 3)
    seen = Seen(NOW)
    assert seen.early(seen.maybe(raw(ids), NOW), NOW) == ids
    assert Seen(NOW, early=ids).maybe(raw(ids), NOW) == ids
