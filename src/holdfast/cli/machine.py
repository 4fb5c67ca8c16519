"""One whole Holdfast on one machine: what `holdfast up` starts, in which order, and what it prints."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import webbrowser
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import Final

import click

from holdfast import __version__
from holdfast.base.errors import HoldfastError
from holdfast.base.secret import Secret
from holdfast.platform import migrate
from holdfast.platform.config import Config
from holdfast.platform.postgres import EmbeddedPostgres
from holdfast.platform.processes import check_port, hold_data_folder
from holdfast.platform.supervisor import BACKOFF_S, Program, Supervisor, python_command, run_once
from holdfast.status.access import Doorman
from holdfast.status.serve import open_store

_COLOURS: Final = {"good": "green", "bad": "yellow", "plain": None}
_DEMO_TIMEOUT_S: Final = 120.0
_LOOK_EVERY_S: Final = 0.2


def say(who: str, what: str, how: str = "plain") -> None:
    """Print one event on one line; colours only on a terminal."""
    at = datetime.now().astimezone().strftime("%H:%M:%S")
    click.echo(f"{at}  {who:<9} {click.style(what, fg=_COLOURS[how])}", color=sys.stdout.isatty())
    sys.stdout.flush()


def run(config: Config, *, demo: bool, open_page: bool) -> int:
    """Run everything until SIGINT or SIGTERM; return the exit code.

    Raises: whatever keeps it from starting.
    """
    check_port(config.host, config.port, option="--port")
    if config.mode == "development":
        check_port("127.0.0.1", config.sandbox_port, option="--sandbox-port")
    if config.status_page_port:
        check_port("127.0.0.1", config.status_page_port, option="--status-page-port")
    with ExitStack() as held:
        held.enter_context(hold_data_folder(config.data_dir))
        say("holdfast", f"{__version__}, data in {config.data_dir}")
        machine = _Machine(config, demo=demo, open_page=open_page)
        return asyncio.run(machine.run())


class _Machine:
    def __init__(self, config: Config, *, demo: bool, open_page: bool) -> None:
        self._config = config
        self._demo = demo and config.mode == "development"
        self._open_page = open_page
        self._logs = config.data_dir / "logs"
        self._logs.mkdir(exist_ok=True)
        self._postgres: EmbeddedPostgres | None = None
        self._dsn = config.dsn.reveal() if config.dsn else ""
        self._stop = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(each, self._stop.set)
        supervisor = Supervisor(logs=self._logs, say=say)
        starting = asyncio.ensure_future(self._start(supervisor))
        stopping = asyncio.ensure_future(self._stop.wait())
        guard: asyncio.Task[None] | None = None
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                guard = asyncio.ensure_future(self._guard_database())
                self._announce()
                await stopping
        except HoldfastError as error:
            say("holdfast", error.message, "bad")
            return 1
        finally:
            await self._wind_down(supervisor, starting, guard)
        return 0

    async def _start(self, supervisor: Supervisor) -> None:
        if self._config.status_page_port:
            await supervisor.start(self._status())
        await self._start_database()
        began_s = time.monotonic()
        applied = await asyncio.to_thread(migrate.apply, self._dsn, migrate.shipped())
        say(
            "schema",
            f"{len(applied)} migrations applied ({time.monotonic() - began_s:.1f} s)"
            if applied
            else "up to date",
        )
        if self._config.mode == "development":
            await supervisor.start(self._sandbox())
        if self._demo:
            await self._load_demo()
        await supervisor.start(self._server(), self._worker())

    async def _start_database(self) -> None:
        if self._dsn:
            say("database", "the one configured")
            return
        began_s = time.monotonic()
        postgres = EmbeddedPostgres(self._config.data_dir / "postgres")
        if not postgres.data.exists():
            say("database", "making a new one")
        self._postgres = postgres
        postgres.launch()
        await self._until_ready(postgres)
        self._dsn = postgres.create_database()
        say("database", f"ready ({time.monotonic() - began_s:.1f} s)", "good")

    async def _until_ready(self, postgres: EmbeddedPostgres) -> None:
        while not postgres.ready():  # noqa: ASYNC110 - another process's file is what we wait for
            await asyncio.sleep(0.02)

    async def _guard_database(self) -> None:
        """Start the embedded database again when it falls. It recovers what it had promised from its log."""
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.make_log_ready)
        falls = 0
        while self._postgres is not None:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self._postgres.pid is not None:
                continue
            pause_s = BACKOFF_S[min(falls, len(BACKOFF_S) - 1)]
            say("database", f"stopped; starting again in {pause_s:g} s", "bad")
            await asyncio.sleep(pause_s)
            began_s = time.monotonic()
            try:
                self._postgres.launch()
                await self._until_ready(self._postgres)
            except HoldfastError as error:
                falls += 1
                say("database", error.message, "bad")
                continue
            falls = 0
            say("database", f"ready again ({time.monotonic() - began_s:.1f} s)", "good")

    async def _load_demo(self) -> None:
        code, words = await run_once(self._program("demo"), logs=self._logs, timeout_s=_DEMO_TIMEOUT_S)
        if code:
            say("demo", f"could not be loaded: {words}", "bad")
        else:
            say("demo", words or "loaded")

    def _program(self, name: str, *arguments: str) -> Program:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
        environment |= self._config.environment() | {"HOLDFAST_DSN": self._dsn, "PYTHONUNBUFFERED": "1"}
        stop_timeout_s = self._config.stop_timeout_ms / 1_000
        return Program(name, python_command(name, *arguments), environment, stop_timeout_s=stop_timeout_s)

    def _sandbox(self) -> Program:
        port = self._config.sandbox_port
        url = f"http://127.0.0.1:{port}"
        program = self._program("sandbox", "--port", str(port))
        return replace(program, probe=f"{url}/_control/state", where=url)

    def _status(self) -> Program:
        """The status service comes first and goes last. Of the wallet it is handed the address alone."""
        port, folder = self._config.status_page_port, self._config.data_dir / "status"
        url = f"http://127.0.0.1:{port}"
        store = open_store(folder)
        try:
            token = Doorman(store).issue("facts", "wallet")
        finally:
            store.close()
        self._config = replace(
            self._config, status_url=self._config.status_url or url,
            status_token=self._config.status_token or Secret(token),
        )  # fmt: skip
        program = self._program(
            "status", "serve", "--data", str(folder), "--port", str(port),
            "--probe", f"ledger={self._config.local_url}/readyz",
        )  # fmt: skip
        environment = {k: v for k, v in program.environment.items() if not k.startswith("HOLDFAST_")}
        return replace(program, environment=environment, probe=f"{url}/healthz", where=url)

    def _server(self) -> Program:
        url = self._config.local_url
        grace_s = 2.0  # granian kills its own worker first
        return replace(
            self._program("serve"),
            name="server",
            probe=f"{url}/readyz",
            pulse=f"{url}/healthz",
            where=url,
            stop_timeout_s=self._config.stop_timeout_ms / 1_000 + grace_s,
        )

    def _worker(self) -> Program:
        return self._program("worker")

    def _announce(self) -> None:
        url = self._config.server_url
        click.echo(
            f"\n  Open {click.style(url, bold=True)}    (Ctrl-C stops everything)\n",
            color=sys.stdout.isatty(),
        )
        sys.stdout.flush()
        if self._open_page:
            webbrowser.open(url)

    async def _wind_down(
        self, supervisor: Supervisor, starting: asyncio.Future[None], guard: asyncio.Task[None] | None
    ) -> None:
        began_s = time.monotonic()
        if self._stop.is_set():
            say("holdfast", "stopping")
        starting.cancel()
        if guard is not None:
            guard.cancel()
        await asyncio.gather(starting, *([guard] if guard else []), return_exceptions=True)
        await supervisor.stop("worker", "server", "sandbox")
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.stop)
        await supervisor.stop()
        say("holdfast", f"stopped ({time.monotonic() - began_s:.1f} s)")
