"""A door that a test looks behind, and peers that speak the forwarding protocol by hand."""

from __future__ import annotations

import asyncio
import hmac
import os
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from holdfast.base.ids import AccountId, TransferId
from holdfast.domains.ledger.forward import wire
from holdfast.domains.ledger.forward.calls import Forwarder, Reception
from holdfast.domains.ledger.forward.greeting import PROTOCOL, WritersGreeting
from holdfast.domains.ledger.model import (
    Balance,
    Group,
    NewAccount,
    Newest,
    NewTransfer,
    Outcome,
    Posting,
    Unit,
    UnitOutcome,
)
from holdfast.platform import arrays
from holdfast.platform.unit import Guard, Statement, Write, statements_known
from tests.support.waiting import until_async

TOKEN = bytes(range(32))
NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
KINDS: tuple[str, ...] = (
    "uuid", "text", "int8", "int4", "int2", "bool", "timestamptz", "bytea", "jsonb", "float8",
)  # fmt: skip
WIDE = Statement("forward.wide", "select %b" + ", %b" * (len(KINDS) - 1), KINDS)
HOLDS = Statement("forward.holds", "select %b, %b", ("uuid", "bigint"), sure="select 1")
HEADER = struct.Struct("!IQBI")


def transfer(number: int = 1, **more: Any) -> NewTransfer:
    plain = {"debit": AccountId(1001), "credit": AccountId(2002), "asset": "CNY", "amount_minor": 100}
    fields: dict[str, Any] = plain | more
    return NewTransfer(TransferId(UUID(int=number)), **fields)


def row(number: int = 1) -> tuple[object, ...]:
    return (UUID(int=number), "午餐", -5, 7, 3, True, NOW, b"\x00\xff", {"a": [1, None]}, 1.5)


def unit(number: int = 1) -> Unit:
    """A unit in which every field says something."""
    whole = transfer(
        number, kind="post_pending", pending_id=TransferId(UUID(int=9)), expires_at=NOW, balancing="debit",
        code=4, linked=True, metadata={"order": "17", "note": "午餐"}, settles=True, over_minor=12,
    )  # fmt: skip
    void = transfer(number + 1, amount_minor=None, kind="void_pending", pending_id=TransferId(UUID(int=8)))
    return Unit(
        (whole, void),
        (Write(WIDE, row(number)), Write(WIDE, (None,) * len(KINDS))),
        (Write(WIDE, row(number + 1)),),
        (
            Guard(HOLDS, (UUID(int=3), 12), ("payment", UUID(int=3))),
            Guard(HOLDS, (UUID(int=3), None), ("stand_in", "text", -7, UUID(int=5)), claims=True),
        ),
    )


def packed(one: Unit) -> Unit:
    """The unit as it arrives: rows in binary form."""

    def write(w: Write) -> Write:
        return Write(w.statement, arrays.row_shape(w.statement.columns).pack(w.row))

    def guard(g: Guard) -> Guard:
        return Guard(g.statement, arrays.row_shape(g.statement.columns).pack(g.row), g.key, g.claims)

    return Unit(
        one.transfers,
        tuple(map(write, one.writes)),
        tuple(map(write, one.writes_if_refused)),
        tuple(map(guard, one.guards)),
    )


Behaviour = Callable[[Unit, float], Any]


