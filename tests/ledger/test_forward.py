"""A process that does not write the ledger hands its units to the one that does."""

from __future__ import annotations

import asyncio
import inspect
import socket
import stat
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import uvloop

from holdfast.base import errors as base_errors
from holdfast.base.errors import Broken, HoldfastError, Refused, Unavailable
from holdfast.base.ids import AccountId, IdInvalid, TransferId
from holdfast.base.limits import BATCH_TRANSFERS_MAX, FORWARD_FRAME_BYTES_MAX, HISTORY_SCAN_ROWS_MAX
from holdfast.domains.ledger import errors as ledger_errors
from holdfast.domains.ledger.errors import (
    BatchTooLarge,
    ChainTooLong,
    CommitUnknown,
    LaneFull,
    TransferInvalid,
    WriterAway,
)
from holdfast.domains.ledger.forward import calls as forward_calls
from holdfast.domains.ledger.forward import line, wire
from holdfast.domains.ledger.forward.calls import Forwarder, Reception
from holdfast.domains.ledger.model import Group, NewAccount, Outcome, Posting, Unit, UnitOutcome
from holdfast.platform import arrays, db
from holdfast.platform.unit import Guard, Write, statements_known
from tests.ledger.forwarding import (
    HOLDS,
    TOKEN,
    WIDE,
    OpenDoor,
    forwarder,
    not_read,
    packed,
    peer,
    reception,
    transfer,
    unit,
    writer,
)
from tests.support.waiting import until_async


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="holdfast-forward-") as name:
        yield Path(name)


def large() -> Unit:
    """A unit of a megabyte: a few of them are more than a socket takes before it is read from."""
    return Unit((transfer(),), (Write(WIDE, (None, "x" * 2**20, *[None] * 8)),))


async def test_every_field_of_a_unit_and_of_its_outcome_arrives() -> None:
    door = OpenDoor()
    outcomes = [
        UnitOutcome("committed", (Posting(TransferId(UUID(int=1)), Outcome.POSTED, 2**53 - 1),)),
        UnitOutcome("refused", tuple(Posting(TransferId(uuid4()), o) for o in Outcome)),
        UnitOutcome("conflict", guard_failed=1),
    ]
    left = iter(outcomes)
    door.does = lambda *_: next(left)
    async with reception(door) as (_, address), forwarder(address) as forwards:
        for outcome in outcomes:
            assert await forwards.submit(unit(), 5.0) == outcome
        assert door.units == [packed(unit())] * 3
        assert all(type(w.row) is arrays.PackedRow for w in door.units[0].writes)
        assert door.units[0].guards[0].statement is HOLDS
        assert hash(door.units[0].guards[0].key) == hash(unit().guards[0].key)
        assert door.deadlines_s == pytest.approx([5.0] * 3, abs=0.3)
        door.does = None
        assert await forwards.submit(Unit(), 1.0) == UnitOutcome("committed")


async def test_every_other_call_arrives_as_it_was_made() -> None:
    door = OpenDoor()
    accounts = [
        NewAccount(AccountId(7), "payer:午:CNY", "CNY", "debits_must_not_exceed_credits", 500),
        NewAccount(AccountId(2**63 - 1), "world", "JPY"),
    ]
    groups = [Group((transfer(1, linked=True), transfer(2))), Group((transfer(3),), unfinished=True)]
    async with reception(door) as (_, address), forwarder(address) as forwards:
        assert [p.id.int for p in await forwards.post(groups, 9.0)] == [1, 2, 3]
        await forwards.open_accounts(accounts)
        await forwards.close_accounts([AccountId(7)], True)
        await forwards.set_limits({AccountId(7): 900, AccountId(8): 0})
        assert await forwards.expire_due(1000) == 500
        numbers = [AccountId(7), AccountId(2**63 - 1)]
        assert await forwards.balances(numbers) == await door.balances(numbers)
        assert await forwards.newest(numbers[1], 2**62, 40) == await door.newest(numbers[1], 2**62, 40)
        for limit in (0, HISTORY_SCAN_ROWS_MAX + 1):
            with pytest.raises(Broken):
                await forwards.newest(numbers[0], 1, limit)
    (_, (arrived, deadline_s)), *rest = door.calls
    assert arrived == groups
    assert deadline_s == pytest.approx(9.0, abs=0.3)
    assert rest == [
        ("open", accounts),
        ("close", ([7], True)),
        ("limits", {7: 900, 8: 0}),
        ("expire", 1000),
    ]


