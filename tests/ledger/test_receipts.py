"""A receipt proves a transfer to whoever has a published root, and nothing else passes for one."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from holdfast.base.ids import TransferId
from holdfast.domains.ledger import receipts
from holdfast.domains.ledger.errors import (
    ReceiptFalse,
    ReceiptUnreadable,
    RootNotReached,
    RootUnknown,
    TransferMissing,
)
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.receipts import tree
from holdfast.domains.ledger.verify import verify
from holdfast.platform.db import Database
from tests.ledger.workload import StillClock, Workload, accounts

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
"""The leaves, roots and proofs with which the authors of RFC 6962 test (certificate-transparency)."""
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
INCLUSIONS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCIES = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def naive(leaves: list[bytes]) -> bytes:
    """The root as RFC 6962 (2.1) defines it."""
    if len(leaves) <= 1:
        return sha256(b"\x00" + leaves[0]).digest() if leaves else sha256(b"").digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive(leaves[:k]) + naive(leaves[k:])).digest()


def part(leaves: list[bytes], which: tree.Range) -> bytes:
    """The hash over a range, put together from complete subtrees."""
    hashes = [tree.leaf(content) for content in leaves]
    return tree.joined(
        [tree.paired(hashes[n << level : (n + 1) << level]) for level, n in tree.complete(which)]
    )


def test_roots_and_proofs_are_those_of_rfc_6962() -> None:
    for size, root in enumerate(ROOTS, 1):
        assert part(LEAVES, (0, size)).hex() == root
    for (index, size), path in INCLUSIONS.items():
        assert [part(LEAVES, which).hex() for which in tree.inclusion(index, size)] == path
    for (old, size), path in CONSISTENCIES.items():
        found = [part(LEAVES, which).hex() for which in tree.consistency(old, size)]
        assert found == path


def test_every_proof_in_every_small_tree_holds_and_no_altered_one_does() -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    random = Random(seed)
    leaves = [random.randbytes(32) for _ in range(70)]
    roots = [naive(leaves[:size]) for size in range(71)]
    assert tree.joined([]) == roots[0]
    for size in range(1, 71):
        assert part(leaves, (0, size)) == roots[size]
        index, old = random.randrange(size), random.randrange(1, size + 1)
        path = [part(leaves, which) for which in tree.inclusion(index, size)]
        assert tree.root_by_inclusion(tree.leaf(leaves[index]), index, size, path) == roots[size]
        for wrong in altered(path, random):
            assert tree.root_by_inclusion(tree.leaf(leaves[index]), index, size, wrong) != roots[size]
        other = (index + 1) % size
        if other != index:
            assert tree.root_by_inclusion(tree.leaf(leaves[index]), other, size, path) != roots[size]
        proof = [part(leaves, which) for which in tree.consistency(old, size)]
        assert tree.consistent(old, roots[old], size, roots[size], proof)
        assert not tree.consistent(old, roots[old - 1], size, roots[size], proof)
        assert not tree.consistent(old, roots[old], size, roots[size - 1], proof)
        for wrong in altered(proof, random):
            assert not tree.consistent(old, roots[old], size, roots[size], wrong)
    assert not tree.consistent(0, roots[0], 5, roots[5], [])
    assert not tree.consistent(6, roots[6], 5, roots[5], [])
    assert tree.root_by_inclusion(roots[1], 5, 5, []) is None


def altered(path: list[bytes], random: Random) -> Iterator[list[bytes]]:
    yield [*path, random.randbytes(32)]
    yield [random.randbytes(32), *path]
    for at in range(len(path)):
        yield path[:at] + path[at + 1 :]
        yield [*path[:at], random.randbytes(32), *path[at + 1 :]]


@pytest.fixture
async def books(database: Database) -> Database:
    """A ledger of about 40 batches."""
    clock = StillClock()
    opened = accounts(30)
    work = Workload(11, opened, clock.now)
    seat = Seat(database, clock)
    ledger = PostgresLedger(database, seat)
    await ledger.open_accounts(opened)
    for step in range(40):
        clock.at += timedelta(milliseconds=1)
        await ledger.post(work.lists((1, 2, 20, 60, 300) if step % 10 == 0 else (1, 2, 5, 20)))
        if step % 20 == 19:
            clock.at += timedelta(minutes=5)
            await ledger.expire_due()
    await seat.close()
    return database


async def ids(database: Database) -> list[TransferId]:
    async with database.connection() as connection:
        rows = await (await connection.execute("select id from ledger.transfers order by seq")).fetchall()
    return [TransferId(row[0]) for row in rows]


async def test_every_transfer_has_a_receipt_that_leads_to_the_published_root(books: Database) -> None:
    root = await receipts.published_root(books)
    assert root.size > 30
    kinds = set()
    for transfer in (await ids(books))[::2]:
        document = json.loads(json.dumps(await receipts.make_receipt(books, transfer)))
        proven = receipts.verify_receipt(document, [root])
        kinds.add(proven.transfer.kind_name)
        assert proven.transfer.id == transfer
        assert proven.published
        assert proven.root == root
    assert len(kinds) == 6


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every single value of a document, and to every list and mapping."""
    if path:
        yield path
    if isinstance(value, dict):
        yield (*path, "more")
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, child in children:
        yield from places(child, (*path, name))


