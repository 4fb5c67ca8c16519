"""Forwarding: a process that does not write the ledger hands its units to the one that does.

    Forwarder   in any process: a `Door` whose calls cross to the writer over one connection
    Reception   in the writer's process: lets in who knows the token, and passes calls on to the real `Door`

Many calls share the connection, in both directions; all that are made in one turn of the loop are sent in one
write. A call that was not sent has moved nothing (`WriterAway`, `LaneFull`); one that was sent and not
answered, because the connection broke or its deadline passed, is `CommitUnknown`. Calls of one connection
reach the door in the order in which they were made.

The connection is proven at both ends (`greeting`), but neither encrypted nor signed after that: it is
a socket in a folder of ours, or a network that nobody else is on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

from holdfast.base.errors import Broken, HoldfastError
from holdfast.base.ids import AccountId
from holdfast.base.limits import (
    BATCH_TRANSFERS_MAX,
    FORWARD_ACCOUNTS_MAX,
    FORWARD_BYTES_MAX,
    FORWARD_CALLS_MAX,
    FORWARD_CLOSE_S,
    FORWARD_CONNECTIONS_MAX,
    FORWARD_GREETING_S,
    FORWARD_STRANGERS_MAX,
    LEDGER_DEADLINE_S,
    LINKED_TRANSFERS_MAX,
)
from holdfast.domains.ledger.checks import check_account, check_limit, check_transfer
from holdfast.domains.ledger.errors import BatchTooLarge, ChainTooLong, CommitUnknown, LaneFull, WriterAway
from holdfast.domains.ledger.forward import wire
from holdfast.domains.ledger.forward.greeting import (
    REPLY_BYTES,
    Stranger,
    WritersGreeting,
    check_token,
)
from holdfast.domains.ledger.forward.line import (
    End,
    Line,
    listening_socket,
    read_answer,
    remove_socket,
    tcp_address,
    unix_path,
    watch,
)
from holdfast.domains.ledger.forward.wire import Agreed, Frames, Kind
from holdfast.domains.ledger.model import Balance, Group, NewAccount, Newest, Posting, Unit, UnitOutcome
from holdfast.platform import metrics
from holdfast.platform.log import logger
from holdfast.platform.unit import statements_known

_log = logger(__name__)
_LOG_PAUSE_S: Final = 1.0


class Door(Protocol):
    """What the writer of the ledger offers. Deadlines are seconds from the call on."""

    async def submit(self, unit: Unit, deadline_s: float) -> UnitOutcome:
        """Commit a unit and return what became of it, after the durable commit."""
        ...

    async def post(self, groups: Sequence[Group], deadline_s: float) -> list[Posting]:
        """Post chains of transfers in order, in one durable commit; an answer for each transfer."""
        ...

    async def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Open accounts; opening one again with the same content does nothing."""
        ...

    async def close_accounts(self, numbers: Sequence[AccountId], closed: bool) -> None:
        """Close accounts, or open them again."""
        ...

    async def set_limits(self, limits: Mapping[AccountId, int]) -> None:
        """Set by how much the rules of accounts may be exceeded, minor units."""
        ...

    async def expire_due(self, limit: int) -> int:
        """Release up to `limit` holds whose time is over, and return how many."""
        ...

    async def balances(self, numbers: Sequence[AccountId]) -> dict[AccountId, Balance]:
        """Return committed balances; an account that does not exist is left out."""
        ...

    async def newest(self, account: AccountId, below: int, limit: int) -> Newest:
        """Return what is remembered of an account: up to `limit` transfers, numbered less than `below`."""
        ...