async def test_the_largest_list_of_transfers_arrives_and_a_larger_one_is_refused() -> None:
    door = OpenDoor()
    most = [Group((transfer(i + 1, metadata={"n": "x" * 500}),)) for i in range(BATCH_TRANSFERS_MAX)]
    async with reception(door) as (_, address), forwarder(address) as forwards:
        assert len(await forwards.post(most, 30.0)) == BATCH_TRANSFERS_MAX
        with pytest.raises(BatchTooLarge):
            await forwards.post([*most, Group((transfer(),))], 30.0)
        with pytest.raises(ChainTooLong):
            await forwards.submit(Unit(tuple(transfer(i) for i in range(17))), 5.0)
        with pytest.raises(BatchTooLarge):
            await forwards.submit(
                Unit((), (Write(WIDE, (None, "x" * FORWARD_FRAME_BYTES_MAX, *[None] * 8)),)), 5.0
            )
        with pytest.raises(BatchTooLarge):
            await forwards.set_limits({AccountId(i): 0 for i in range(1, 65_538)})
        assert (await forwards.submit(Unit((transfer(),)), 5.0)).status == "committed"


REFUSED: list[tuple[str, Unit, type[HoldfastError]]] = [
    ("a number beyond 64 bits", Unit((transfer(amount_minor=2**64),)), TransferInvalid),
    ("half a character", Unit((transfer(asset="\ud800"),)), TransferInvalid),
    ("no account number", Unit((transfer(code=-1),)), TransferInvalid),
    ("a row with a value of another type", Unit((), (Write(HOLDS, ("x", 1)),)), Broken),
    ("a row with a value too many", Unit((), (Write(HOLDS, (UUID(int=1), 1, 1)),)), Broken),
    ("a text with a null character", Unit((), (Write(WIDE, (None, "a\0", *[None] * 8)),)), Broken),
    ("a guard without a plain key", Unit((), (), (), (Guard(HOLDS, (None, None), "key"),)), Broken),
    ("a key with a fraction", Unit((), (), (), (Guard(HOLDS, (None, None), ("k", 1.5)),)), Broken),
]


@pytest.mark.parametrize(("what", "one", "error"), REFUSED, ids=[what for what, _, _ in REFUSED])
async def test_what_no_ledger_could_take_is_refused_and_nothing_arrives(
    what: str, one: Unit, error: type[HoldfastError]
) -> None:
    door = OpenDoor()
    async with reception(door) as (_, address), forwarder(address) as forwards:
        with pytest.raises(error):
            await forwards.submit(one, 5.0)
        assert door.units == []
        assert (await forwards.submit(unit(), 5.0)).status == "committed"


async def test_an_error_of_the_door_is_raised_again_as_what_it_is() -> None:
    door = OpenDoor()
    classes = [
        each
        for module in (base_errors, ledger_errors, db)
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, HoldfastError)
    ]
    assert WriterAway in classes
    assert db.DatabaseUnavailable in classes
    async with reception(door) as (_, address), forwarder(address) as forwards:
        for kind in classes:
            error = kind("what it says", retry_after_s=2.5) if issubclass(kind, Unavailable) else kind("午")
            door.does = lambda *_, error=error: _raise(error)
            with pytest.raises(kind) as caught:
                await forwards.submit(unit(), 5.0)
            assert type(caught.value) is kind
            assert caught.value.message == error.message
            assert getattr(caught.value, "retry_after_s", None) == getattr(error, "retry_after_s", None)
        door.does = lambda *_: _raise(IdInvalid("an error of elsewhere crosses as its family"))
        with pytest.raises(Refused) as caught:
            await forwards.submit(unit(), 5.0)
        assert type(caught.value) is Refused
    unknown = wire.read_error(wire.encode(("no_such_code", "words", 0.0)))
    assert type(unknown) is Broken


def _raise(error: BaseException) -> Any:
    raise error


