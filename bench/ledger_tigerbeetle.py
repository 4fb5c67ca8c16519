"""The uniform workload of the ledger's benchmark through the PyPI client of TigerBeetle, beside ours.

Only when HOLDFAST_BENCH_TIGERBEETLE names a server, as the client takes it ("3000", or "10.0.0.5:3000"). The
client is no requirement of ours: `.venv/bin/python -m ensurepip && .venv/bin/python -m pip install
tigerbeetle` brings it. Accounts and transfers are new in every run, so a server can be measured again.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from random import Random
from typing import Any, Final

from bench.ledger_books import CALLERS, Measured

VARIABLE: Final = "HOLDFAST_BENCH_TIGERBEETLE"
BATCH: Final = 8_000
"""Transfers to a request: a message of 1 MiB holds 8,189."""
_CLUSTER: Final = 0
_LEDGER: Final = 1
_CODE: Final = 1
_OPENING: Final = 10**9
_DRAWN_PER_S: Final = 600_000


def address() -> str:
    """Return the server to compare with; empty when none is named."""
    return os.environ.get(VARIABLE, "")


class Rival:
    """A connection to the server, and funded accounts on it, none of which may be overdrawn."""

    def __init__(self, at: str, accounts: int, seed: int) -> None:
        try:
            self._library: Any = importlib.import_module("tigerbeetle")
        except ModuleNotFoundError:
            raise SystemExit(
                f"{VARIABLE} names {at}, but the package tigerbeetle is not installed."
            ) from None
        self._random = Random(seed)
        self._at = at
        self._accounts = [self._library.id() for _ in range(accounts)]
        self._world = self._library.id()
        self._client: Any = None

    async def open(self) -> None:
        """Connect, open the accounts and fund them."""
        library = self._library
        self._client = library.ClientAsync(cluster_id=_CLUSTER, replica_addresses=self._at)
        bounded = library.AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS
        every = [library.Account(id=self._world, ledger=_LEDGER, code=_CODE)]
        every += [library.Account(id=i, ledger=_LEDGER, code=_CODE, flags=bounded) for i in self._accounts]
        for start in range(0, len(every), BATCH):
            told = await self._client.create_accounts(every[start : start + BATCH])
            self._all_created(told, library.CreateAccountStatus.CREATED)
        funding = [self._transfer(self._world, i, _OPENING) for i in self._accounts]
        for start in range(0, len(funding), BATCH):
            await self._post(funding[start : start + BATCH])

    async def measure(self, into: Measured, seconds: float) -> None:
        """Post for so long, by as many callers as ours has."""
        drawn = iter([self.draw(BATCH) for _ in range(max(4, int(seconds * _DRAWN_PER_S / BATCH)))])
        started, posted = time.perf_counter(), 0

        async def caller() -> None:
            nonlocal posted
            while time.perf_counter() - started < seconds and (batch := next(drawn, None)) is not None:
                sent = time.perf_counter()
                await self._post(batch)
                posted += len(batch)
                into.latencies_ms.append((time.perf_counter() - sent) * 1000)

        await asyncio.gather(*(caller() for _ in range(CALLERS + 1)))
        into.rates.append(posted / (time.perf_counter() - started))
        into.transfers += posted

    def draw(self, size: int) -> list[Any]:
        """Draw transfers between the accounts, evenly."""
        pick = self._random.choice
        made = []
        for _ in range(size):
            debit, credit = pick(self._accounts), pick(self._accounts)
            amount = 1 + self._random.randrange(1000)
            made.append(self._transfer(debit, self._world if credit == debit else credit, amount))
        return made

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await self._client.close()

    def _transfer(self, debit: int, credit: int, amount: int) -> Any:
        return self._library.Transfer(
            id=self._library.id(), debit_account_id=debit, credit_account_id=credit, amount=amount,
            ledger=_LEDGER, code=_CODE,
        )  # fmt: skip

    async def _post(self, batch: list[Any]) -> None:
        told = await self._client.create_transfers(batch)
        self._all_created(told, self._library.CreateTransferStatus.CREATED)

    def _all_created(self, told: list[Any], created: object) -> None:
        """Older servers answer for failures only, newer ones for every one."""
        refused = {one.status for one in told if one.status != created}
        if refused:
            raise SystemExit(f"TigerBeetle refused what our ledger takes: {refused}")
