"""What the status service keeps, in one SQLite file of its own: it must live without the wallet's database.

    entries    facts of the board, only ever added
    counts     outcomes of payments, one row per 10 seconds and leaf; older ones are deleted
    probes     results of probes; older ones are deleted
    notices    what was told, as it was written then; only ever added
    settings   small values: the state of the detection, when what was last published

Write-ahead log with `synchronous=FULL`: what was acknowledged survives a power cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from holdfast.base.errors import Refused
from holdfast.platform.sqlite import SqliteFile
from holdfast.status.board import Entry
from holdfast.status.outcomes import Count, Probed

FORMAT: Final = 1
"""Layout of the file that this version reads and writes."""
_SCHEMA: Final = """
create table if not exists entries (
    seq integer primary key autoincrement, at text not null, entry blob not null
) strict;
create table if not exists counts (
    bucket_s integer not null, capability text not null, rail text not null, bank text not null,
    country text not null, succeeded integer not null, failed integer not null, declined integer not null,
    primary key (bucket_s, capability, rail, bank, country)
) strict, without rowid;
create table if not exists probes (
    seq integer primary key autoincrement, at_s real not null, target text not null, outcome text not null,
    took_ms integer not null
) strict;
create index if not exists probes_by_time on probes (at_s);
create table if not exists notices (
    seq integer primary key autoincrement, id text not null unique, notice blob not null
) strict;
create table if not exists settings (name text primary key, value blob not null) strict, without rowid;
"""
_encode: Final = msgspec.json.Encoder().encode
_entry: Final = msgspec.json.Decoder(Entry).decode


class StoreForeign(Refused):
    """The status service's data folder belongs to another version."""

    code = "status_store_foreign"


class Store(SqliteFile):
    """The file. One connection, of one thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, durable=True)
        version = self._db.execute("pragma user_version").fetchone()[0]
        if version not in (0, FORMAT):
            raise StoreForeign(f"{path} has format {version}; this version reads {FORMAT}. Use its version.")
        self._create(f"{_SCHEMA} pragma user_version = {FORMAT}")

    def add(self, *entries: Entry) -> None:
        """Keep facts, all or none, durably."""
        with self.transaction():
            self._db.executemany(
                "insert into entries (at, entry) values (?, ?)",
                [(entry.at.isoformat(), _encode(entry)) for entry in entries],
            )

    def entries(self) -> Iterator[Entry]:
        """Return all facts, oldest first."""
        for (body,) in self._db.execute("select entry from entries order by seq"):
            yield _entry(body)

    def add_counts(self, counts: Iterable[Count]) -> None:
        """Add outcomes to their buckets."""
        with self.transaction():
            self._db.executemany(
                """insert into counts values (?, ?, ?, ?, ?, ?, ?, ?)
                   on conflict do update set succeeded = succeeded + excluded.succeeded,
                       failed = failed + excluded.failed, declined = declined + excluded.declined""",
                [
                    (c.bucket_s, c.capability, c.rail, c.bank, c.country, c.succeeded, c.failed, c.declined)
                    for c in counts
                ],
            )

    def counts(self, from_s: int, to_s: int = 2**53) -> list[Count]:
        """Return the outcomes between two moments (seconds since 1970), oldest first."""
        rows = self._db.execute(
            "select * from counts where bucket_s >= ? and bucket_s < ? order by bucket_s", (from_s, to_s)
        )
        return [Count(*row) for row in rows]

    def add_probes(self, probes: Iterable[Probed]) -> None:
        """Keep results of probes."""
        with self.transaction():
            self._db.executemany(
                "insert into probes (at_s, target, outcome, took_ms) values (?, ?, ?, ?)",
                [(p.at_s, p.target, p.outcome, p.took_ms) for p in probes],
            )

    def probes(self, from_s: float) -> list[Probed]:
        """Return the results of probes since a moment, oldest first."""
        rows = self._db.execute(
            "select at_s, target, outcome, took_ms from probes where at_s >= ? order by at_s", (from_s,)
        )
        return [Probed(*row) for row in rows]

    def forget(self, *, counts_before_s: int, probes_before_s: float) -> None:
        """Delete what is older than it is kept."""
        with self.transaction():
            self._db.execute("delete from counts where bucket_s < ?", (counts_before_s,))
            self._db.execute("delete from probes where at_s < ?", (probes_before_s,))

    def notice_ids(self) -> list[str]:
        """Return the ids of all notices."""
        return [row[0] for row in self._db.execute("select id from notices")]

    def newest_notices(self, limit: int) -> list[bytes]:
        """Return notices, newest first."""
        rows = self._db.execute("select notice from notices order by seq desc limit ?", (limit,))
        return [bytes(row[0]) for row in rows]

    def add_notices(self, notices: Iterable[tuple[str, bytes]]) -> None:
        """Keep notices, by id."""
        with self.transaction():
            self._db.executemany("insert into notices (id, notice) values (?, ?)", notices)

    def notice_after(self, seq: int) -> tuple[int, bytes] | None:
        """Return the notice that follows a number, with its own."""
        row = self._db.execute(
            "select seq, notice from notices where seq > ? order by seq limit 1", (seq,)
        ).fetchone()
        return None if row is None else (int(row[0]), bytes(row[1]))

    def notice(self, seq: int) -> bytes | None:
        """Return a notice by its number."""
        row = self._db.execute("select notice from notices where seq = ?", (seq,)).fetchone()
        return None if row is None else bytes(row[0])

    def last_notice(self) -> int:
        """Return the number of the newest notice; 0: there is none."""
        return int(self._db.execute("select coalesce(max(seq), 0) from notices").fetchone()[0])

    def get(self, name: str) -> bytes | None:
        """Return a setting."""
        row = self._db.execute("select value from settings where name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, name: str, value: bytes) -> None:
        """Keep a setting."""
        with self.transaction():
            self._db.execute(
                "insert into settings values (?, ?) on conflict do update set value = excluded.value",
                (name, value),
            )

    def stamp(self, at: datetime) -> None:
        """Note that the service lived at a moment."""
        self.put("alive", at.isoformat().encode())
