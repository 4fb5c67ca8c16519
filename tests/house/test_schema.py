"""The schema explains itself: every table and index, and nothing reaches from one domain into another."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest

from tests.house.source import SRC

_OURS: LiteralString = """
    select n.nspname || '.' || c.relname
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
      and c.relname not like '%pgqueuer%' and not c.relispartition
"""
UNEXPLAINED_TABLES: LiteralString = (
    _OURS + "and c.relkind in ('r', 'p', 'v', 'm') and obj_description(c.oid) is null"
)
UNEXPLAINED_INDEXES: LiteralString = (
    _OURS
    + """and c.relkind in ('i', 'I') and obj_description(c.oid) is null
         and not exists (select from pg_constraint where conindid = c.oid)"""
)
CROSSING_KEYS: LiteralString = """
    select conrelid::regclass::text || ' -> ' || confrelid::regclass::text
    from pg_constraint k
    join pg_class a on a.oid = k.conrelid join pg_class b on b.oid = k.confrelid
    where k.contype = 'f' and a.relnamespace <> b.relnamespace
"""


SCHEMAS: LiteralString = """
    select nspname::text from pg_namespace
    where nspname not like 'pg\\_%' and nspname <> 'information_schema'
"""
IN_PUBLIC: LiteralString = "select relname::text from pg_class where relnamespace = 'public'::regnamespace"


def rows(dsn: str, query: LiteralString, change: LiteralString = "select 1") -> list[str]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(change)
        return sorted(name for (name,) in connection.execute(query).fetchall())


@pytest.mark.parametrize(
    ("query", "change", "seen"),
    [
        (UNEXPLAINED_TABLES, "create table ledger.riddle (x int)", "ledger.riddle"),
        (
            UNEXPLAINED_INDEXES,
            "create table ledger.a (x int); create index riddle on ledger.a (x)",
            "ledger.riddle",
        ),
        (
            CROSSING_KEYS,
            "create schema s; create table s.a (x int primary key);"
            " create table ledger.b (x int references s.a)",
            "ledger.b -> s.a",
        ),
    ],
    ids=["every table has a comment", "every index names its query", "no key reaches into another schema"],
)
def test_the_schema_keeps_the_rule(dsn: str, query: LiteralString, change: LiteralString, seen: str) -> None:
    assert rows(dsn, query) == []
    assert rows(dsn, query, change) == [seen]


def test_every_domain_has_its_own_schema_and_what_is_left_belongs_to_platform(dsn: str) -> None:
    domains = {path.parent.name for path in (SRC / "domains").glob("*/schema")}
    machinery = {path.stem for path in (SRC / "platform").glob("*.py")}
    schemas = set(rows(dsn, SCHEMAS)) - {"public"}
    assert domains
    assert domains <= schemas
    assert schemas - domains - machinery - {"migrations"} == set()
    assert rows(dsn, IN_PUBLIC) == []
