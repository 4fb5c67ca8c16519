"""Migrations: applied once, in order, by one process at a time, without holding up live traffic."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import psycopg
import pytest

from holdfast.platform import migrate
from holdfast.platform.postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
_numbers = count(1)


@pytest.fixture
def empty(postgres: EmbeddedPostgres) -> Iterator[str]:
    """An empty database."""
    name = f"migrate_{next(_numbers)}"
    dsn = postgres.create_database(name)
    yield dsn
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)".encode())


def one(sql: str, *, name: str = "0001_pre_first.sql", domain: str = "toy") -> migrate.Migration:
    return migrate.Migration(domain, name, "pre" if "_pre_" in name else "post", sql)


def test_each_migration_is_applied_once_and_only_in_its_phase(empty: str) -> None:
    pre = one("create table toy (n integer)")
    post = one("drop table toy", name="0002_post_drop.sql")
    assert migrate.apply(empty, [pre, post], phases=("pre",)) == ["toy/0001_pre_first.sql"]
    assert migrate.apply(empty, [pre, post], phases=("pre",)) == []
    assert [m.name for m in migrate.missing(empty, [pre, post])] == ["0002_post_drop.sql"]
    assert migrate.apply(empty, [pre, post]) == ["toy/0002_post_drop.sql"]


def test_a_migration_that_was_changed_after_it_was_applied_is_refused_by_name(empty: str) -> None:
    migrate.apply(empty, [one("create table toy (n integer)")])
    with pytest.raises(
        migrate.MigrationChanged, match=r"toy/0001_pre_first\.sql was changed after it was applied"
    ):
        migrate.apply(empty, [one("create table toy (n bigint)")])


def test_a_migration_that_fails_leaves_nothing_behind(empty: str) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate.apply(empty, [one("create table toy (n integer); select 1/0")])
    with psycopg.connect(empty) as connection:
        assert connection.execute("select to_regclass('toy')").fetchone() == (None,)
    assert migrate.apply(empty, [one("create table toy (n integer)")]) == ["toy/0001_pre_first.sql"]


def test_processes_that_migrate_at_once_apply_each_file_once(empty: str) -> None:
    files = [one(f"create table t{n} (n integer)", name=f"{n:04}_pre_t.sql") for n in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: migrate.apply(empty, files), range(4)))
    assert sorted(name for each in done for name in each) == sorted(f"toy/{m.name}" for m in files)


def test_an_index_can_be_built_outside_a_transaction(empty: str) -> None:
    table = one("create table toy (n integer)")
    index = one("-- no transaction\ncreate index concurrently toy_n on toy (n)", name="0002_pre_index.sql")
    migrate.apply(empty, [table, index])
    with psycopg.connect(empty) as connection:
        assert connection.execute(
            "select indisvalid from pg_index where indexrelid = 'toy_n'::regclass"
        ).fetchone() == (True,)


def test_writers_are_held_up_only_briefly_while_a_migration_waits_for_its_lock(empty: str) -> None:
    migrate.apply(empty, [one("create table toy (n integer)")])
    stop = threading.Event()
    longest = [0.0]

    def write() -> None:
        with psycopg.connect(empty, autocommit=True) as connection:
            while not stop.is_set():
                began = time.monotonic()
                connection.execute("insert into toy values (1)")
                longest[0] = max(longest[0], time.monotonic() - began)

    holder = psycopg.connect(empty)
    holder.execute("select * from toy")  # a long report: whoever alters the table must wait for it
    writer = threading.Thread(target=write)
    writer.start()
    alter = [
        one("create table toy (n integer)"),
        one("alter table toy add column m integer", name="0002_pre_add.sql"),
    ]
    with ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(migrate.apply, empty, alter)
        began = time.monotonic()
        while time.monotonic() - began < 2.0:
            time.sleep(0.05)
        assert not migrating.done(), "it cannot have been applied behind the report's back"
        holder.close()
        assert migrating.result(60) == ["toy/0002_pre_add.sql"]
    stop.set()
    writer.join(10)
    assert longest[0] < 1.5, f"a write waited {longest[0]:.2f} s behind the migration"


def test_a_process_refuses_to_run_on_a_schema_that_is_too_old_and_takes_a_newer_one(empty: str) -> None:
    first, second = one("select 1"), one("select 2", name="0002_pre_second.sql")
    later = one("select 3", name="0003_post_third.sql")
    migrate.apply(empty, [first])
    with pytest.raises(migrate.SchemaTooOld, match=r"lacks 1 migrations \(toy/0002_pre_second\.sql\)"):
        migrate.require(empty, [first, second, later])
    migrate.apply(empty, [first, second, later], phases=("pre",))
    migrate.require(empty, [first, second, later])
    migrate.require(empty, [first])


def test_the_dumped_schema_equals_the_migrations(postgres: EmbeddedPostgres, template: str) -> None:
    written = (ROOT / "docs" / "reference" / "schema.sql").read_text().partition("\n\n")[2]
    assert postgres.dump_schema(template) == written, "run `make schema`"


def test_no_migration_does_what_the_linter_knows_to_be_dangerous() -> None:
    # Excluded: time-outs (the runner sets them), `if not exists` (a file runs in one transaction), and wider
    # integers, for columns that have a bound.
    excluded = (
        "require-timeout-settings,prefer-robust-stmts,prefer-bigint-over-int,prefer-bigint-over-smallint"
    )
    files = sorted(str(f) for f in (ROOT / "src").rglob("schema/*.sql"))
    assert files
    squawk = Path(sys.executable).with_name("squawk")
    done = subprocess.run(
        [
            squawk,
            "--assume-in-transaction",
            "--pg-version",
            "15",
            "--exclude",
            excluded,
            "--reporter",
            "gcc",
            *files,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_job_tables_are_those_that_the_library_makes(postgres: EmbeddedPostgres, template: str) -> None:
    library = postgres.create_database(f"jobs_{next(_numbers)}")
    made = subprocess.run(
        [Path(sys.executable).with_name("pgq"), "sql", "install"],
        env={"PGQUEUER_SCHEMA": "jobs", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    with psycopg.connect(library, autocommit=True) as connection:
        connection.execute(made.encode())
    assert columns(library) == columns(postgres.dsn(template))


def columns(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            """select table_name, column_name, data_type, column_default, is_nullable
               from information_schema.columns
               where table_schema = 'jobs' union all
               select tablename, indexname, indexdef, '', '' from pg_indexes
               where schemaname = 'jobs' order by 1, 2"""
        ).fetchall()
