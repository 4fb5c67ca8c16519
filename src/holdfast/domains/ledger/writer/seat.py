"""One process's seat at the ledger: it writes when it is elected, and forwards to who writes when it is not.

Every process that posts has one. A few times a second it looks at `ledger.writer`: whoever finds no writer
alive takes its place under the next epoch, ends the sessions of the one before, reads the ledger into memory
and tells the others where it answers. A writer that hangs, or is cut off, cannot commit any more from then
on: the head names another epoch.

A caller waits through a change of writers, up to a deadline, as long as nothing of it was sent. It ends with
an answer, or `WriterAway` or another `Unavailable` (nothing has moved), or `CommitUnknown` (ask by id).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import psycopg

from holdfast.base.clock import Clock, SystemClock
from holdfast.base.errors import HoldfastError
from holdfast.base.ids import AccountId
from holdfast.base.limits import (
    BATCH_TRANSFERS_MAX,
    LEDGER_DEADLINE_S,
    LINKED_TRANSFERS_MAX,
    WRITER_LEASE_S,
    WRITER_RENEW_S,
)
from holdfast.base.tasks import is_cancelled
from holdfast.domains.ledger.checks import check_transfer
from holdfast.domains.ledger.errors import ChainTooLong, CommitUnknown, WriterAway
from holdfast.domains.ledger.forward.calls import Door, Forwarder, Reception
from holdfast.domains.ledger.model import (
    Balance,
    Group,
    NewAccount,
    Newest,
    Posting,
    Unit,
    UnitOutcome,
)
from holdfast.domains.ledger.rules.columns import ColumnOutcomes, Columns
from holdfast.domains.ledger.store import loading, seats
from holdfast.domains.ledger.writer import figures
from holdfast.domains.ledger.writer.behind import Behind
from holdfast.domains.ledger.writer.commit import Committer
from holdfast.domains.ledger.writer.door import WritersDoor
from holdfast.domains.ledger.writer.lane import Lane
from holdfast.platform import metrics
from holdfast.platform.db import Connection, Database
from holdfast.platform.log import logger

_log: Final = logger(__name__)
_SESSION: Final = "holdfast ledger seat"
_REMEMBERED_S: Final = 0.5
"""How long the writer's memory is waited for; the tables say the same."""
_SILENCE_S: Final = 30.0
"""How long nothing is logged of a seat that still waits."""
_SOCKET_PATH_BYTES_MAX: Final = 100
"""Longest path of a socket that every system takes."""
T = TypeVar("T")


async def _in_time(work: Awaitable[None], left_s: float) -> None:
    """Raises: `CommitUnknown` when it takes longer; it goes on, and to ask for the same again is harmless."""
    try:
        async with asyncio.timeout(left_s):
            await work
    except TimeoutError:
        raise CommitUnknown from None


