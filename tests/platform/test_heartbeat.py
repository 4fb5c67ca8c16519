"""Who is alive: seen while it beats, gone when it stops, and old code keeps `post` migrations waiting."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from holdfast import __version__
from holdfast.base.clock import SystemClock
from holdfast.platform import heartbeat, metrics, migrate
from holdfast.platform.db import Database
from holdfast.platform.heartbeat import Heart
from holdfast.platform.probes import probes
from tests.support.machine import free_port
from tests.support.waiting import until_async

NOW = datetime(2026, 11, 11, tzinfo=UTC)


async def test_a_process_is_seen_while_it_beats_and_for_half_a_minute_after(database: Database) -> None:
    heart = Heart.new(UUID(int=1), "worker", NOW)
    await heartbeat.beat(database, heart, now=NOW, facts={"resolve": 3})
    (seen,) = await heartbeat.alive(database, now=NOW + timedelta(seconds=29))
    assert (seen.kind, seen.version, seen.knows) == ("worker", __version__, len(migrate.shipped()))
    assert seen.facts == {"resolve": 3}
    assert await heartbeat.alive(database, now=NOW + timedelta(seconds=31)) == []
    other = Heart.new(UUID(int=2), "server", NOW)
    await heartbeat.beat(database, other, now=NOW + timedelta(seconds=60), facts={})
    async with database.connection() as connection:
        left = await (await connection.execute("select count(*) from processes.heartbeats")).fetchone()
    assert left == (1,), "rows of those that fell silent are removed"


async def test_a_server_beats_in_the_background_and_takes_its_row_away_at_the_end(database: Database) -> None:
    clock = SystemClock()
    heart = Heart.new(UUID(int=1), "server", clock.now())

    async def seen() -> bool:
        return bool(await heartbeat.alive(database, now=clock.now()))

    async with heartbeat.beating(database, heart, clock):
        await until_async(seen, "it is seen")
    assert not await seen()


async def test_post_migrations_wait_until_the_old_code_is_gone(database: Database) -> None:
    now = SystemClock().now()
    old = replace(Heart.new(UUID(int=1), "worker", now), knows=3)
    await heartbeat.beat(database, old, now=now, facts={})
    await heartbeat.beat(database, Heart.new(UUID(int=2), "server", now), now=now, facts={})
    (words,) = heartbeat.old_code(database.dsn, knows=len(migrate.shipped()), now=now)
    assert words.startswith(f"worker {__version__} on ")
    later = now + timedelta(minutes=1)
    assert heartbeat.old_code(database.dsn, knows=len(migrate.shipped()), now=later) == []


def test_the_command_refuses_post_migrations_while_old_code_runs(dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            """insert into processes.heartbeats (id, kind, host, pid, version, needs, started_at, seen_at)
               values (gen_random_uuid(), 'server', 'old-host', 7, '0.0.1', 1, now(), now())"""
        )
    program = f"""
from holdfast.platform import migrate
post = migrate.Migration("toy", "0009_post_drop.sql", "post", "select 1")
shipped = migrate.shipped()
migrate.shipped = lambda: [*shipped, post]
from holdfast.cli import main
import sys
sys.argv = ["holdfast", "migrate", "--phase", sys.argv[1], "--data", {str(tmp_path)!r}]
main()
"""

    def run(phase: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, phase], capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "HOLDFAST_DSN": dsn},
        )  # fmt: skip

    refused = run("post")
    assert refused.returncode == 1
    assert "server 0.0.1 on old-host (process 7)" in refused.stderr
    assert run("pre").stdout == "The schema is up to date.\n"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("update processes.heartbeats set seen_at = now() - interval '1 minute'")
    assert run("post").stdout == "applied toy/0009_post_drop.sql\n"


async def ask(port: int, text: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def test_a_process_without_a_server_answers_probes_and_metrics() -> None:
    port, ready = free_port(), False
    async with probes(port, lambda: ready):
        assert (await ask(port, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")).startswith("HTTP/1.1 200 OK\r\n")
        assert (await ask(port, "GET /readyz HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 503 ")
        ready = True
        assert (await ask(port, "GET /readyz HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 200 ")
        metrics.DUTY_DONE.labels("test").inc(3)
        assert 'holdfast_worker_done_total{duty="test"} 3.0' in await ask(
            port, "GET /metrics HTTP/1.1\r\n\r\n"
        )
        assert (await ask(port, "GET /x HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 404 ")
        assert (await ask(port, "POST /healthz HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 405 ")
        assert await ask(port, "x" * 20_000 + "\r\n\r\n") == ""
    with pytest.raises(OSError, match=r"."):
        await ask(port, "GET /healthz HTTP/1.1\r\n\r\n")