class _Guest(End):
    """The writer's end of one connection."""

    def __init__(self, reception: Reception, token: bytes) -> None:
        super().__init__()
        self._reception = reception
        self._greeting = WritersGreeting(token)
        self._timer = self._loop.call_later(FORWARD_GREETING_S, self.give_up, "no proof in time")
        self._bytes = 0
        self._reading = True
        self.under_way: dict[int, asyncio.Task[None]] = {}
        self._answered_goodbye = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the challenge, if there is room for another."""
        super().connection_made(transport)
        if self._transport is not None and self._reception.arrived(self):
            self._transport.write(self._greeting.challenge)
        else:
            self.give_up("too many connections")

    def connection_lost(self, _: Exception | None) -> None:
        """Leave; calls under way go on without anybody to answer to."""
        super().connection_lost(_)
        self._answered_goodbye.set()
        self._timer.cancel()
        self._reception.left(self)

    def greet(self, data: bytes) -> bytes:
        """Let the caller in if it knows the token. Raises: `Stranger`."""
        self._before += data[: REPLY_BYTES + 1]
        if len(self._before) > REPLY_BYTES:
            raise Stranger("it says more than its proof")
        if len(self._before) == REPLY_BYTES and self._transport is not None:
            proof = self._greeting.answer(self._before)
            known = wire.frame(0, Kind.STATEMENTS, wire.write_statements(statements_known()))
            self._transport.write(proof + known)
            self._frames = Frames()
            self._timer.cancel()
            self._reception.proven(self)
        return b""

    def give_up(self, reason: str) -> None:
        """Turn the caller away."""
        self._reception.turned_away(reason)
        self.abort()

    def take(self, number: int, kind: int, left_ms: int, body: bytes) -> None:
        """Begin a call. Raises: `Stranger`."""
        if kind == Kind.GOODBYE:
            self._answered_goodbye.set()
            return
        if number in self.under_way:
            raise Stranger("the number of a call stands twice")
        if len(self.under_way) >= FORWARD_CALLS_MAX:
            self.put(number, wire.frame(number, Kind.FAILED, wire.encode_error(LaneFull())))
        else:
            self._bytes += len(body)
            self.under_way[number] = self._loop.create_task(self._serve(number, kind, left_ms, body))
            if self._bytes > FORWARD_BYTES_MAX:
                self._regulate()

    async def _serve(self, number: int, kind: int, left_ms: int, body: bytes) -> None:
        """Carry out a call and answer it."""
        answered = Kind.FAILED
        try:
            answer = await self._reception.pass_on(kind, body, left_ms / 1000)
            answered = Kind.DONE
        except HoldfastError as error:
            answer = wire.encode_error(error)
        except asyncio.CancelledError:  # the writer closes, and nobody knows how far the call came
            answer = wire.encode_error(CommitUnknown())
        except Exception:  # noqa: BLE001 - its caller gets it, as far as it may
            _log.exception("a forwarded call failed", call=kind)
            answer = wire.encode_error(
                Broken("Something is wrong in the ledger's writer; its log says what.")
            )
        del self.under_way[number]
        self._bytes -= len(body)
        if self._transport is not None:
            self.put(number, wire.frame(number, answered, answer))
            if not self._reading:
                self._regulate()

    async def say_goodbye(self, within_s: float) -> None:
        """Have the caller send nothing more, and read what it has sent."""
        self.put(0, wire.frame(0, Kind.GOODBYE, b""))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._answered_goodbye.wait(), within_s)

    def pause_writing(self) -> None:
        """Read no more from who does not read."""
        super().pause_writing()
        self._regulate()

    def resume_writing(self) -> None:
        """Read again."""
        super().resume_writing()
        self._regulate()

    def _regulate(self) -> None:
        """Read on, or not, by how much is held for this caller."""
        reading = not self._held and self._bytes <= FORWARD_BYTES_MAX
        if reading != self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = reading
            (self._transport.resume_reading if reading else self._transport.pause_reading)()


class Reception:
    """The writer's reception: hands the calls of other processes to `door`.

    `listen` is `unix:/path` (in a folder of ours that is closed to others; it is made when there is none) or
    `tcp:host:port` (port 0: any). `token`: 16 random bytes or more, known to writer and callers alone.
    """

    def __init__(self, door: Door, token: bytes, *, listen: str) -> None:
        check_token(token)
        self._door = door
        self._token = token
        self._listen = listen
        self._server: asyncio.Server | None = None
        self._path: tuple[Path, int] | None = None
        self._guests: set[_Guest] = set()
        self._strangers: set[_Guest] = set()
        self._closing = False
        self._log_from = 0.0
        self.refused = 0
        """Connections turned away so far."""

    async def start(self) -> str:
        """Listen, and return the address to advertise. Raises: `Broken` when the address cannot be used."""
        loop = asyncio.get_running_loop()
        try:
            if path := unix_path(self._listen):
                listening = listening_socket(path)
                self._path = path, path.stat().st_ino
                self._server = await loop.create_unix_server(self._guest, sock=listening)
                return self._listen
            host, port = tcp_address(self._listen)
            self._server = await loop.create_server(self._guest, host, port)
        except OSError as error:
            raise Broken(f"the ledger's writer cannot listen at {self._listen}: {error}") from error
        for each in self._server.sockets:
            watch(each)
        return f"tcp:{host}:{self._server.sockets[0].getsockname()[1]}"

    def _guest(self) -> _Guest:
        return _Guest(self, self._token)

    async def close(self) -> None:
        """Stop listening, give calls under way `FORWARD_CLOSE_S` to end, answer the rest, and close.

        New calls are answered by `WriterAway`, those that did not end by `CommitUnknown`.
        """
        self._closing = True
        if self._server is not None:
            self._server.close()
        if self._path is not None:
            remove_socket(*self._path)
        for stranger in tuple(self._strangers):
            stranger.abort()
        await asyncio.gather(*(guest.say_goodbye(FORWARD_CLOSE_S) for guest in tuple(self._guests)))
        calls = [call for guest in self._guests for call in guest.under_way.values()]
        if calls:
            _, late = await asyncio.wait(calls, timeout=FORWARD_CLOSE_S)
            for call in late:
                call.cancel()
            if late:
                await asyncio.wait(late, timeout=FORWARD_CLOSE_S)
        await asyncio.gather(*(guest.end(within_s=FORWARD_CLOSE_S) for guest in tuple(self._guests)))

    async def pass_on(self, kind: int, body: bytes, left_s: float) -> bytes:
        """Decode and check a call, have the door carry it out, and encode the answer.

        Raises: `Broken`, `TransferInvalid`, `MetadataTooLarge`, `AccountInvalid`, and as the door does.
        """
        if self._closing:
            raise WriterAway
        if kind == Kind.SUBMIT:
            unit = wire.read_unit(body)
            for t in unit.transfers:
                check_transfer(t)
            return wire.encode_outcome(await self._door.submit(unit, left_s))
        if kind == Kind.POST:
            groups = wire.read_groups(body)
            for t in chain.from_iterable(group.transfers for group in groups):
                check_transfer(t)
            return wire.encode_postings(await self._door.post(groups, left_s))
        if kind == Kind.EXPIRE_DUE:
            return wire.encode(await self._door.expire_due(wire.read_count(body)))
        if kind == Kind.BALANCES:
            return wire.encode_balances(await self._door.balances(wire.read_numbers(body)))
        if kind == Kind.NEWEST:
            return wire.encode_newest(await self._door.newest(*wire.read_wanted(body)))
        await self._pass_on_accounts(kind, body)
        return wire.encode(None)

    async def _pass_on_accounts(self, kind: int, body: bytes) -> None:
        if kind == Kind.OPEN_ACCOUNTS:
            accounts = wire.read_accounts(body)
            for account in accounts:
                check_account(account)
            await self._door.open_accounts(accounts)
        elif kind == Kind.CLOSE_ACCOUNTS:
            await self._door.close_accounts(*wire.read_closing(body))
        elif kind == Kind.SET_LIMITS:
            limits = wire.read_limits(body)
            for limit_minor in limits.values():
                check_limit(limit_minor)
            await self._door.set_limits(limits)
        else:
            raise Broken(f"the ledger's writer knows no call of kind {kind}")

    def arrived(self, guest: _Guest) -> bool:
        """Take in a connection; False when there are too many."""
        strangers = len(self._strangers)
        if (
            self._closing
            or strangers >= FORWARD_STRANGERS_MAX
            or len(self._guests) >= FORWARD_CONNECTIONS_MAX
        ):
            return False
        self._strangers.add(guest)
        return True

    def proven(self, guest: _Guest) -> None:
        """Note that a connection is a caller's."""
        self._strangers.discard(guest)
        self._guests.add(guest)

    def left(self, guest: _Guest) -> None:
        """Note that a connection is gone."""
        self._strangers.discard(guest)
        self._guests.discard(guest)

    def turned_away(self, reason: str) -> None:
        """Count a connection that is turned away; of many in one second the log names the first."""
        self.refused += 1
        metrics.LEDGER_STRANGERS.add()
        now = asyncio.get_running_loop().time()
        if now >= self._log_from:
            self._log_from = now + _LOG_PAUSE_S
            _log.warning(
                "a connection to the ledger's writer was turned away", reason=reason, so_far=self.refused
            )


