"""Migrations: numbered plain SQL per domain, `NNNN_pre_what.sql` and `NNNN_post_what.sql`.

`pre` files suit the code that is still running; `post` files run when the old code is gone. Each file runs
in one transaction with a short lock wait and is tried again, so that it never queues in front of live
traffic.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import psycopg

from holdfast.base.errors import Broken, Refused, Unavailable

Phase = Literal["pre", "post"]
_NAME: Final = re.compile(r"(\d{4})_(pre|post)_[a-z0-9_]+\.sql")
_ADVISORY_KEY: Final = 0x486F6C64
_LOCK_TIMEOUT_MS: Final = 100
_TRIES_MAX: Final = 40
_BOOK: Final = """
create schema if not exists migrations;
create table if not exists migrations.applied (
    domain text not null, name text not null, checksum text not null,
    applied_at timestamptz not null default now(), primary key (domain, name));
comment on schema migrations is 'Which migrations were applied here.';
comment on table migrations.applied is 'One row per file; its checksum proves that it has not changed since.';
"""


class MigrationChanged(Refused):
    """A migration that was applied already has changed since. Write a new one instead."""

    code = "migration_changed"


class MigrationBlocked(Unavailable):
    """A migration could not get its locks. Nothing was changed; run it again when traffic is lower."""

    code = "migration_blocked"


class SchemaTooOld(Refused):
    """The database's schema is older than this version needs. Run `holdfast migrate` first."""

    code = "schema_too_old"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file.

    `transactional` is False when it opens with `-- no transaction` (for `create index concurrently`).
    """

    domain: str
    name: str
    phase: Phase
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def transactional(self) -> bool:
        """Whether the file runs inside one transaction."""
        return not self.sql.startswith("-- no transaction")


def find(root: Path) -> list[Migration]:
    """Return the migrations under `root/*/schema`, ordered by number within a domain, domains by name."""
    found = []
    for file in sorted(root.glob("*/schema/*.sql")):
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise Broken(f"{file} is not named NNNN_pre_what.sql or NNNN_post_what.sql")
        phase: Phase = "pre" if match[2] == "pre" else "post"
        found.append(Migration(file.parent.parent.name, file.name, phase, file.read_text()))
    return found


def shipped() -> list[Migration]:
    """Return every migration that this version brings: the platform's own, then each domain's."""
    package = Path(__file__).parents[1]
    return [m for m in find(package) if m.domain == "platform"] + find(package / "domains")


def missing(
    dsn: str, migrations: Iterable[Migration], *, phases: tuple[Phase, ...] = ("pre", "post")
) -> list[Migration]:
    """Return what `apply` would apply, without applying anything. Raises: `MigrationChanged`."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        applied = _applied(connection)
    return [m for m in migrations if not _known(m, applied) and m.phase in phases]


def unknown(dsn: str, migrations: Iterable[Migration]) -> list[str]:
    """Return the migrations applied there that this version does not know: a newer one was at work."""
    known = {(m.domain, m.name) for m in migrations}
    with psycopg.connect(dsn, autocommit=True) as connection:
        return [f"{domain}/{name}" for domain, name in sorted(_applied(connection).keys() - known)]


def require(dsn: str, migrations: Iterable[Migration]) -> None:
    """Refuse to run on a schema that is older than this version needs; a newer one is fine.

    Raises: `SchemaTooOld`.
    """
    lacking = missing(dsn, migrations, phases=("pre",))
    if lacking:
        names = ", ".join(f"{m.domain}/{m.name}" for m in lacking[:3]) + (" …" if len(lacking) > 3 else "")
        raise SchemaTooOld(
            f"The database lacks {len(lacking)} migrations ({names}). Run `holdfast migrate` first."
        )


def apply(
    dsn: str, migrations: Iterable[Migration], *, phases: tuple[Phase, ...] = ("pre", "post")
) -> list[str]:
    """Apply what is missing and return the names applied. One process at a time; others wait.

    Raises: `MigrationChanged`, `MigrationBlocked`.
    """
    done = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", (_ADVISORY_KEY,))
        connection.execute(_BOOK)
        applied = _applied(connection)
        for migration in migrations:
            if not _known(migration, applied) and migration.phase in phases:
                _apply_one(connection, migration)
                done.append(f"{migration.domain}/{migration.name}")
    return done


Applied = dict[tuple[str, str], str]


def _applied(connection: psycopg.Connection[tuple[Any, ...]]) -> Applied:
    there = connection.execute("select to_regclass('migrations.applied')").fetchone()
    if there is None or there[0] is None:
        return {}
    rows = connection.execute("select domain, name, checksum from migrations.applied")
    return {(domain, name): checksum for domain, name, checksum in rows}


def _known(migration: Migration, applied: Applied) -> bool:
    earlier = applied.get((migration.domain, migration.name))
    if earlier is not None and earlier != migration.checksum:
        raise MigrationChanged(
            f"{migration.domain}/{migration.name} was changed after it was applied. "
            "Put the file back, and write a new one."
        )
    return earlier is not None


def _apply_one(connection: psycopg.Connection[tuple[Any, ...]], migration: Migration) -> None:
    record = "insert into migrations.applied (domain, name, checksum) values (%s, %s, %s)"
    facts = (migration.domain, migration.name, migration.checksum)
    for _ in range(_TRIES_MAX):
        try:
            connection.execute(f"set lock_timeout = {_LOCK_TIMEOUT_MS}; set statement_timeout = '5min'")
            if migration.transactional:
                with connection.transaction():
                    connection.execute(migration.sql.encode())
                    connection.execute(record, facts)
            else:
                connection.execute(migration.sql.encode())
                connection.execute(record, facts)
        except psycopg.errors.LockNotAvailable:
            time.sleep(random.uniform(0.1, 0.6))  # noqa: S311 - jitter
        else:
            return
    raise MigrationBlocked(
        f"{migration.domain}/{migration.name} could not get its locks in {_TRIES_MAX} tries."
    )