class OpenDoor:
    """Posts whatever it is given, and remembers it; `does` decides otherwise about units."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.deadlines_s: list[float] = []
        self.calls: list[tuple[str, Any]] = []
        self.does: Behaviour | None = None

    async def submit(self, unit: Unit, deadline_s: float) -> UnitOutcome:
        self.units.append(unit)
        self.deadlines_s.append(deadline_s)
        if self.does is not None:
            done = self.does(unit, deadline_s)
            return await done if asyncio.iscoroutine(done) else done  # type: ignore[no-any-return]
        return UnitOutcome("committed", tuple(_posted(t) for t in unit.transfers))

    async def post(self, groups: Sequence[Group], deadline_s: float) -> list[Posting]:
        self.calls.append(("post", (list(groups), deadline_s)))
        return [_posted(t) for group in groups for t in group.transfers]

    async def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        self.calls.append(("open", list(accounts)))

    async def close_accounts(self, numbers: Sequence[AccountId], closed: bool) -> None:
        self.calls.append(("close", (list(numbers), closed)))

    async def set_limits(self, limits: Mapping[AccountId, int]) -> None:
        self.calls.append(("limits", dict(limits)))

    async def expire_due(self, limit: int) -> int:
        self.calls.append(("expire", limit))
        return limit // 2

    async def balances(self, numbers: Sequence[AccountId]) -> dict[AccountId, Balance]:
        return {number: Balance(number, 1, 2, 3) for number in numbers}

    async def newest(self, account: AccountId, below: int, limit: int) -> Newest:
        return Newest(below, Balance(account, limit, 0, 9), (4, 3), ((below - 1, UUID(int=1)),))


def _posted(t: NewTransfer) -> Posting:
    return Posting(t.id, Outcome.POSTED, t.amount_minor or 0)


@asynccontextmanager
async def reception(
    door: OpenDoor | None = None, listen: str = "", token: bytes = TOKEN
) -> AsyncIterator[tuple[Reception, str]]:
    """A reception that listens, and its address; in a folder with a short path when none is given."""
    with tempfile.TemporaryDirectory(prefix="holdfast-forward-") as folder:
        made = Reception(door or OpenDoor(), token, listen=listen or f"unix:{folder}/writer")
        address = await made.start()
        try:
            yield made, address
        finally:
            await made.close()


async def not_read(made: Reception) -> None:
    """Wait until a caller is not read any more."""

    async def paused() -> bool:
        return any(not guest._reading for guest in made._guests)

    await until_async(paused, "a caller is not read any more", every_s=0.01)


@asynccontextmanager
async def forwarder(address: str, token: bytes = TOKEN) -> AsyncIterator[Forwarder]:
    made = Forwarder(address, token)
    await made.connect()
    try:
        yield made
    finally:
        await made.close()


class Peer:
    """One end of a connection, driven by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.said = b""

    async def greet(self, token: bytes = TOKEN) -> Peer:
        """Prove that we know the token; the writer's own proof is not looked at."""
        challenge = await self.reader.readexactly(38)
        nonce = os.urandom(32)
        said = b"holdfast forward %d caller\0" % PROTOCOL + challenge[6:] + nonce
        proof = hmac.digest(sha256(token).digest(), said, "sha256")
        self.said = nonce + proof
        self.writer.write(self.said)
        await self.reader.readexactly(32)
        await self.answer()
        return self

    def send(self, body: bytes, number: int = 1, kind: int = wire.Kind.SUBMIT, left_ms: int = 5_000) -> None:
        self.writer.write(HEADER.pack(len(body), number, kind, left_ms) + body)

    async def answer(self) -> tuple[int, int, bytes]:
        """Return number, kind and body of the next frame."""
        length, number, kind, _ = HEADER.unpack(await self.reader.readexactly(HEADER.size))
        return number, kind, await self.reader.readexactly(length)

    async def closed(self) -> bool:
        """Wait for the other end to close, whatever else it says before."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass
        return True

    def cut(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def peer(address: str) -> AsyncIterator[Peer]:
    """A caller that does as the test says."""
    made = Peer(*await asyncio.open_unix_connection(address.removeprefix("unix:")))
    try:
        yield made
    finally:
        made.cut()


@asynccontextmanager
async def writer(
    folder: Path,
    statements: Mapping[str, bytes] | None = None,
    protocol: int = PROTOCOL,
    token: bytes = TOKEN,
) -> AsyncIterator[tuple[str, asyncio.Queue[Peer]]]:
    """A writer that lets callers in and then does as the test says: its address, and who has come."""
    come: asyncio.Queue[Peer] = asyncio.Queue()
    known = {s.name: s.digest() for s in statements_known()} if statements is None else statements

    async def serve(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        greeting = WritersGreeting(TOKEN)
        out.write(greeting.challenge[:4] + protocol.to_bytes(2, "big") + greeting.challenge[6:])
        try:
            proof = greeting.answer(await reader.readexactly(64))
        except asyncio.IncompleteReadError:
            return
        body = wire.encode(dict(known))
        out.write(proof + HEADER.pack(len(body), 0, wire.Kind.STATEMENTS, 0) + body)
        come.put_nowait(Peer(reader, out))

    server = await asyncio.start_unix_server(serve, folder / "w")
    try:
        yield f"unix:{folder}/w", come
    finally:
        server.close()
