"""A shop with payers, and the server as it runs in production, for what is measured over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from holdfast.base.ids import TransferId, public
from holdfast.base.secret import Secret
from holdfast.boot import open_app
from holdfast.domains.instruments import Kind
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.merchants import Role
from holdfast.flows import chart
from holdfast.platform.config import Config

_ROOT: Final = Path(__file__).parents[1]


def settings_for(dsn: str) -> dict[str, str]:
    """Return the environment of a server in production mode."""
    return {"HOLDFAST_DSN": dsn, "HOLDFAST_MODE": "production", "HOLDFAST_LOG_LEVEL": "error"}


def _granian(
    target: str, port: int, environment: dict[str, str], core: int | None
) -> subprocess.Popen[bytes]:
    code = (
        "from granian.constants import Interfaces, Loops\n"
        "from granian.server import Server\n"
        f"Server({target!r}, factory=True, address='127.0.0.1', port={port}, interface=Interfaces.ASGI, "
        "loop=Loops.uvloop, workers_kill_timeout=5, log_enabled=False, backlog=2048).serve()\n"
    )
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pinned, sys.executable, "-c", code]
    return subprocess.Popen(command, env={**os.environ, **environment}, cwd=_ROOT, stderr=subprocess.DEVNULL)


@contextmanager
def server(target: str, port: int, environment: dict[str, str], core: int | None = None) -> Iterator[int]:
    """Run one granian worker, on one core if it is named, and yield its process's number."""
    process = _granian(target, port, environment, core)
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


async def people(dsn: str, payers_count: int) -> tuple[str, list[str]]:
    """Make a shop and its payers, each with more than enough; return the key and the payers' ids."""
    app = await open_app(Config(dsn=Secret(dsn)))
    try:
        now = app.clock.now()
        merchant = await app.merchants.enrol(app.ids.new(), app.ids.new(), "Bench", now, live=True)
        key = await app.merchants.issue_key(merchant, Role.FULL, now)
        payers = [
            await app.instruments.enrol(app.ids.new(), merchant.id, f"Payer {n}", now)
            for n in range(payers_count)
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