async def test_v5_0_0_16_5_1_an_error_that_nobody_foresaw_tells_nothing_of_the_inside() -> None:
    door = OpenDoor()
    door.does = lambda *_: _raise(RuntimeError("password=hunter2"))
    async with reception(door) as (_, address), forwarder(address) as forwards:
        with pytest.raises(Broken) as caught:
            await forwards.submit(unit(), 5.0)
        assert type(caught.value) is Broken
        assert "hunter2" not in caught.value.message
        door.does = None
        assert (await forwards.submit(unit(), 5.0)).status == "committed"


async def test_a_call_that_is_not_answered_in_time_may_have_happened() -> None:
    door = OpenDoor()
    released = asyncio.Event()
    door.does = lambda *_: _wait_for(released)
    async with reception(door) as (_, address), forwarder(address) as forwards:
        with pytest.raises(CommitUnknown):
            await forwards.submit(unit(), 0.2)
        assert door.deadlines_s[0] < 0.2
        with pytest.raises(WriterAway):
            await forwards.submit(unit(), 0.0)
        released.set()
        door.does = None
        assert (await forwards.submit(unit(), 5.0)).status == "committed"
        assert len(door.units) == 2


async def _wait_for(event: asyncio.Event) -> UnitOutcome:
    await event.wait()
    return UnitOutcome("committed")


async def test_when_the_connection_breaks_what_was_sent_may_have_happened_and_the_rest_has_not(
    folder: Path,
) -> None:
    async with writer(folder) as (address, come), forwarder(address) as forwards:
        first = asyncio.create_task(forwards.submit(unit(), 60.0))
        silent = await come.get()
        number, *_ = await silent.answer()
        assert number == 1
        sent = [asyncio.create_task(forwards.submit(large(), 60.0)) for _ in range(8)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        held = [asyncio.create_task(forwards.submit(unit(), 60.0)) for _ in range(3)]
        late = asyncio.create_task(forwards.submit(unit(), 0.05))
        with pytest.raises(WriterAway):
            await late
        silent.cut()
        answers = await asyncio.gather(first, *sent, *held, return_exceptions=True)
        assert [type(a) for a in answers] == [CommitUnknown] * 9 + [WriterAway] * 3
        assert forwards.lost
        with pytest.raises(WriterAway):
            await forwards.submit(unit(), 5.0)


async def test_a_call_that_its_caller_gives_up_before_it_is_sent_is_not_sent(folder: Path) -> None:
    async with writer(folder) as (address, come), forwarder(address) as forwards:
        sent = [asyncio.create_task(forwards.submit(large(), 60.0)) for _ in range(8)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        given_up, meant = (asyncio.create_task(forwards.submit(unit(), 60.0)) for _ in range(2))
        await asyncio.sleep(0)
        given_up.cancel()
        slow = await come.get()
        assert [(await slow.answer())[0] for _ in range(9)] == [*range(1, 9), 10]
        slow.send(wire.encode_outcome(UnitOutcome("committed")), 10, wire.Kind.DONE)
        assert (await meant).status == "committed"
        slow.cut()
        assert [type(e) for e in await asyncio.gather(*sent, return_exceptions=True)] == [CommitUnknown] * 8


async def test_beyond_the_calls_that_may_be_under_way_callers_are_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line, "FORWARD_CALLS_MAX", 4)
    door = OpenDoor()
    released = asyncio.Event()
    door.does = lambda *_: _wait_for(released)
    async with reception(door) as (_, address), forwarder(address) as forwards:
        calls = [asyncio.create_task(forwards.submit(unit(), 30.0)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(LaneFull):
            await forwards.submit(unit(), 30.0)
        released.set()
        assert [o.status for o in await asyncio.gather(*calls)] == ["committed"] * 4
        assert (await forwards.submit(unit(), 30.0)).status == "committed"


async def test_many_callers_of_many_processes_each_get_their_own_answer_and_their_order() -> None:
    door = OpenDoor()

    async def some(one: Unit, _: float) -> UnitOutcome:
        await asyncio.sleep(one.transfers[0].id.int % 7 / 1000)
        return UnitOutcome("committed", tuple(Posting(t.id, Outcome.POSTED, 1) for t in one.transfers))

    door.does = some
    async with reception(door) as (_, address):
        async with forwarder(address) as one, forwarder(address) as two, forwarder(address) as three:

            async def submit(number: int) -> None:
                to = (one, two, three)[number % 3]
                answer = await to.submit(Unit((transfer(number),)), 30.0)
                assert [p.id.int for p in answer.postings] == [number]

            await asyncio.gather(*(submit(number) for number in range(1, 1501)))
        for first in range(3):
            arrived = [u.transfers[0].id.int for u in door.units if u.transfers[0].id.int % 3 == first]
            assert arrived == sorted(arrived)


async def test_a_writer_that_closes_answers_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_calls, "FORWARD_CLOSE_S", 0.3)
    door = OpenDoor()
    never, soon = asyncio.Event(), asyncio.Event()

    async def slow(one: Unit, _: float) -> UnitOutcome:
        number = one.transfers[0].id.int
        if number == 1:
            return await _wait_for(never)
        await soon.wait()
        if number == 2:
            raise LaneFull
        return UnitOutcome("committed")

    door.does = slow
    async with reception(door) as (made, address), forwarder(address) as forwards:
        calls = [asyncio.create_task(forwards.submit(unit(n), 30.0)) for n in (1, 2, 3)]
        await until_async(lambda: _true(len(door.units) == 3), "all have arrived", every_s=0.01)
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0)
        with pytest.raises(WriterAway):
            await forwards.submit(unit(4), 30.0)
        soon.set()
        unknown, full, done = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(unknown, CommitUnknown)
        assert isinstance(full, LaneFull)
        assert done == UnitOutcome("committed")
        await closing
        assert forwards.lost
        assert len(door.units) == 3
        assert not Path(address.removeprefix("unix:")).exists()
        with pytest.raises(WriterAway):
            await Forwarder(address, TOKEN).connect()


async def test_a_forwarder_that_closes_takes_no_more_calls_and_waits_for_its_answers() -> None:
    door = OpenDoor()
    soon = asyncio.Event()
    door.does = lambda *_: _wait_for(soon)
    async with reception(door) as (_, address), forwarder(address) as forwards:
        call = asyncio.create_task(forwards.submit(unit(), 30.0))
        await until_async(lambda: _true(len(door.units) == 1), "it has arrived", every_s=0.01)
        closing = asyncio.create_task(forwards.close())
        await asyncio.sleep(0)
        assert forwards.lost
        with pytest.raises(WriterAway):
            await forwards.submit(unit(), 30.0)
        soon.set()
        await closing
        assert (await call).status == "committed"


async def test_calls_on_their_way_while_the_writer_leaves_have_moved_nothing() -> None:
    door = OpenDoor()
    async with reception(door) as (made, address), forwarder(address) as forwards:
        for _ in range(3):
            await forwards.submit(unit(), 5.0)
        calls = [asyncio.create_task(forwards.submit(unit(), 5.0)) for _ in range(50)]
        await asyncio.gather(made.close(), return_exceptions=True)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(a) for a in answers} <= {UnitOutcome, WriterAway}
        assert len(door.units) == 3 + sum(isinstance(a, UnitOutcome) for a in answers)
        assert forwards.lost


