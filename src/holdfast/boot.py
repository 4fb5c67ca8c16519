"""Wiring: the only place where everything meets."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from random import SystemRandom
from typing import Any, Final

from holdfast.adapters.rails.bank import BankRail
from holdfast.adapters.rails.book import BookRail
from holdfast.adapters.rails.stripe import StripeRail
from holdfast.adapters.rails.wire import RailSettings
from holdfast.base.clock import Clock, SystemClock
from holdfast.base.ids import IdSource
from holdfast.domains.instruments import Instruments
from holdfast.domains.ledger.operations import GroupCommitLane, PostgresLedger
from holdfast.domains.merchants import Merchants
from holdfast.domains.payments.ports import Rail, RailEvent
from holdfast.domains.payments.rules.cascade import BALANCE_RAIL
from holdfast.domains.payments.rules.routing import Router, RoutingSettings
from holdfast.domains.payments.store import PostgresBook
from holdfast.flows import chart
from holdfast.flows.desk import Desk, PaySettings
from holdfast.platform.config import Config
from holdfast.platform.db import Database
from holdfast.platform.http import HttpClient
from holdfast.platform.postgres import database_dsn

Verifier = Callable[[Mapping[str, str], bytes], RailEvent | None]
"""Checks a rail's message (its headers in small letters and its body) and reads it.

None: it is of no concern.
"""


@dataclass(frozen=True, slots=True)
class App:
    """Everything that one process works with, open and wired. `close` lets go of it."""

    config: Config
    clock: Clock
    ids: IdSource
    entropy: Callable[[int], bytes]
    database: Database
    lane: GroupCommitLane
    ledger: PostgresLedger
    book: PostgresBook
    merchants: Merchants
    instruments: Instruments
    desk: Desk
    router: Router
    rails: Mapping[str, Rail]
    rail_verifiers: Mapping[str, Verifier]
    closers: tuple[Callable[[], Awaitable[None]], ...]

    def rail_health(self) -> dict[str, dict[str, Any]]:
        """Return what routing believes of each rail now, as plain numbers."""
        told = self.router.health(self.clock.monotonic_s())
        return {
            one.rail: {name: value for name, value in asdict(one).items() if name != "rail"} for one in told
        }

    async def close(self) -> None:
        """Let go of connections; what is under way has been journaled and goes on elsewhere."""
        for closer in self.closers:
            await closer()
        await self.database.close()


async def open_app(config: Config, *, clock: Clock | None = None) -> App:
    """Open everything for one process. The database must be there and migrated.

    Raises: `NoDatabase`, `DatabaseUnavailable`.
    """
    dsn = database_dsn(config.dsn.reveal() if config.dsn else None, config.data_dir)
    time = clock or SystemClock()
    database = Database(dsn, connections_max=config.database_connections_max)
    await database.open()
    lane = GroupCommitLane(database, time)
    ledger = PostgresLedger(database, time)
    rails, verifiers, closers = open_rails(config, time)
    rails[BALANCE_RAIL] = BookRail(ledger, payer=chart.payer, clearing=chart.rail)
    book = PostgresBook(database)
    router = Router(RoutingSettings(), SystemRandom(), [rail.traits for rail in rails.values()])
    ids = IdSource(lambda: int(time.now().timestamp() * 1000), os.urandom)
    desk = Desk(time, ids, lane, ledger, book, rails, router, PaySettings())
    return App(
        config=config,
        clock=time,
        ids=ids,
        entropy=os.urandom,
        database=database,
        lane=lane,
        ledger=ledger,
        book=book,
        merchants=Merchants(database, time.monotonic_s, os.urandom),
        instruments=Instruments(database, time.monotonic_s),
        desk=desk,
        router=router,
        rails=rails,
        rail_verifiers=verifiers,
        closers=tuple(closers),
    )


def open_rails(
    config: Config, clock: Clock
) -> tuple[dict[str, Rail], dict[str, Verifier], list[Callable[[], Awaitable[None]]]]:
    """Return the configured rails by name, what checks their messages, and what closes them.

    A rail is where the operator says that it is, a private network included; each has connections of its own,
    so that one that hangs takes none from another.
    """
    rails: dict[str, Rail] = {}
    verifiers: dict[str, Verifier] = {}
    closers: list[Callable[[], Awaitable[None]]] = []
    for one in config.rail_list():
        settings = RailSettings(
            name=one.name,
            base_url=one.base_url,
            secret_key=one.secret_key,
            webhook_secret=one.webhook_secret,
            backup_url=one.backup_url,
            cost_bp=one.cost_bp,
            timeout_s=one.timeout_ms / 1000,
            concurrency_max=one.concurrency_max,
        )
        http = HttpClient(allow_private=True, connections_max=one.concurrency_max)
        rail = _ADAPTERS[one.kind](settings, http, clock)
        rails[one.name] = rail
        verifiers[one.name] = rail.read_event
        closers.append(http.close)
    return rails, verifiers, closers


_ADAPTERS: Final = {"stripe": StripeRail, "bank": BankRail}
