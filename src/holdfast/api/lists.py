"""Lists by cursor.

Newest first, `starting_after` the last id of the page before, `has_more` while there is more.

A cursor is an id, and ids are time-ordered, so a page neither skips nor repeats what was there when the first
was read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar
from uuid import UUID

from litestar.params import QueryParameter

from holdfast.api.wire import Page
from holdfast.base.ids import IdInvalid, parse
from holdfast.base.limits import PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX
from holdfast.domains.ledger.errors import CursorInvalid

R = TypeVar("R")
S = TypeVar("S")

Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_ROWS_MAX, description="Rows on a page.")]
After = Annotated[
    str | None,
    QueryParameter(name="starting_after", max_length=40, description="The last id of the page before."),
]
LIMIT: int = PAGE_ROWS_DEFAULT


def cursor(prefix: str, after: str | None) -> UUID | None:
    """Return the id to go on after. Raises: `CursorInvalid`."""
    if after is None:
        return None
    try:
        return parse(prefix, after)
    except IdInvalid:
        raise CursorInvalid(f"starting_after is an id that begins with {prefix}_.") from None


def page(rows: Sequence[R], limit: int, show: Callable[[R], S]) -> Page[S]:
    """Return a page of at most `limit` of `rows`, which were read with one more than that."""
    return Page([show(row) for row in rows[:limit]], len(rows) > limit)