async def test_a_caller_that_does_not_say_goodbye_does_not_keep_a_writer_from_leaving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forward_calls, "FORWARD_CLOSE_S", 0.2)
    async with reception() as (made, address), peer(address) as caller:
        await caller.greet()
        await asyncio.wait_for(made.close(), 5.0)
        assert (await caller.answer())[:2] == (0, wire.Kind.GOODBYE)
        assert await caller.closed()


async def _true(value: bool) -> bool:
    return value


async def test_it_works_over_tcp_and_advertises_the_port_it_was_given() -> None:
    async with reception(listen="tcp:127.0.0.1:0") as (_, address):
        assert address.startswith("tcp:127.0.0.1:")
        assert not address.endswith(":0")
        async with forwarder(address) as forwards:
            assert (await forwards.submit(unit(), 5.0)).status == "committed"


ADDRESSES = [
    "",
    "unix:relative",
    "unix:/" + "x" * 120,
    "tcp:127.0.0.1",
    "tcp::80",
    "tcp:127.0.0.1:70000",
    "x:y",
]


@pytest.mark.parametrize("address", ADDRESSES)
async def test_an_address_that_is_none_is_refused_in_words(address: str) -> None:
    with pytest.raises(Broken) as caught:
        await Reception(OpenDoor(), TOKEN, listen=address).start()
    assert len(caught.value.message) > 20
    with pytest.raises(WriterAway):
        await Forwarder(address, TOKEN).connect()


