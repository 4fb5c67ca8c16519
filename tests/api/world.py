"""A running server for tests: a real process, socket and database, and people to pay with."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from holdfast.base.ids import MerchantId, PayerId, TransferId, public
from holdfast.base.secret import Secret
from holdfast.boot import App, open_app
from holdfast.domains.instruments import Kind
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.merchants import Merchant, MerchantRules, Role
from holdfast.flows import chart
from holdfast.platform.config import Config

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """A server process. `url` is where it answers."""

    url: str
    dsn: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


@contextmanager
def running_server(dsn: str, folder: Path, **settings: str) -> Iterator[Server]:
    """Run `holdfast serve` until the block ends."""
    port = free_port()
    environment = {
        **os.environ,
        "HOLDFAST_DSN": dsn,
        "HOLDFAST_DATA_DIR": str(folder),
        "HOLDFAST_PORT": str(port),
        **{f"HOLDFAST_{name.upper()}": value for name, value in settings.items()},
    }
    log = folder / f"server-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", "from holdfast.cli import main; main()", "serve"],
            env=environment,
            stdout=out,
            stderr=out,
            cwd=ROOT,
        )
    server = Server(f"http://127.0.0.1:{port}", dsn, process, log)
    try:
        wait_until_up(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def wait_until_up(server: Server, timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(server.url + "/readyz", timeout=1.0).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the server did not come up: {server.log.read_text()[-3000:]}")


@dataclass(frozen=True)
class Shop:
    """A merchant with its key, and one of its payers with money."""

    merchant: Merchant
    key: str
    payer: PayerId

    @property
    def payer_id(self) -> str:
        return public("pyr", self.payer)


async def make_shop(
    app: App, *, live: bool = False, rules: MerchantRules | None = None, funded: int = 1_000_000
) -> Shop:
    """Enrol a merchant with a key and a payer whose balance holds `funded` fen."""
    now = app.clock.now()
    merchant = await app.merchants.enrol(app.ids.new(), app.ids.new(), "Shop", now, live=live, ruled=rules)
    key = await app.merchants.issue_key(merchant, Role.FULL, now)
    payer = await make_payer(app, merchant.id, funded)
    return Shop(merchant, key.reveal(), payer)


async def make_payer(app: App, merchant: MerchantId, funded: int) -> PayerId:
    payer = await app.instruments.enrol(app.ids.new(), merchant, "Pei", app.clock.now())
    await app.instruments.add(app.ids.new(), payer.id, Kind.BALANCE, "Balance", app.clock.now())
    account, world = chart.payer(payer.id, "CNY"), chart.world("CNY")
    await app.ledger.open_accounts([account, world, chart.merchant(merchant, "CNY")])
    if funded:
        moved = await app.ledger.post(
            [NewTransfer(TransferId(app.ids.new()), world.number, account.number, "CNY", funded)]
        )
        assert moved[0].outcome.moved
    return payer.id


async def opened(dsn: str) -> App:
    return await open_app(Config(dsn=Secret(dsn)))


def shop_now(dsn: str, **how: Any) -> Shop:
    """Make a shop from synchronous code."""

    async def make() -> Shop:
        app = await opened(dsn)
        try:
            return await make_shop(app, **how)
        finally:
            await app.close()

    return asyncio.run(make())


class Api:
    """An HTTP client that speaks as one shop."""

    def __init__(self, url: str, key: str | None) -> None:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=30)

    def post(
        self, path: str, body: Any = None, *, key: str | None = "", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Post; `key` is the Idempotency-Key: "" makes a fresh one, None sends none."""
        sent = dict(headers or {})
        if key is not None:
            sent["idempotency-key"] = key or str(uuid4())
        return (
            self.http.post(path, json=body, headers=sent)
            if body is not None
            else self.http.post(path, headers=sent)
        )

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(path, params=query)

    def close(self) -> None:
        self.http.close()
