"""Runs the status service until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from holdfast.base.clock import Clock, SystemClock
from holdfast.base.ids import IdSource
from holdfast.platform.processes import check_port
from holdfast.status import site
from holdfast.status.access import Doorman
from holdfast.status.app import make_app
from holdfast.status.desks.console import Console
from holdfast.status.desks.regulators import Regulators
from holdfast.status.desks.subscribers import Subscribers
from holdfast.status.keeper import Keeper
from holdfast.status.operators import Operators
from holdfast.status.prober import Prober
from holdfast.status.seal import Signer
from holdfast.status.settings import Settings
from holdfast.status.store import Store
from holdfast.status.subscriptions.channels import Channel, Hooks, Mail, Others
from holdfast.status.subscriptions.links import Links
from holdfast.status.subscriptions.sender import Sender, Tally
from holdfast.status.subscriptions.store import Roll
from holdfast.status.subscriptions.wishes import Kind
from holdfast.status.target import Folder
from holdfast.status.targets.places import make


@dataclass(frozen=True, slots=True)
class Place:
    """Where to run. `port` 0 takes any free one."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 0


def open_store(folder: Path) -> Store:
    """Open the store of a service, which only its owner may read."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Store(folder / "status.sqlite3")


async def serve(place: Place, settings: Settings, *, ready: Callable[[int, str], None]) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is told the port and the public key. Raises: `PortTaken`."""
    if place.port:
        check_port(place.host, place.port, option="--port")
    clock = SystemClock()
    store = open_store(place.folder)
    signer = Signer.kept(place.folder / "signing.key")
    listener = socket.create_server((place.host, place.port), backlog=512)
    port = int(listener.getsockname()[1])
    folders = [Folder(place.folder / "site"), *(Folder(Path(path)) for path in settings.folders)]
    url = (settings.url or f"http://{place.host}:{port}").rstrip("/")
    keeper = Keeper(
        store, settings.graph(), signer, folders, clock, IdSource(clock.now_ms),
        title=settings.title, url=url, official=settings.official_for(url), policy=settings.maintenance,
        mail=settings.mail is not None, far=[make(each, os.environ) for each in settings.target],
    )  # fmt: skip
    links = Links.kept(place.folder / "links.key", url)
    roll = Roll(place.folder / "subscribers.sqlite3")
    sender = Sender(place.folder, _channels(settings, url, links, clock), clock)
    sender.start()
    keeper.told = sender.wake
    await keeper.publish()
    kinds: set[Kind] = {"webhook", "apprise"}
    if settings.mail is not None:
        kinds.add("email")
    subscribers = Subscribers(
        keeper, Doorman(store), roll, links, sender, kinds,
        lambda *said: site.said(keeper.view(), signer.public_key, *said),
    )  # fmt: skip
    operators, secure = Operators(store, clock), url.startswith("https://")
    console = Console(keeper, Doorman(store), operators, settings.firm, secure=secure)
    regulators = Regulators(keeper, Doorman(store), settings.firm)
    app = make_app(
        keeper, Doorman(store), subscribers, console, regulators, metrics=lambda: _sending(sender.tally)
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    prober = Prober(settings.probe, clock, keeper.probed)
    try:
        await web.SockSite(runner, listener).start()
        work = asyncio.gather(keeper.run(), prober.run(), return_exceptions=False)
        ready(port, signer.public_key)
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if work.done():
            work.result()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    finally:
        keeper.keep()
        await runner.cleanup()
        sender.stop()
        roll.close()
        store.close()


def _channels(settings: Settings, url: str, links: Links, clock: Clock) -> Callable[[], Sequence[Channel]]:
    """Return what makes the channels, in the thread that uses them."""
    password = settings.password()

    def make() -> Sequence[Channel]:
        mail: list[Channel] = []
        if settings.mail is not None:
            mail.append(Mail(settings.mail, password, settings.title, links, clock))
        hooks = Hooks(url, links, clock, allow_private=settings.webhooks_private)
        return [*mail, hooks, Others(settings.title, links)]

    return make


def _sending(tally: Tally) -> list[str]:
    """Return the metrics of sending."""
    lines = [
        "# HELP holdfast_status_notices_total Notices to subscribers, by channel and what became of them.",
        "# TYPE holdfast_status_notices_total counter",
    ]
    for outcome in ("sent", "later", "never"):
        for kind, many in getattr(tally, outcome).items():
            lines.append(f'holdfast_status_notices_total{{channel="{kind}",outcome="{outcome}"}} {many}')
    lines += [
        "# HELP holdfast_status_channel_down Whether a channel cannot send at present.",
        "# TYPE holdfast_status_channel_down gauge",
        *(f'holdfast_status_channel_down{{channel="{k}"}} {int(down)}' for k, down in tally.down.items()),
    ]
    return lines
