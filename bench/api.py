"""`make bench-api`: payments from balance over HTTP, beside a bare endpoint of the same framework.

The bare endpoint takes the same JSON, validates it with the same shapes and answers the same JSON, and does
nothing else: no key, no idempotency, no database. Both servers are one granian worker on core 0; PostgreSQL
(durable, fsync on) and the client share core 1. Rounds alternate, so that a machine that gets slower gets
slower for both.

Ratios: `of_bare`, the rate of payments as a share of the bare one; `p99_over_p50`, at half of the rate
reached.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
import uvloop

from bench.load import Load, request, run
from bench.report import report
from holdfast.base.errors import ensure
from holdfast.base.ids import TransferId, public
from holdfast.base.secret import Secret
from holdfast.boot import open_app
from holdfast.domains.instruments import Kind
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.merchants import Role
from holdfast.flows import chart
from holdfast.platform import migrate
from holdfast.platform.config import Config
from holdfast.platform.postgres import EmbeddedPostgres

CONNECTIONS: Final = 64
PAYERS: Final = 1_000
SERVER_CORE: Final = 0
OTHER_CORE: Final = 1
BARE_PORT: Final = 8491
PAY_PORT: Final = 8492
_ROOT: Final = Path(__file__).parents[1]


def _granian(target: str, port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    code = (
        "from granian.constants import Interfaces, Loops\n"
        "from granian.server import Server\n"
        f"Server({target!r}, factory=True, address='127.0.0.1', port={port}, interface=Interfaces.ASGI, "
        "loop=Loops.uvloop, workers_kill_timeout=5, log_enabled=False, backlog=2048).serve()\n"
    )
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-c", code]
    return subprocess.Popen(command, env={**os.environ, **environment}, cwd=_ROOT, stderr=subprocess.DEVNULL)


@contextmanager
def _server(target: str, port: int, environment: dict[str, str]) -> Iterator[int]:
    process = _granian(target, port, environment)
    try:
        _wait(port, process)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    raise SystemExit(f"the server on port {port} did not start")


async def _people(dsn: str) -> tuple[str, list[str]]:
    """Make a shop and its payers, each with more than enough; return the key and the payers' ids."""
    app = await open_app(Config(dsn=Secret(dsn)))
    try:
        now = app.clock.now()
        merchant = await app.merchants.enrol(app.ids.new(), app.ids.new(), "Bench", now, live=True)
        key = await app.merchants.issue_key(merchant, Role.FULL, now)
        payers = [
            await app.instruments.enrol(app.ids.new(), merchant.id, f"Payer {n}", now) for n in range(PAYERS)
        ]
        for payer in payers:
            await app.instruments.add(app.ids.new(), payer.id, Kind.BALANCE, "Balance", now)
        world = chart.world("CNY")
        accounts = [chart.payer(payer.id, "CNY") for payer in payers]
        await app.ledger.open_accounts([world, chart.merchant(merchant.id, "CNY"), *accounts])
        moved = await app.ledger.post(
            [NewTransfer(TransferId(app.ids.new()), world.number, a.number, "CNY", 10**12) for a in accounts]
        )
        if not all(one.outcome.moved for one in moved):
            raise SystemExit("the opening balances were refused")
        return key.reveal(), [public("pyr", payer.id) for payer in payers]
    finally:
        await app.close()


def _requests(count: int, key: str, payers: list[str]) -> list[bytes]:
    made = []
    for number in range(count):
        body = msgspec.json.encode(
            {
                "amount": {"asset": "CNY", "amount_minor": 100 + number % 9_000},
                "payer": payers[number * 7919 % len(payers)],
                "reference": f"order-{number}",
                "description": "Two pots of tea",
                "metadata": {"table": str(number % 40)},
            }
        )
        headers = {"authorization": f"Bearer {key}", "idempotency-key": str(uuid4())}
        made.append(request("/v1/payments", body, headers))
    return made


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process and those that it started have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return used + sum(_cpu_s(int(child)) for child in children)


@dataclass(slots=True)
class Round:
    """One round: what the client saw, and CPU seconds of the server, PostgreSQL and the client."""

    load: Load
    server_s: float
    postgres_s: float
    client_s: float

    def each_us(self, seconds: float) -> float:
        """Return microseconds per request."""
        return seconds / len(self.load.latencies_s) * 1e6


def _all_made(load: Load, what: str) -> Load:
    if set(load.statuses) != {201}:
        raise SystemExit(f"{what}: answers by status {dict(load.statuses)}, all should be 201")
    return load


