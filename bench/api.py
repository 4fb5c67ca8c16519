"""`make bench-api`: payments from balance over HTTP, beside a bare endpoint of the same framework.

The bare endpoint takes the same JSON, validates it with the same shapes and answers the same JSON, and does
nothing else: no key, no idempotency, no database. Both servers are one granian worker on core 0; PostgreSQL
(durable, fsync on) and the client share core 1. Rounds alternate, so that a machine that gets slower gets
slower for both.

The server asks the kernel for long turns (`processes.work_in_long_turns`), which a framework does not; so the
bare endpoint runs a second time in that way, and both comparisons are told.

Ratios: `of_bare`, the rate of payments as a share of the bare one as the framework starts it;
`of_bare_alike`, as a share of the bare one in long turns; `p99_over_p50`, at half of the rate reached.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
import uvloop

from bench.load import Load, request, run
from bench.report import report
from bench.shop import people, server, settings_for
from holdfast.base.errors import ensure
from holdfast.platform import migrate
from holdfast.platform.postgres import EmbeddedPostgres

CONNECTIONS: Final = 64
PAYERS: Final = 1_000
SERVER_CORE: Final = 0
OTHER_CORE: Final = 1
BARE_PORT: Final = 8491
PAY_PORT: Final = 8492
ALIKE_PORT: Final = 8493
NAMES: Final = {BARE_PORT: "bare", ALIKE_PORT: "alike", PAY_PORT: "payments"}
"""What is measured, by port, in the order of a round."""


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
    """Return the CPU seconds that a process and those that it started have used; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
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
) -> tuple[dict[int, list[Round]], Load]:
    done: dict[int, list[Round]] = {port: [] for port in NAMES}
    sizes = dict.fromkeys(NAMES, 500)
    for number in range(rounds + 1):
        for port, earlier in done.items():
            one = await _round(port, servers[port], postgres, _requests(sizes[port], key, payers))
            sizes[port] = max(200, int(one.load.rate * seconds))
            if number:  # the first round warms up and finds out how many requests fill a round
                earlier.append(one)
                each = (
                    f"server {one.each_us(one.server_s):5.0f}, PostgreSQL {one.each_us(one.postgres_s):4.0f}"
                )
                print(f"  {NAMES[port]:8} {one.load.rate:8.0f}/s  {each} us each")
    half = statistics.median(one.load.rate for one in done[PAY_PORT]) / 2
    made = _requests(int(half * seconds * 2), key, payers)
    paced = await _round(PAY_PORT, servers[PAY_PORT], postgres, made, rate=half)
    return done, paced.load


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
    postgres = EmbeddedPostgres(folder / "pg")
    postgres.start()
    postgres.make_log_ready()
    try:
        dsn = postgres.dsn()
        migrate.apply(dsn, migrate.shipped())
        key, payers = asyncio.run(people(dsn, PAYERS))
        with (
            server("bench.api_bare:create", BARE_PORT, {}, SERVER_CORE) as plain,
            server("bench.api_bare:create_in_long_turns", ALIKE_PORT, {}, SERVER_CORE) as alike,
            server("bench.api_paid:create", PAY_PORT, settings_for(dsn), SERVER_CORE) as full,
        ):
            ensure(postgres.pid is not None, "PostgreSQL runs")
            servers = {BARE_PORT: plain, ALIKE_PORT: alike, PAY_PORT: full}
            done, paced = uvloop.run(_measure(key, payers, servers, postgres.pid or 0, rounds, seconds))
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    _report(done, paced)


def _share(paid: list[Round], bare: list[Round]) -> float:
    return statistics.median(p.load.rate / b.load.rate for p, b in zip(paid, bare, strict=True))


def _report(all_done: dict[int, list[Round]], paced: Load) -> None:
    middle = statistics.median
    bare, alike, paid = (all_done[port] for port in NAMES)
    p50, p99 = paced.quantile_ms(0.5), paced.quantile_ms(0.99)
    head = ("", "per second", "p50 ms", "p99 ms", "server us", "PostgreSQL us", "client us")
    rows: list[tuple[str, ...]] = [head]
    named = (("bare endpoint", bare), ("bare, in long turns", alike), ("payments from balance", paid))
    for name, done in named:
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
        ratios={
            "of_bare": _share(paid, bare),
            "of_bare_alike": _share(paid, alike),
            "p99_over_p50": p99 / p50,
        },
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
