"""What commits together: rows of several domains and the transfers that go with them, submitted as one unit.

A flow asks each domain's `store` for `Write`s and `Guard`s (they name a `Statement` of that store and carry
one row), puts them into a unit together with ledger transfers, and submits the unit to the commit lane. The
lane takes the units that arrive together, runs every statement once over arrays of rows, and commits once.
Nobody above a store sees SQL, and whoever stands behind the lane (a shared commit today, a fenced writer
later) can be changed.

Order inside a commit: guards, then transfers, then writes; statements run in the order of `Statement.rank`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, NamedTuple

from holdfast.base.errors import ensure
from holdfast.base.values import quick

_statements: Final[dict[str, Statement]] = {}


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement over arrays, owned by a store.

    `sql` takes one array parameter per column (`%b`, in the order of `columns`), normally through
    `unnest(%b::uuid[], %b::bigint[], …)`. `columns` are PostgreSQL type names of the elements.

    A guard's statement returns the 1-based positions (`with ordinality`) of the rows whose condition holds,
    and locks what it checks, in the order of its primary key. `name` is unique; a memory store answers to it.
    `sure` is the same guard for a commit that is sent in one go: it raises when any row does not hold (a
    unique index does), and then whoever sent it looks closer with `sql`. Empty: there is no such form.

    A statement is known by its name from when it is made (`statement_named`). Raises: `Broken` when the name
    stands for another statement already.
    """

    name: str
    sql: str
    columns: tuple[str, ...]
    rank: int = 100
    sure: str = ""

    def __post_init__(self) -> None:
        known = _statements.setdefault(self.name, self)
        ensure(known == self, f"the name {self.name} stands for one statement")

    def digest(self) -> bytes:
        """Return 32 bytes that are equal in two processes only when the statement is the same in both."""
        parts = (self.name, self.sql, self.sure, str(self.rank), *self.columns)
        return sha256("\0".join(parts).encode()).digest()


def statement_named(name: str) -> Statement | None:
    """Return the statement that this process knows by `name`."""
    return _statements.get(name)


def statements_known() -> list[Statement]:
    """Return every statement of this process: of the stores that it has imported."""
    return list(_statements.values())


class Write(NamedTuple):
    """One row for `statement`; it happens if and only if its unit commits."""

    statement: Statement
    row: tuple[object, ...]


@quick
@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that must hold at commit, or the unit changes nothing (outcome `conflict`).

    `key` names what is guarded: two units with an equal key never share a batch, so the second sees the
    first's effect. `claims` says that the guard itself inserts the row that it guards (an idempotency key):
    it then stays even when the transfers are refused, so at most one guard of a unit claims, and it is
    checked last.
    """

    statement: Statement
    row: tuple[object, ...]
    key: Hashable
    claims: bool = False


UnitStatus = Literal["committed", "refused", "conflict"]
"""`committed`: all transfers and `writes`; `refused`: `writes_if_refused` alone; `conflict`: nothing."""