async def _round(
    port: int, server: int, postgres: int, made: list[bytes], rate: float | None = None
) -> Round:
    before = (_cpu_s(server), _cpu_s(postgres), time.process_time())
    load = await run("127.0.0.1", port, made, connections=CONNECTIONS, rate=rate)
    return Round(
        _all_made(load, str(port)),
        _cpu_s(server) - before[0],
        _cpu_s(postgres) - before[1],
        time.process_time() - before[2],
    )


async def _measure(
    key: str, payers: list[str], servers: dict[int, int], postgres: int, rounds: int, seconds: float
) -> tuple[list[Round], list[Round], Load]:
    done: dict[int, list[Round]] = {BARE_PORT: [], PAY_PORT: []}
    sizes = {BARE_PORT: 1_000, PAY_PORT: 500}
    for number in range(rounds + 1):
        for port, earlier in done.items():
            one = await _round(port, servers[port], postgres, _requests(sizes[port], key, payers))
            sizes[port] = max(200, int(one.load.rate * seconds))
            if number:  # the first round warms up and finds out how many requests fill a round
                earlier.append(one)
                name = "bare" if port == BARE_PORT else "payments"
                print(f"  {name:8} {one.load.rate:8.0f}/s  server {one.each_us(one.server_s):5.0f} us each")
    half = statistics.median(one.load.rate for one in done[PAY_PORT]) / 2
    made = _requests(int(half * seconds * 2), key, payers)
    paced = await _round(PAY_PORT, servers[PAY_PORT], postgres, made, rate=half)
    return done[BARE_PORT], done[PAY_PORT], paced.load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--quick", action="store_true", help="only prove that it works")
    options = parser.parse_args()
    rounds, seconds = (2, 1.0) if options.quick else (options.rounds, options.seconds)
    os.sched_setaffinity(0, {OTHER_CORE})
    folder = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    folder.chmod(0o755)
    postgres = EmbeddedPostgres(folder / "pg", settings={"max_wal_size": "8GB"})
    postgres.start()
    try:
        dsn = postgres.dsn()
        migrate.apply(dsn, migrate.shipped())
        key, payers = asyncio.run(_people(dsn))
        settings = {"HOLDFAST_DSN": dsn, "HOLDFAST_MODE": "production", "HOLDFAST_LOG_LEVEL": "error"}
        with (
            _server("bench.api_bare:create", BARE_PORT, {}) as plain,
            _server("bench.api_paid:create", PAY_PORT, settings) as full,
        ):
            ensure(postgres.pid is not None, "PostgreSQL runs")
            servers = {BARE_PORT: plain, PAY_PORT: full}
            bare, paid, paced = uvloop.run(_measure(key, payers, servers, postgres.pid or 0, rounds, seconds))
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    _report(bare, paid, paced)


def _report(bare: list[Round], paid: list[Round], paced: Load) -> None:
    middle = statistics.median
    of_bare = middle(p.load.rate / b.load.rate for p, b in zip(paid, bare, strict=True))
    p50, p99 = paced.quantile_ms(0.5), paced.quantile_ms(0.99)
    head = ("", "per second", "p50 ms", "p99 ms", "server us", "PostgreSQL us", "client us")
    rows: list[tuple[str, ...]] = [head]
    for name, done in (("bare endpoint", bare), ("payments from balance", paid)):
        rows.append(
            (
                name,
                f"{middle(one.load.rate for one in done):,.0f}",
                f"{middle(one.load.quantile_ms(0.5) for one in done):.2f}",
                f"{middle(one.load.quantile_ms(0.99) for one in done):.2f}",
                f"{middle(one.each_us(one.server_s) for one in done):.0f}",
                f"{middle(one.each_us(one.postgres_s) for one in done):.0f}",
                f"{middle(one.each_us(one.client_s) for one in done):.0f}",
            )
        )
    rows.append(("payments at half of that", f"{paced.rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", "", "", ""))
    report(
        "api",
        ratios={"of_bare": of_bare, "p99_over_p50": p99 / p50},
        figures={
            "bare_per_s": middle(one.load.rate for one in bare),
            "payments_per_s": middle(one.load.rate for one in paid),
            "bare_server_cpu_us": middle(one.each_us(one.server_s) for one in bare),
            "payments_server_cpu_us": middle(one.each_us(one.server_s) for one in paid),
            "payments_postgres_cpu_us": middle(one.each_us(one.postgres_s) for one in paid),
            "half_peak_p50_ms": p50,
            "half_peak_p99_ms": p99,
            "connections": CONNECTIONS,
        },
        table=rows,
        notes=[
            "Server on one core, PostgreSQL and client on the other; rounds of bare and payments alternate.",
            "At half of the peak, latency counts from when a request was due.",
            "The last columns are CPU time for one request.",
        ],
    )


if __name__ == "__main__":
    main()