async def test_nobody_but_us_reaches_the_socket(folder: Path) -> None:
    path = folder / "private" / "writer"
    async with reception(listen=f"unix:{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.parent.chmod(0o755)
    with pytest.raises(Broken, match="closed to others"):
        await Reception(OpenDoor(), TOKEN, listen=f"unix:{path}").start()


async def test_a_socket_left_behind_is_replaced_and_one_in_use_is_not(folder: Path) -> None:
    path = folder / "writer"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    async with reception(listen=f"unix:{path}") as (_, address):
        with pytest.raises(Broken, match="listens"):
            await Reception(OpenDoor(), TOKEN, listen=address).start()
        async with forwarder(address) as forwards:
            await forwards.submit(unit(), 5.0)
    path.write_text("no socket")
    with pytest.raises(Broken, match="is a socket"):
        await Reception(OpenDoor(), TOKEN, listen=f"unix:{path}").start()
    assert path.read_text() == "no socket"


async def test_processes_that_run_different_versions_do_not_work_together(folder: Path) -> None:
    same = {s.name: s.digest() for s in statements_known()}
    async with writer(folder, {**same, WIDE.name: HOLDS.digest()}) as (address, _):
        with pytest.raises(WriterAway, match="different versions"):
            await Forwarder(address, TOKEN).connect()
    (folder / "w").unlink()
    async with writer(folder, protocol=99) as (address, _):
        with pytest.raises(WriterAway, match="different versions"):
            await Forwarder(address, TOKEN).connect()
    (folder / "w").unlink()
    del same[WIDE.name]
    async with writer(folder, same) as (address, _), forwarder(address) as forwards:
        with pytest.raises(WriterAway, match=r"does not know forward\.wide"):
            await forwards.submit(unit(), 5.0)
        assert not forwards.lost


async def test_a_caller_that_does_not_read_its_answers_is_not_read_either() -> None:
    door = OpenDoor()
    answer = UnitOutcome(
        "refused", tuple(Posting(TransferId(uuid4()), Outcome.POSTED, 1) for _ in range(BATCH_TRANSFERS_MAX))
    )
    door.does = lambda *_: answer
    body = wire.encode(([], [], [], [], False))
    async with reception(door) as (made, address), peer(address) as caller:
        await caller.greet()
        for number in range(1, 3001):
            caller.send(body, number)
        await not_read(made)
        begun = len(door.units)
        assert begun < 3000, "600 MB of answers would wait for a caller that reads none"
        await asyncio.wait_for(caller.answer(), 5.0)
        async with forwarder(address) as forwards:
            await forwards.submit(unit(), 5.0)


ON_UVLOOP = [
    test_every_field_of_a_unit_and_of_its_outcome_arrives,
    test_every_other_call_arrives_as_it_was_made,
    test_the_largest_list_of_transfers_arrives_and_a_larger_one_is_refused,
    test_an_error_of_the_door_is_raised_again_as_what_it_is,
    test_a_call_that_is_not_answered_in_time_may_have_happened,
    test_many_callers_of_many_processes_each_get_their_own_answer_and_their_order,
    test_it_works_over_tcp_and_advertises_the_port_it_was_given,
    test_a_caller_that_does_not_read_its_answers_is_not_read_either,
]
IN_A_FOLDER = [
    test_when_the_connection_breaks_what_was_sent_may_have_happened_and_the_rest_has_not,
    test_a_call_that_its_caller_gives_up_before_it_is_sent_is_not_sent,
    test_nobody_but_us_reaches_the_socket,
    test_a_socket_left_behind_is_replaced_and_one_in_use_is_not,
]


@pytest.mark.parametrize("test", ON_UVLOOP, ids=lambda test: test.__name__)
def test_it_is_the_same_on_the_loop_that_servers_run_on(
    test: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    uvloop.run(test())


@pytest.mark.parametrize("test", IN_A_FOLDER, ids=lambda test: test.__name__)
def test_sockets_are_the_same_on_the_loop_that_servers_run_on(
    test: Callable[[Path], Coroutine[Any, Any, None]], folder: Path
) -> None:
    uvloop.run(test(folder))