def changes(value: Any) -> Iterator[Any]:
    """Other values for one of a document."""
    yield None
    if isinstance(value, int):
        yield from (value + 1, -value - 1, 2**70, True, float(value), str(value))
    elif isinstance(value, str):
        yield from ("", value + "0", value[:-1], "x" + value[1:], value[::-1] + "00", value.upper() + " ")
        yield ("1" if value[:1] == "0" else "0") + value[1:]
    elif isinstance(value, list):
        yield from ([*value, *value[:1]], value[1:], ["00" * 32, *value], {})
    else:
        yield from ({}, [], {**value, "left": ["00" * 32]})


async def test_no_altered_receipt_proves_anything(books: Database) -> None:
    root = await receipts.published_root(books)
    async with books.connection() as connection:
        rows = await (
            await connection.execute(
                "select distinct on (kind, balancing is null, metadata is null, over is null, settles) id "
                "from ledger.transfers "
                "order by kind, balancing is null, metadata is null, over is null, settles, seq desc"
            )
        ).fetchall()
    assert len(rows) > 5
    tried = 0
    for (transfer,) in rows:
        document = json.loads(json.dumps(await receipts.make_receipt(books, transfer)))
        for path in places(document):
            for place, wrong in altered_documents(document, path):
                tried += 1
                with pytest.raises((ReceiptFalse, ReceiptUnreadable, RootUnknown)):
                    pytest.fail(f"{place}: {receipts.verify_receipt(wrong, [root])}")
    assert tried > 1000