class Seat:
    """The `CommitLane` of one process, and its way to accounts.

    `listen` is where it answers the others when it writes (`unix:/path`, `tcp:host:port`); without it, at a
    socket in `folder`, or in a folder of its own. For `patience_s` it leaves an empty seat to others. It
    opens by itself when first used; `close` lets go of it.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock | None = None,
        *,
        listen: str = "",
        folder: Path | None = None,
        patience_s: float = 0.0,
        batch_transfers_max: int = BATCH_TRANSFERS_MAX,
    ) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self._listen = listen
        self._folder = folder
        self._patience_s = patience_s
        self._empty_since: float | None = None
        self._silent_until = 0.0
        self._closed = False
        self._own_folder: tempfile.TemporaryDirectory[str] | None = None
        self._batch_transfers_max = batch_transfers_max
        self._door: Door | None = None
        self._epoch = 0
        self._sure_until = 0.0
        """Until when no other can have become the writer, by the event loop's clock."""
        self._followed = 0
        self._reception: Reception | None = None
        self._token = b""
        self._behind: Behind | None = None
        self._forwarder: Forwarder | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def lane(self) -> Lane | None:
        """The lane, if this process is the writer."""
        return self._door.lane if isinstance(self._door, WritersDoor) else None

    @property
    def epoch(self) -> int:
        """The epoch that this process writes under; 0 when it does not write."""
        return self._epoch

    def open(self) -> None:
        """Begin to look after the seat, without waiting for the first use. In a running event loop."""
        if self._task is None and not self._closed:
            figures.show(lambda: self.lane, lambda: self._epoch or self._followed)
            self._task = asyncio.get_running_loop().create_task(self._keep())

    async def submit(self, unit: Unit, deadline_s: float = LEDGER_DEADLINE_S) -> UnitOutcome:
        """Commit `unit` and return what became of it, after the durable commit.

        Raises: `Unavailable`, `OutcomeUnknown`, `WriteRejected`, `TransferInvalid`, `ChainTooLong`.
        """
        transfers = unit.transfers
        if len(transfers) > LINKED_TRANSFERS_MAX:
            raise ChainTooLong(f"A unit has at most {LINKED_TRANSFERS_MAX} transfers.")
        for t in transfers:
            check_transfer(t)
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline_s
        if self._door is not None:
            with contextlib.suppress(WriterAway):
                return await self._door.submit(unit, deadline_s)
        return await self._ask(lambda door, left_s: door.submit(unit, left_s), until - loop.time())

    async def post(self, groups: Sequence[Group], deadline_s: float = LEDGER_DEADLINE_S) -> list[Posting]:
        """Post chains of transfers in one durable commit; an answer for each. Raises: as `submit`."""
        return await self._ask(lambda door, left_s: door.post(groups, left_s), deadline_s)

    async def post_columns(self, columns: Columns, deadline_s: float = LEDGER_DEADLINE_S) -> ColumnOutcomes:
        """Post plain transfers, given as arrays, in one durable commit. Raises: as `submit`.

        In another process than the writer's they cross to it as objects.
        """

        async def ask(door: Door, left_s: float) -> ColumnOutcomes:
            if isinstance(door, WritersDoor):
                return await door.lane.post_columns(columns, left_s)
            return ColumnOutcomes.of(await door.post(columns.groups(), left_s))

        return await self._ask(ask, deadline_s)

    async def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Open accounts. Raises: `AccountExists`, `Unavailable`."""
        await self._change(lambda door: door.open_accounts(accounts))

    async def close_accounts(self, numbers: Sequence[AccountId], *, closed: bool) -> None:
        """Close or reopen accounts. Raises: `AccountMissing`, `Unavailable`."""
        await self._change(lambda door: door.close_accounts(numbers, closed))

    async def set_limits(self, limits: Mapping[AccountId, int]) -> None:
        """Set credit limits. Raises: `AccountMissing`, `Unavailable`."""
        await self._change(lambda door: door.set_limits(limits))

    async def expire_due(self, limit: int) -> int:
        """Release, or settle, up to `limit` holds whose time is over, and return how many.

        Raises: `Unavailable`.
        """
        return await self._ask(lambda door, _: door.expire_due(limit), LEDGER_DEADLINE_S)

    async def balances(self, numbers: Sequence[AccountId]) -> dict[AccountId, Balance] | None:
        """Return committed balances from the writer's memory; None when it cannot be asked now."""
        return await self._remembered(lambda door: door.balances(numbers))

    async def newest(self, account: AccountId, below: int, limit: int) -> Newest | None:
        """Return what the writer remembers of an account; None when it cannot be asked now."""
        return await self._remembered(lambda door: door.newest(account, below, limit))

    async def _remembered(self, what: Callable[[Door], Awaitable[T]]) -> T | None:
        if self._door is None:
            return None
        try:
            async with asyncio.timeout(_REMEMBERED_S):
                return await what(self._door)
        except (HoldfastError, TimeoutError):
            return None

    async def _change(self, what: Callable[[Door], Awaitable[None]]) -> None:
        await self._ask(lambda door, left_s: _in_time(what(door), left_s), LEDGER_DEADLINE_S)

    async def _ask(self, what: Callable[[Door, float], Awaitable[T]], deadline_s: float) -> T:
        """Ask whoever writes; as long as nothing was sent, wait for the next writer."""
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline_s
        self.open()
        while True:
            if self._closed:
                raise WriterAway
            door = self._door
            if door is not None:
                try:
                    return await what(door, until - loop.time())
                except WriterAway:
                    if loop.time() >= until:
                        raise
            if self._door is door:
                await self._wait_for_another(door, until - loop.time())

    async def _wait_for_another(self, door: Door | None, left_s: float) -> None:
        """Raises: `WriterAway` when the time is over."""
        self._hurry.set()
        try:
            async with asyncio.timeout(left_s):
                while self._door is door and not self._closed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise WriterAway from None

    async def close(self) -> None:
        """Commit what is waiting, and leave the seat to another, for good: who still waits is told so."""
        self._closed = True
        self._changed.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._drop()
        if self._own_folder is not None:
            self._own_folder.cleanup()

    def _enter(self, door: Door | None) -> None:
        self._door = door
        self._changed.set()

    async def _keep(self) -> None:
        """Look after the seat until cancelled."""
        connection: Connection | None = None
        try:
            while True:
                try:
                    if connection is None or connection.closed:
                        connection = await self._database.dedicated(_SESSION, "-c synchronous_commit=off")
                    await self._round(connection)
                    self._silent_until = 0.0
                except (psycopg.Error, HoldfastError, OSError) as error:
                    if is_cancelled():
                        raise asyncio.CancelledError from error
                    self._say_that_it_waits(error)
                self._hurry.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WRITER_RENEW_S):
                        await self._hurried()
        finally:
            if connection is not None:
                if self._epoch and not connection.closed:
                    await self._leave(connection)
                await connection.close()

    def _say_that_it_waits(self, error: BaseException) -> None:
        """Log it when it begins, and now and then while it goes on."""
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            self._silent_until = now + _SILENCE_S
            _log.warning("the ledger's seat waits", why=str(error))

    async def _hurried(self) -> None:
        """Wait until somebody waits for a door, or the lane has ended."""
        lane = self.lane
        waits = [asyncio.ensure_future(self._hurry.wait())]
        if lane is not None:
            waits.append(asyncio.ensure_future(lane.ended.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _round(self, connection: Connection) -> None:
        lane = self.lane
        if lane is not None:
            if not lane.ended.is_set() and await self._renew(connection, self._epoch):
                if self._reception is None:
                    await self._let_others_in(connection)
                return
            _log.warning("this process does not write the ledger any more", epoch=self._epoch)
            await self._leave(connection)
        holder = await seats.look(connection)
        if not holder.alive:
            now = asyncio.get_running_loop().time()
            self._empty_since = self._empty_since or now
            if now - self._empty_since >= self._patience_s:
                await self._take(connection)
            return
        self._empty_since = None
        if self._forwarder is None or self._forwarder.lost or holder.epoch != self._followed:
            await self._follow(holder)

    async def _take(self, connection: Connection) -> None:
        """Try to become the writer: read the ledger into memory, then let others in."""
        token = secrets.token_bytes(32)
        holder = f"{socket.gethostname()}:{os.getpid()}"
        before = asyncio.get_running_loop().time()
        epoch = await seats.take(connection, holder, token)
        if epoch is None:
            return
        await self._drop()
        self._epoch, self._sure_until = epoch, before + WRITER_LEASE_S
        renewing = asyncio.get_running_loop().create_task(self._renew_while_reading(connection, epoch))
        try:
            lane = await self._read(epoch)
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])  # which lets a cancellation of this task through
        self._token = token
        self._enter(WritersDoor(lane, self._clock, self._sure))
        metrics.LEDGER_ELECTIONS.inc()
        _log.info("this process writes the ledger", epoch=epoch, transfers_to=lane.committer.head.seq)
        await self._let_others_in(connection)

    async def _let_others_in(self, connection: Connection) -> None:
        """Answer other processes. When that fails, it is tried again with the next round."""
        if isinstance(self._door, WritersDoor):
            reception = Reception(self._door, self._token, listen=self._address(self._epoch))
            try:
                await seats.announce(connection, self._epoch, await reception.start())
            except BaseException:
                await reception.close()  # or it would listen where the next one must
                raise
            self._reception = reception

    async def _renew_while_reading(self, connection: Connection, epoch: int) -> None:
        while True:
            await asyncio.sleep(WRITER_RENEW_S)
            await self._renew(connection, epoch)

    async def _renew(self, connection: Connection, epoch: int) -> bool:
        """Say that this process lives; False when another has taken its place."""
        before = asyncio.get_running_loop().time()
        renewed = await seats.renew(connection, epoch)
        self._sure_until = before + WRITER_LEASE_S if renewed else 0.0
        return renewed

    def _sure(self) -> bool:
        return asyncio.get_running_loop().time() < self._sure_until

    async def _read(self, epoch: int) -> Lane:
        async def connect() -> Connection:
            return await self._database.dedicated(seats.session_name(epoch))

        connection = await connect()
        try:
            book, head, unsaved = await loading.load(connection)
            if head.epoch != epoch:
                raise WriterAway  # noqa: TRY301 - another took the seat while this process hung
            self._behind = Behind(connect, self._clock, unsaved)
            await self._behind.open(head, book)
        except BaseException:
            await connection.close()
            raise
        committer = Committer(connect, connection, book, head, self._behind)
        lane = Lane(committer, self._clock, batch_transfers_max=self._batch_transfers_max)
        self._behind.attach(lane.still)
        return lane

    async def _follow(self, holder: seats.Holder) -> None:
        """Forward to another process."""
        await self._drop()
        if holder.address:
            forwarder = Forwarder(holder.address, holder.token)
            await forwarder.connect()
            self._forwarder, self._followed = forwarder, holder.epoch
            self._enter(forwarder)

    async def _leave(self, connection: Connection) -> None:
        """Let another write: finish what is under way first."""
        epoch = self._epoch
        await self._drop()
        with contextlib.suppress(psycopg.Error):
            await seats.leave(connection, epoch)

    async def _drop(self) -> None:
        """Let go of whatever this seat is: writer or forwarder."""
        door, self._door = self._door, None
        self._epoch = self._followed = 0
        if isinstance(door, WritersDoor):
            await door.lane.close()
        if self._reception is not None:
            await self._reception.close()
            self._reception = None
        if self._behind is not None:
            await self._behind.close()
            self._behind = None
        if self._forwarder is not None:
            await self._forwarder.close()
            self._forwarder = None

    def _address(self, epoch: int) -> str:
        if self._listen:
            return self._listen
        name = f"ledger-{os.getpid()}-{epoch}.sock"
        if self._folder is not None:
            path = self._folder / name
            if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
                return f"unix:{path}"
        if self._own_folder is None:
            self._own_folder = tempfile.TemporaryDirectory(prefix="holdfast-ledger-")
        return f"unix:{self._own_folder.name}/{name}"
