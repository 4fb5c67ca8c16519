"""What a reception does with those who do not know the token, and with a caller that sends nonsense."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from holdfast.base.errors import Broken, HoldfastError
from holdfast.base.limits import FORWARD_FRAME_BYTES_MAX
from holdfast.domains.ledger.errors import LaneFull, TransferInvalid, WriterAway, WriteRejected
from holdfast.domains.ledger.forward import calls, wire
from holdfast.domains.ledger.forward.calls import Forwarder, Reception
from holdfast.domains.ledger.forward.greeting import CallersGreeting, Stranger, WritersGreeting
from holdfast.domains.ledger.model import Group, UnitOutcome
from holdfast.platform import arrays
from holdfast.platform.unit import statements_known
from tests.ledger.forwarding import (
    HEADER,
    HOLDS,
    KINDS,
    TOKEN,
    WIDE,
    OpenDoor,
    Peer,
    forwarder,
    not_read,
    peer,
    reception,
    row,
    transfer,
    unit,
    writer,
)
from tests.support.waiting import until_async

AGREED = wire.read_statements(wire.write_statements(statements_known()), statements_known())
pytestmark = pytest.mark.timeout(60)


async def test_v5_0_0_12_3_5_only_who_knows_the_token_is_let_in() -> None:
    door = OpenDoor()
    async with reception(door) as (made, address):
        for token in (b"\0" * 32, TOKEN[:-1], TOKEN + b"\0"):
            with pytest.raises(WriterAway):
                await Forwarder(address, token).connect()
        async with peer(address) as stranger:
            challenge = await stranger.reader.readexactly(38)
            stranger.writer.write(bytes(64))
            stranger.send(AGREED.encode_unit(unit()))
            assert await stranger.reader.read() == b"", "a stranger is told nothing"
            assert len(set(challenge[6:])) > 8
        assert made.refused == 4
        assert door.units == []
        async with forwarder(address) as forwards:
            await forwards.submit(unit(), 5.0)


async def test_v5_0_0_12_3_5_a_writer_that_does_not_know_the_token_is_told_nothing(tmp_path: Path) -> None:
    heard = bytearray()

    async def pretend(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        out.write(WritersGreeting(TOKEN[::-1]).challenge)
        heard.extend(await reader.readexactly(64))
        out.write(bytes(32) + HEADER.pack(1, 0, wire.Kind.STATEMENTS, 0) + b"\x80")
        heard.extend(await reader.read())
        out.close()

    server = await asyncio.start_unix_server(pretend, tmp_path / "w")
    with pytest.raises(WriterAway, match="does not know the token"):
        await Forwarder(f"unix:{tmp_path}/w", TOKEN).connect()
    assert len(heard) == 64
    server.close()


async def test_v5_0_0_12_3_5_a_proof_serves_once_and_in_one_direction() -> None:
    async with reception() as (_, address):
        async with peer(address) as caller:
            await caller.greet()
            used = caller.said
        async with peer(address) as stranger:
            await stranger.reader.readexactly(38)
            stranger.writer.write(used)
            assert await stranger.reader.read() == b""
    ours, theirs = WritersGreeting(TOKEN), CallersGreeting(TOKEN)
    reply = theirs.reply(ours.challenge)
    proof = ours.answer(reply)
    theirs.check(proof)
    assert proof != reply[32:]
    with pytest.raises(Stranger):
        theirs.check(reply[32:])
    with pytest.raises(Stranger):
        WritersGreeting(TOKEN).answer(reply)
    with pytest.raises(Stranger):
        CallersGreeting(TOKEN).check(b"")


@pytest.mark.parametrize("token", [b"", b"x" * 15])
def test_v5_0_0_11_2_3_a_token_that_could_be_guessed_is_none(token: bytes) -> None:
    with pytest.raises(Broken):
        Forwarder("unix:/tmp/none", token)
    with pytest.raises(Broken):
        Reception(OpenDoor(), token, listen="unix:/tmp/none")


async def test_v5_0_0_15_2_2_who_proves_nothing_in_time_is_turned_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "FORWARD_GREETING_S", 0.2)
    async with reception() as (made, address):
        async with peer(address) as silent, peer(address) as slow, peer(address) as honest:
            await honest.greet()
            slow.writer.write(bytes(63))
            assert await asyncio.wait_for(silent.closed(), 5.0)
            assert await asyncio.wait_for(slow.closed(), 5.0)
            honest.send(AGREED.encode_unit(unit()))
            assert (await honest.answer())[1] == wire.Kind.DONE
        assert made.refused == 2


async def test_v5_0_0_15_2_2_a_writer_that_proves_nothing_in_time_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "FORWARD_GREETING_S", 0.2)
    server = await asyncio.start_unix_server(lambda *_: asyncio.sleep(0), tmp_path / "w")
    with pytest.raises(WriterAway):
        await Forwarder(f"unix:{tmp_path}/w", TOKEN).connect()
    server.close()


async def test_v5_0_0_15_2_2_so_many_strangers_wait_and_callers_still_get_their_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "FORWARD_STRANGERS_MAX", 4)
    monkeypatch.setattr(calls, "FORWARD_CONNECTIONS_MAX", 2)

    async def left() -> bool:
        return len(made._strangers) == 3

    async with reception() as (made, address), forwarder(address) as forwards, AsyncExitStack() as stack:
        strangers = [await stack.enter_async_context(peer(address)) for _ in range(4)]
        for each in strangers:
            await each.reader.readexactly(38)
        late = await stack.enter_async_context(peer(address))
        assert await late.reader.read() == b""
        assert (await forwards.submit(unit(), 5.0)).status == "committed"
        strangers[0].cut()
        await until_async(left, "one has left", every_s=0.01)
        async with forwarder(address) as second:
            await second.submit(unit(), 5.0)
            with pytest.raises(WriterAway):
                await Forwarder(address, TOKEN).connect()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n" * 10, bytes(65), b"\xff" * 100_000])
async def test_v5_0_0_2_2_1_garbage_before_the_proof_ends_the_connection(garbage: bytes) -> None:
    async with reception() as (made, address):
        async with peer(address) as stranger:
            stranger.writer.write(garbage)
            assert await asyncio.wait_for(stranger.closed(), 5.0)
        assert made.refused == 1


@pytest.mark.parametrize(
    "garbage",
    [
        HEADER.pack(FORWARD_FRAME_BYTES_MAX + 1, 1, 1, 0),
        b"\xff" * 17,
        2 * (HEADER.pack(1, 7, 1, 60_000) + b"\xc0"),
    ],
    ids=["a frame that is too long", "no header", "a number that stands twice"],
)
async def test_v5_0_0_2_2_1_frames_that_cannot_be_relied_on_end_the_connection(garbage: bytes) -> None:
    door = OpenDoor()
    async with reception(door) as (made, address), forwarder(address) as forwards:
        async with peer(address) as caller:
            await caller.greet()
            caller.writer.write(garbage)
            assert await asyncio.wait_for(caller.closed(), 5.0)
        assert made.refused == 1
        assert door.units == []
        await forwards.submit(unit(), 5.0)


def body(writes: object = (), guards: object = (), transfers: object = ()) -> bytes:
    return msgspec.msgpack.Encoder(uuid_format="bytes").encode((transfers, writes, (), guards, False))


ROW = list(arrays.row_shape(KINDS).pack(row()))
PLAIN: tuple[object, ...] = (
    UUID(int=1), 1001, 2002, "CNY", 100, "posted", None, None, None, 0, False, {}, False, 0,
)  # fmt: skip


def with_value(place: int, value: object) -> bytes:
    return body([(WIDE.name, [*ROW[:place], value, *ROW[place + 1 :]])])


def with_field(place: int, value: object) -> bytes:
    return body((), (), [(*PLAIN[:place], value, *PLAIN[place + 1 :])])


NONSENSE: list[tuple[str, bytes, type[HoldfastError]]] = [
    ("nothing", b"", Broken),
    ("no array", b"\xc0", Broken),
    ("more after the end", body() + b"\xc0", Broken),
    ("an array that says it has 4 billion entries", b"\x94\xdd\xff\xff\xff\xff", Broken),
    ("arrays in arrays", b"\x91" * 100_000, Broken),
    ("a statement that is not known", body([("no.such", [])]), Broken),
    ("SQL for a name", body([("select 1", ROW)]), Broken),
    ("a column less", body([(WIDE.name, ROW[:-1])]), WriteRejected),
    ("a column more", body([(WIDE.name, [*ROW, None])]), WriteRejected),
    ("a thousand columns", body([(WIDE.name, [None] * 1000)]), Broken),
    ("a column that is a number", with_value(0, 5), Broken),
    ("a UUID of 15 bytes", with_value(0, bytes(15)), WriteRejected),
    ("a UUID as its text", with_value(0, str(UUID(int=1)).encode()), WriteRejected),
    ("a text that is not UTF-8", with_value(1, b"\xc3"), WriteRejected),
    ("half a character", with_value(1, b"\xed\xa0\x80"), WriteRejected),
    ("a text with a null character", with_value(1, b"a\0"), WriteRejected),
    ("a bigint of 4 bytes", with_value(2, bytes(4)), WriteRejected),
    ("an empty integer", with_value(3, b""), WriteRejected),
    ("a smallint of 4 bytes", with_value(4, bytes(4)), WriteRejected),
    ("a boolean of 2", with_value(5, b"\x02"), WriteRejected),
    ("a moment of 9 bytes", with_value(6, bytes(9)), WriteRejected),
    ("JSON of another version", with_value(8, b"\x02{}"), WriteRejected),
    ("JSON that is empty", with_value(8, b""), WriteRejected),
    ("JSON that is not UTF-8", with_value(8, b"\x01\xff"), WriteRejected),
    ("a key that is a map", body((), [(HOLDS.name, [None, None], {}, False)]), Broken),
    ("a key with a map in it", body((), [(HOLDS.name, [None, None], [{}], False)]), Broken),
    ("a key with a list in it", body((), [(HOLDS.name, [None, None], [["a"]], False)]), Broken),
    ("a guard that may or may not claim", body((), [(HOLDS.name, [None, None], ["a"], None)]), Broken),
    ("too many transfers", body((), (), [PLAIN] * 17), Broken),
    ("an id of 3 bytes", with_field(0, b"abc"), Broken),
    ("an account as a text", with_field(1, "1001"), Broken),
    ("account 0", with_field(1, 0), TransferInvalid),
    ("an account beyond 63 bits", with_field(2, 2**63), Broken),
    ("an asset of 200 characters", with_field(3, "x" * 200), Broken),
    ("a fraction for an amount", with_field(4, 1.5), Broken),
    ("an amount beyond 63 bits", with_field(4, 2**64 - 1), Broken),
    ("an unknown kind", with_field(5, "stolen"), Broken),
    ("what only the ledger may do", with_field(5, "expire_pending"), TransferInvalid),
    ("what only the ledger may do, too", with_field(5, "settle_pending"), TransferInvalid),
    ("no moment", with_field(7, "2026-13-01T00:00:00Z"), Broken),
    ("a moment without a zone", with_field(7, "2026-01-01T00:00:00"), Broken),
    ("an unknown side", with_field(8, "both"), Broken),
    ("a code below 0", with_field(9, -1), TransferInvalid),
    ("a number for yes", with_field(10, 1), Broken),
    ("a number for what settles itself", with_field(12, 1), Broken),
    ("nothing for what settles itself", with_field(12, None), Broken),
    ("more by a fraction", with_field(13, 0.5), Broken),
    ("more beyond 63 bits", with_field(13, 2**64 - 1), Broken),
    ("a transfer without its end", body((), (), [PLAIN[:-1]]), Broken),
    ("a transfer with more behind its end", body((), (), [(*PLAIN, 0)]), Broken),
    ("metadata that is no text", with_field(11, {"a": 1}), Broken),
    ("metadata with 21 keys", with_field(11, {str(i): "" for i in range(21)}), Broken),
    ("metadata with a long value", with_field(11, {"a": "x" * 501}), Broken),
    ("metadata with a null character", with_field(11, {"a": "\0"}), HoldfastError),
]


async def test_v5_0_0_1_5_2_nonsense_is_refused_for_its_call_alone() -> None:
    door = OpenDoor()
    async with reception(door) as (made, address), peer(address) as caller:
        await caller.greet()
        for number, (what, nonsense, error) in enumerate(NONSENSE, 1):
            caller.send(nonsense, number)
            answered, kind, answer = await caller.answer()
            assert (answered, kind) == (number, wire.Kind.FAILED), what
            said = wire.read_error(answer)
            assert isinstance(said, error), (what, said)
        assert door.units == []
        caller.send(body([(WIDE.name, ROW)], [(HOLDS.name, [None, None], ["a", 1], False)], [PLAIN]), 1000)
        assert (await caller.answer())[:2] == (1000, wire.Kind.DONE)
        assert len(door.units) == 1
        assert made.refused == 0


OTHER: list[tuple[int, bytes]] = [
    (0, b"\xc0"),
    (99, b"\xc0"),
    (wire.Kind.DONE, b"\xc0"),
    (wire.Kind.POST, wire.encode([])[:0]),
    (wire.Kind.POST, wire.encode([([PLAIN[:5]], False)])),
    (wire.Kind.POST, wire.encode_groups([Group((transfer(),) * 16)] * 626)),
    (wire.Kind.OPEN_ACCOUNTS, wire.encode([(1, "a", "CNY", "steal", 0)])),
    (wire.Kind.OPEN_ACCOUNTS, wire.encode([(0, "a", "CNY", "free", 0)])),
    (wire.Kind.OPEN_ACCOUNTS, wire.encode([(1, "a", "CNY", "free", -1)])),
    (wire.Kind.CLOSE_ACCOUNTS, wire.encode(([1], 1))),
    (wire.Kind.CLOSE_ACCOUNTS, wire.encode((["1"], True))),
    (wire.Kind.SET_LIMITS, wire.encode({"1": 5})),
    (wire.Kind.SET_LIMITS, wire.encode({1: -5})),
    (wire.Kind.EXPIRE_DUE, wire.encode("all")),
    (wire.Kind.BALANCES, wire.encode({1: 2})),
    (wire.Kind.BALANCES, wire.encode([1.5])),
    (wire.Kind.NEWEST, wire.encode((1, 2))),
    (wire.Kind.NEWEST, wire.encode((1, 2, 0))),
    (wire.Kind.NEWEST, wire.encode((1, 2, 10**6))),
]


async def test_v5_0_0_1_5_2_nonsense_in_the_other_calls_is_refused_too() -> None:
    door = OpenDoor()
    async with reception(door) as (_, address), peer(address) as caller:
        await caller.greet()
        for number, (kind, nonsense) in enumerate(OTHER, 1):
            caller.send(nonsense, number, kind)
            assert (await caller.answer())[:2] == (number, wire.Kind.FAILED), (kind, nonsense)
        assert door.calls == []


async def test_v5_0_0_15_2_2_a_flood_of_calls_is_turned_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FORWARD_CALLS_MAX", 8)
    door = OpenDoor()
    released = asyncio.Event()

    async def wait(*_: object) -> UnitOutcome:
        await released.wait()
        return UnitOutcome("committed")

    door.does = wait
    async with reception(door) as (_, address), peer(address) as caller:
        await caller.greet()
        for number in range(1, 1001):
            caller.send(body(), number)
        refused = [await caller.answer() for _ in range(992)]
        assert {kind for _, kind, _ in refused} == {wire.Kind.FAILED}
        assert isinstance(wire.read_error(refused[0][2]), LaneFull)
        assert len(door.units) == 8
        released.set()
        assert {(await caller.answer())[1] for _ in range(8)} == {wire.Kind.DONE}


async def test_v5_0_0_15_2_2_a_caller_whose_calls_hold_too_much_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "FORWARD_BYTES_MAX", 100_000)
    door = OpenDoor()
    released = asyncio.Event()

    async def wait(*_: object) -> UnitOutcome:
        await released.wait()
        return UnitOutcome("committed")

    door.does = wait
    large = with_value(7, bytes(90_000))
    async with reception(door) as (made, address), peer(address) as caller:
        await caller.greet()
        for number in range(1, 101):
            caller.send(large, number)
        await not_read(made)
        assert 1 < len(door.units) < 20
        released.set()
        assert {(await caller.answer())[1] for _ in range(100)} == {wire.Kind.DONE}


async def test_an_answer_that_nobody_can_read_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    for kind, answer in ((wire.Kind.DONE, b"\xc1"), (wire.Kind.FAILED, b"\xc0"), (5, b"\xc0")):
        async with writer(tmp_path) as (address, come), forwarder(address) as forwards:
            call = asyncio.create_task(forwards.submit(unit(), 5.0))
            rogue: Peer = await come.get()
            number, *_ = await rogue.answer()
            rogue.send(b"", number + 100, wire.Kind.DONE)
            rogue.send(answer, number, kind)
            with pytest.raises(HoldfastError) as caught:
                await call
            assert caught.value.code == "commit_unknown"
        (tmp_path / "w").unlink()