def altered_documents(document: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """Copies of a document with something else, nothing, or something new at a place."""
    *above, name = path

    def copied() -> tuple[Any, Any]:
        wrong = copy.deepcopy(document)
        inner = wrong
        for step in above:
            inner = inner[step]
        return wrong, inner

    _, parent = copied()
    if name == "more":
        wrong, inner = copied()
        inner[name] = "1"
        yield path, wrong
        return
    for change in changes(parent[name]):
        if json.dumps(change) != json.dumps(parent[name]):
            wrong, inner = copied()
            inner[name] = change
            yield (path, change), wrong
    if isinstance(name, str):
        wrong, inner = copied()
        del inner[name]
        yield (path, "left out"), wrong


async def test_a_receipt_can_be_made_for_an_older_root_and_roots_are_consistent(books: Database) -> None:
    first = (await ids(books))[0]
    newest = await receipts.published_root(books)
    for size in range(1, newest.size + 1):
        old = await receipts.published_root(books, size)
        proven = receipts.verify_receipt(await receipts.make_receipt(books, first, size), [newest, old])
        assert proven.root == old
        proof = json.loads(json.dumps(await receipts.consistency(books, size)))
        assert receipts.verify_consistency(proof, [old, newest]) == (old, newest)
        for path in places(proof):
            if path[-1] in ("at", "format", "old", "new"):
                continue
            for place, wrong in altered_documents(proof, path):
                with pytest.raises((ReceiptFalse, ReceiptUnreadable, RootUnknown)):
                    pytest.fail(f"{place}: {receipts.verify_consistency(wrong, [old, newest])}")


async def test_what_cannot_be_proved_is_refused(books: Database) -> None:
    newest = await receipts.published_root(books)
    last = (await ids(books))[-1]
    with pytest.raises(TransferMissing):
        await receipts.make_receipt(books, TransferId(uuid4()))
    with pytest.raises(RootNotReached):
        await receipts.make_receipt(books, last, 1)
    with pytest.raises(RootNotReached):
        await receipts.published_root(books, newest.size + 1)
    for old, new in ((0, 5), (6, 5), (newest.size + 1, None)):
        with pytest.raises(RootNotReached):
            await receipts.consistency(books, old, new)
    document = await receipts.make_receipt(books, last)
    with pytest.raises(RootUnknown):
        receipts.verify_receipt(document, [])
    with pytest.raises(ReceiptFalse):
        receipts.verify_receipt(document, [receipts.Root(newest.size, bytes(32))])
    assert not receipts.verify_receipt(document).published
    assert (await receipts.published_root(books, 0)).hash == sha256(b"").digest()


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{", '{"format": 1}', '{"a": 1, "a": 2}', "[" * 100_000, "1" * (2**20 + 1),
        '{"format": "holdfast-receipt-1"}', '{"format": "holdfast-receipt-2"}', "\udcff", "1" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_receipt_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ReceiptUnreadable):
        receipts.verify_receipt(receipts.parse(text))


def test_roots_are_read_one_by_one_as_a_list_or_by_line() -> None:
    one = {"format": "holdfast-root-1", "size": 3, "root": "00" * 32, "at": "2026-03-01T12:00:00.000000Z"}
    two = {"size": 4, "root": "11" * 32}
    assert [r.size for r in receipts.parse_roots(json.dumps(one))] == [3]
    assert [r.size for r in receipts.parse_roots(json.dumps([one, two]))] == [3, 4]
    assert [r.size for r in receipts.parse_roots(f"{json.dumps(one)}\n\n{json.dumps(two)}\n".encode())] == [
        3,
        4,
    ]
    for text in (
        "",
        "{}\n{}",
        "[1]",
        '{"size": 3, "root": "00"}',
        '{"size": -1, "root": "' + "00" * 32 + '"}',
    ):
        with pytest.raises(ReceiptUnreadable):
            receipts.parse_roots(text)


@pytest.fixture
async def many(database: Database) -> tuple[Database, list[bytes]]:
    """5,300 batches of which only the hashes are there."""
    hashes = [sha256(str(number).encode()).digest() for number in range(1, 5301)]
    async with database.connection() as connection:
        await connection.execute(
            "insert into ledger.batches select i, 0, now(), 0, 1, '', h, null "
            "from unnest(%s::bytea[]) with ordinality as u (h, i)",
            (hashes,),
        )
        await connection.execute("update ledger.head set batch = 5300")
    return database, hashes


async def kept(database: Database) -> int:
    async with database.connection() as connection:
        rows = await (await connection.execute("select count(*) from ledger.tree_nodes")).fetchall()
    return int(rows[0][0])


async def test_complete_subtrees_are_computed_once_and_change_no_root(
    many: tuple[Database, list[bytes]],
) -> None:
    database, hashes = many
    assert await kept(database) == 0
    for size in (1, 1023, 1024, 1025, 2048, 3000, 4096, 5120, 5300):
        assert (await receipts.published_root(database, size)).hash == naive(hashes[:size])
    assert await kept(database) == 5
    async with database.connection() as connection:
        await connection.execute("delete from ledger.tree_nodes where number = 1")
        await connection.execute("update ledger.batches set hash = 'gone' where number <= 1024")
    assert (await receipts.published_root(database, 5300)).hash == naive(hashes)
    assert await kept(database) == 5
    for old, new in ((1024, 5300), (1500, 4096), (4097, 5299)):
        proof = await receipts.consistency(database, old, new)
        roots = [receipts.Root(size, naive(hashes[:size])) for size in (old, new)]
        found = receipts.verify_consistency(proof, roots)
        assert [root.size for root in found] == [old, new]


async def test_a_kept_subtree_that_was_altered_is_found(many: tuple[Database, list[bytes]], dsn: str) -> None:
    database, _ = many
    await receipts.published_root(database)
    words = "subtree"
    assert not [f for f in (await asyncio.to_thread(verify, dsn)).findings if words in f.words]
    for sql in (
        "update ledger.tree_nodes set hash = sha256('x') where number = 3",
        "update ledger.tree_nodes set number = 7 where number = 3",
    ):
        async with database.connection() as connection:
            await connection.execute(sql.encode())
        found = (await asyncio.to_thread(verify, dsn)).findings
        assert any(words in f.words for f in found), found


def run(dsn: str, *arguments: str, given: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "receipt", *arguments], env={**os.environ, "HOLDFAST_DSN": dsn},
        input=given, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


async def test_the_commands_make_and_check_receipts(books: Database, dsn: str, tmp_path: Path) -> None:
    transfer = str((await ids(books))[0])

    def commands() -> None:
        code, old = run(dsn, "root", "--size", "9")
        assert (code, old.count("\n")) == (0, 1), old
        code, new = run(dsn, "root")
        roots = tmp_path / "roots.jsonl"
        roots.write_text(old + new)
        code, receipt = run(dsn, "show", transfer)
        assert code == 0, receipt
        code, text = run("", "verify", "-", "--roots", str(roots), given=receipt)
        assert (code, transfer in text, "Proven" in text) == (0, True, True), text
        code, text = run("", "verify", "-", given=receipt)
        assert (code, "Compare that root" in text) == (0, True), text
        amount = json.loads(receipt)["transfer"]["amount"]
        wrong = receipt.replace(f'"amount": {amount}', f'"amount": {amount + 1}')
        code, text = run("", "verify", "-", "--roots", str(roots), given=wrong)
        assert (code, "proves nothing" in text) == (1, True), text
        code, proof = run(dsn, "consistency", "9")
        assert code == 0, proof
        code, text = run("", "verify", "-", "--roots", str(roots), given=proof)
        assert (code, "Proven" in text) == (0, True), text
        code, text = run(dsn, "show", str(UUID(int=1)))
        assert (code, "No transfer" in text) == (1, True), text

    await asyncio.to_thread(commands)
