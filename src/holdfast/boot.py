"""Wiring: the only place where everything meets."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import SystemRandom
from typing import Any, Final

from holdfast.adapters.rails.bank import BankRail
from holdfast.adapters.rails.book import BookRail
from holdfast.adapters.rails.stripe import StripeRail
from holdfast.adapters.rails.wire import RailSettings
from holdfast.base.clock import Clock, SystemClock
from holdfast.base.ids import IdSource, PaymentId, public
from holdfast.base.limits import LEASE_MARGIN_S
from holdfast.domains.instruments import Instrument, Instruments
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.merchants import Merchants
from holdfast.domains.payments.model import Attempt, Payment
from holdfast.domains.payments.ports import Rail, RailEvent
from holdfast.domains.payments.rules.cascade import BALANCE_RAIL
from holdfast.domains.payments.rules.routing import Router, RoutingSettings
from holdfast.domains.payments.store import PostgresBook
from holdfast.domains.webhooks import store as webhook_store
from holdfast.flows import chart
from holdfast.flows.desk import Desk, PaySettings
from holdfast.platform import metrics
from holdfast.platform.config import Config
from holdfast.platform.db import Database
from holdfast.platform.http import HttpClient
from holdfast.platform.log import logger
from holdfast.platform.postgres import database_dsn

_log: Final = logger(__name__)

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
    lane: Seat
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

    async def untried(self, payment: Payment, attempts: Sequence[Attempt]) -> tuple[Instrument, ...]:
        """Return the payer's instruments that `payment`, with its `attempts`, has not tried.

        In the payer's order.
        """
        if payment.asked.payer_id is None:
            return ()
        tried = {attempt.method.instrument_id for attempt in attempts}
        wallet = await self.instruments.wallet(payment.asked.payer_id)
        return tuple(one for one in wallet.instruments if one.id not in tried)

    async def close(self) -> None:
        """Let go of connections; what is under way has been journaled and goes on elsewhere."""
        for closer in self.closers:
            await closer()
        await self.lane.close()
        await self.database.close()


async def open_app(config: Config, *, clock: Clock | None = None, patience_s: float = 0.0) -> App:
    """Open everything for one process. The database must be there and migrated.

    `patience_s`: for so long it leaves an empty seat at the ledger to processes that need it more.

    Raises: `NoDatabase`, `DatabaseUnavailable`.
    """
    dsn = database_dsn(config.dsn.reveal() if config.dsn else None, config.data_dir)
    time = clock or SystemClock()
    database = Database(dsn, connections_max=config.database_connections_max)
    await database.open()
    lane = Seat(
        database, time, listen=config.ledger_listen, folder=config.data_dir / "ledger", patience_s=patience_s
    )
    lane.open()
    ledger = PostgresLedger(database, lane)
    rails, verifiers, closers = open_rails(config, time)
    rails[BALANCE_RAIL] = BookRail(ledger, payer=chart.payer, clearing=chart.rail)
    book = PostgresBook(database)
    router = Router(RoutingSettings(), SystemRandom(), [rail.traits for rail in rails.values()])
    entropy = Entropy()
    ids = IdSource(time.now_ms if isinstance(time, SystemClock) else _now_ms(time), entropy)
    desk = Desk(time, ids, lane, ledger, book, rails, router, _settings(rails), alert=_alert)
    return App(
        config=config,
        clock=time,
        ids=ids,
        entropy=entropy,
        database=database,
        lane=lane,
        ledger=ledger,
        book=book,
        merchants=Merchants(database, time.monotonic_s, entropy),
        instruments=Instruments(database, time.monotonic_s),
        desk=desk,
        router=router,
        rails=rails,
        rail_verifiers=verifiers,
        closers=tuple(closers),
    )


def _alert(what: str, payment: PaymentId, why: str) -> None:
    metrics.ALERTS.labels(what).inc()
    _log.warning("a person should look at it", what=what, payment=public("pay", payment), why=why)


def _settings(rails: Mapping[str, Rail]) -> PaySettings:
    """Return how payments are carried out. A driver that died is waited for as long as a call can take."""
    longest_s = max((rail.traits.timeout_s for rail in rails.values()), default=0.0)
    return PaySettings(lease_s=longest_s + LEASE_MARGIN_S)


def _now_ms(clock: Clock) -> Callable[[], int]:
    return lambda: int(clock.now().timestamp() * 1000)


KNOWN_BESIDES: Final = (webhook_store,)
"""Stores whose rows the ledger's writer commits for other processes, though this one may not use them."""


class Entropy:
    """Random bytes from the operating system, fetched a block at a time: a payment needs three dozen of them.

    Make one per process, after any fork: a copied block would be used twice.
    """

    _BLOCK_BYTES: Final = 4096

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def __call__(self, count: int) -> bytes:
        """Return `count` bytes that were not given out before."""
        end = self._at + count
        if end > len(self._block):
            self._block = os.urandom(max(self._BLOCK_BYTES, count))
            self._at, end = 0, count
        given = self._block[self._at : end]
        self._at = end
        return given


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
            live=one.live,
        )
        http = HttpClient(allow_private=True, connections_max=one.concurrency_max)
        rail = _ADAPTERS[one.kind](settings, http, clock)
        rails[one.name] = rail
        verifiers[one.name] = rail.read_event
        closers.append(http.close)
    return rails, verifiers, closers


_ADAPTERS: Final = {"stripe": StripeRail, "bank": BankRail}