class Forwarder:
    """The `Door` in a process that does not write the ledger: its calls cross to the writer at `address`.

    Every call raises what the reception and the door there raise, and `WriterAway` or `LaneFull` when it was
    not sent (nothing has moved), `CommitUnknown` when it was sent and not answered (ask by id). When it is
    `lost` it stays so: make a new one.
    """

    def __init__(self, address: str, token: bytes) -> None:
        check_token(token)
        self._address = address
        self._token = token
        self._line: Line | None = None
        self._agreed: Agreed | None = None

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self._line is not None and self._line.lost

    async def connect(self) -> None:
        """Connect, and see that both ends know the token and run the same version. Raises: `WriterAway`."""
        line = Line(self._token)
        try:
            async with asyncio.timeout(FORWARD_GREETING_S):
                await self._open(line)
                self._agreed = await line.agreed
        except (OSError, TimeoutError, Broken) as error:
            line.abort()
            raise WriterAway from error
        except BaseException:
            line.abort()
            raise
        self._line = line

    async def _open(self, line: Line) -> None:
        loop = asyncio.get_running_loop()
        if path := unix_path(self._address):
            await loop.create_unix_connection(lambda: line, str(path))
        else:
            transport, _ = await loop.create_connection(lambda: line, *tcp_address(self._address))
            watch(transport.get_extra_info("socket"))

    async def close(self) -> None:
        """Wait up to `FORWARD_CLOSE_S` for the answers to calls under way, and close the connection.

        Who still waits then is told that it was not sent, or that nobody knows.
        """
        if self._line is not None:
            await self._line.finish(within_s=FORWARD_CLOSE_S)
            await self._line.end(within_s=FORWARD_CLOSE_S)

    async def submit(self, unit: Unit, deadline_s: float) -> UnitOutcome:
        """Have the writer commit a unit.

        Raises also: `TransferInvalid`, `MetadataTooLarge`, `ChainTooLong`, and `Broken` when a row does not
        fit its statement.
        """
        if len(unit.transfers) > LINKED_TRANSFERS_MAX:
            raise ChainTooLong
        line, agreed = self._connected()
        return read_answer(
            wire.read_outcome, await line.call(Kind.SUBMIT, agreed.encode_unit(unit), deadline_s)
        )

    async def post(self, groups: Sequence[Group], deadline_s: float) -> list[Posting]:
        """Have the writer post chains. Raises also: as `submit`, `BatchTooLarge`."""
        if sum(len(group.transfers) for group in groups) > BATCH_TRANSFERS_MAX:
            raise BatchTooLarge
        body = wire.encode_groups(groups)
        return read_answer(wire.read_postings, await self._connected()[0].call(Kind.POST, body, deadline_s))

    async def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Have the writer open accounts. Raises also: `AccountExists`, `AccountInvalid`, `BatchTooLarge`."""
        await self._tell(Kind.OPEN_ACCOUNTS, len(accounts), wire.encode_accounts(accounts))

    async def close_accounts(self, numbers: Sequence[AccountId], closed: bool) -> None:
        """Have the writer close accounts, or open them again. Raises also: `AccountMissing`."""
        await self._tell(Kind.CLOSE_ACCOUNTS, len(numbers), wire.encode((list(numbers), closed)))

    async def set_limits(self, limits: Mapping[AccountId, int]) -> None:
        """Have the writer set credit limits, minor units. Raises also: `AccountMissing`."""
        await self._tell(Kind.SET_LIMITS, len(limits), wire.encode(dict(limits)))

    async def expire_due(self, limit: int) -> int:
        """Have the writer release up to `limit` holds whose time is over, and return how many."""
        line, _ = self._connected()
        answer = await line.call(Kind.EXPIRE_DUE, wire.encode(limit), LEDGER_DEADLINE_S)
        return read_answer(wire.read_count, answer)

    async def balances(self, numbers: Sequence[AccountId]) -> dict[AccountId, Balance]:
        """Have the writer tell balances. Raises also: `BatchTooLarge`."""
        if len(numbers) > FORWARD_ACCOUNTS_MAX:
            raise BatchTooLarge
        line, _ = self._connected()
        answer = await line.call(Kind.BALANCES, wire.encode(list(numbers)), LEDGER_DEADLINE_S)
        return read_answer(wire.read_balances, answer)

    async def newest(self, account: AccountId, below: int, limit: int) -> Newest:
        """Have the writer tell what it remembers of an account. Raises also: `AccountMissing`."""
        line, _ = self._connected()
        answer = await line.call(Kind.NEWEST, wire.encode((account, below, limit)), LEDGER_DEADLINE_S)
        return read_answer(wire.read_newest, answer)

    async def _tell(self, kind: Kind, count: int, body: bytes) -> None:
        if count > FORWARD_ACCOUNTS_MAX:
            raise BatchTooLarge(f"At most {FORWARD_ACCOUNTS_MAX} accounts are sent to the writer at a time.")
        line, _ = self._connected()
        read_answer(wire.read_nothing, await line.call(kind, body, LEDGER_DEADLINE_S))

    def _connected(self) -> tuple[Line, Agreed]:
        if self._line is None or self._agreed is None:
            raise WriterAway
        return self._line, self._agreed
