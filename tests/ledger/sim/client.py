"""The driver's side of the simulated database: as much of psycopg's connection as the ledger's writer uses.

`platform.exchange` runs as it is, on a `pgconn` that notes what is sent; only `Rows.all` is replaced (in
`sizes.simulated`), since psycopg's own reader takes nothing but libpq's results.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import psycopg
from psycopg import errors, pq

from holdfast.platform.db import DatabaseUnavailable
from tests.ledger.sim.binary import parsed
from tests.ledger.sim.loop import ProcessLoop
from tests.ledger.sim.network import NEXT_S, Weather
from tests.ledger.sim.postgres import Message, Postgres, Reply, Session

_CONNECT_S = 5.0


class Result:
    """What `exchange` reads of a libpq result."""

    def __init__(
        self, rows: list[tuple[Any, ...]], error: psycopg.Error | None = None, *, copy: bool = False
    ) -> None:
        self.rows = rows
        self._error = error
        well = pq.ExecStatus.COPY_IN if copy else pq.ExecStatus.TUPLES_OK
        self.status = pq.ExecStatus.FATAL_ERROR if error else well

    @property
    def ntuples(self) -> int:
        return len(self.rows)

    def get_value(self, row: int, column: int) -> bytes | None:
        value: bytes | None = self.rows[row][column]
        return value

    def error_field(self, which: pq.DiagnosticField) -> bytes | None:
        if which == pq.DiagnosticField.SQLSTATE and self._error is not None:
            return (self._error.sqlstate or "").encode()
        return None

    def get_error_message(self, _: str = "") -> str:
        return str(self._error)


class Cursor:
    """What `execute` returns."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.rowcount = reply.count

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self._reply.rows[0] if self._reply.rows else None

    async def fetchall(self) -> list[tuple[Any, ...]]:
        return self._reply.rows


class PgConn:
    """What `exchange` and `gone` see of libpq."""

    def __init__(self, connection: SimConnection) -> None:
        self._connection = connection
        self._prepared: dict[bytes, str] = {}
        self.commands: list[tuple[str, Sequence[Any]]] = []
        self.results: list[bool] = []
        self.pipeline = False
        self._script: list[str] = []
        self._data = b""
        self.socket, self._far_end = os.pipe()
        self._open = [self.socket, self._far_end]

    @property
    def status(self) -> pq.ConnStatus:
        return pq.ConnStatus.BAD if self._connection.closed else pq.ConnStatus.OK

    def enter_pipeline_mode(self) -> None:
        self._begin()
        self.pipeline = True

    def _begin(self) -> None:
        if self._connection.closed:
            raise psycopg.OperationalError("the connection is closed")
        free = not self._connection.busy and not self.pipeline
        assert free, "one exchange at a time uses a connection"
        self.commands, self.results = [], []

    def send_query(self, script: bytes) -> None:
        self._begin()
        self._script = script.decode().split("; ")

    def put_copy_data(self, data: bytes | bytearray) -> int:
        self._data = bytes(data)
        return 1

    def put_copy_end(self) -> int:
        self.commands = [parsed(statement, self._data) for statement in self._script]
        self.results = [True] * len(self.commands)
        self._script = []
        return 1

    def is_busy(self) -> bool:
        return not self._script

    def get_result(self) -> Result:
        return Result([], copy=True)

    def exit_pipeline_mode(self) -> None:
        self.pipeline = False

    def send_prepare(self, name: bytes, sql: bytes) -> None:
        self._prepared[name] = sql.decode()
        self.results.append(False)

    def send_query_prepared(self, name: bytes, parameters: Sequence[Any], *_: object) -> None:
        self.commands.append((self._prepared[name], parameters))
        self.results.append(True)

    def pipeline_sync(self) -> None:
        return

    def flush(self) -> int:
        return 0

    def hang_up(self) -> None:
        """What the kernel does when the other end is gone: an idle socket becomes readable."""
        self._close(self._far_end)

    def finish(self) -> None:
        self._close(self.socket)
        self._close(self._far_end)

    def _close(self, file: int) -> None:
        if file in self._open:
            self._open.remove(file)
            os.close(file)


class SimConnection:
    """A connection of one process."""

    def __init__(self, database: SimDatabase, name: str, *, sync: bool) -> None:
        self._database = database
        self._loop = database.loop
        self.name = name
        self.sync = sync
        self.session: Session | None = None
        self.closed = False
        self.pgconn = PgConn(self)
        self._lock = asyncio.Lock()
        self._gone: psycopg.Error | None = None
        self._waits: asyncio.Future[tuple[list[Reply], psycopg.Error | None]] | None = None
        self._there_s = 0.0
        self._back_s = 0.0
        self._on_its_way: dict[asyncio.TimerHandle, Message | None] = {}

    @property
    def busy(self) -> bool:
        return self._waits is not None

    async def wait(self, results: Generator[Any, Any, Any]) -> list[Result]:
        """Have the pipeline or the script run, whose results are wanted."""
        if not self.pgconn.pipeline:
            next(results)  # so it gives the data that its script copies, and waits
        results.close()
        pgconn = self.pgconn
        replies, error = await self._ask(pgconn.commands)
        found, at = [], 0
        for is_command in pgconn.results:
            if not is_command:
                found.append(Result([]))
            elif at < len(replies):
                found.append(Result(replies[at].rows))
                at += 1
            else:
                found.append(Result([], error))
        return found

    async def execute(self, sql: str, parameters: Sequence[Any] = (), *, binary: bool = False) -> Cursor:
        async with self._lock:
            return Cursor(await self._one(sql, parameters))

    async def _one(self, sql: str, parameters: Sequence[Any] = ()) -> Reply:
        assert not self.pgconn.pipeline, "a connection in pipeline mode takes no other statement"
        [reply], error = self._complete(await self._ask([(sql, parameters)]))
        if error is not None:
            raise error
        return reply

    @staticmethod
    def _complete(
        answer: tuple[list[Reply], psycopg.Error | None],
    ) -> tuple[list[Reply], psycopg.Error | None]:
        replies, error = answer
        return (replies or [Reply()]), error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._lock:
            await self._one("begin")
        try:
            yield
        except BaseException:
            if not self.closed:
                async with self._lock:
                    with suppress(psycopg.Error):
                        await self._one("rollback")
            raise
        if self.closed:
            return
        async with self._lock:
            await self._one("commit")

    async def _ask(
        self, commands: list[tuple[str, Sequence[Any]]]
    ) -> tuple[list[Reply], psycopg.Error | None]:
        """Send statements and wait for what they come to. Raises: `psycopg.Error` when that breaks off."""
        if self.closed:
            raise psycopg.OperationalError("the connection is closed")
        assert self._waits is None, "one statement at a time runs on a connection"
        waits = self._waits = self._loop.create_future()
        if self._gone is not None:
            self._loop.later(0.0, self._hear, self._gone)
        else:
            self._send(Message(commands, self._answered))
        try:
            return await asyncio.shield(waits)
        except asyncio.CancelledError:
            if not waits.done():
                await self._cancelled(waits)
            raise
        finally:
            self._waits = None

    async def _cancelled(self, waits: asyncio.Future[Any]) -> None:
        """Cancel the statement and wait for its end, as psycopg does."""
        session = self.session
        if session is not None:
            self._loop.later(self._database.weather.delay_s(), session.cancel)
        try:
            async with asyncio.timeout(_CONNECT_S):
                await asyncio.shield(waits)
        except BaseException as error:  # as psycopg: whatever it is, the connection is closed
            self._finish()
            if not isinstance(error, Exception):
                raise

    def _send(self, message: Message) -> None:
        now = self._loop.time()
        delay_s, held_s = self._database.weather.delay_s(), self._database.held_until_s
        if self._database.breaks_sending and any(sql == "commit" for sql, _ in message.commands):
            self._database.breaks_sending = False
            delay_s = self._database.random.uniform(0, 0.8)
            self._loop.later(delay_s / 2, self.cut, self._database.random)
        arrives = max(self._there_s + NEXT_S, now + delay_s, held_s)
        self._there_s = arrives
        self._database.latest_s = max(self._database.latest_s, arrives)
        handle = self._loop.later(arrives - now, self._arrived, message)
        self._on_its_way[handle] = message

    def _arrived(self, message: Message) -> None:
        for handle, sent in tuple(self._on_its_way.items()):
            if sent is message:
                del self._on_its_way[handle]
        if self.session is not None:
            self.session.receive(message)

    def _answered(self, replies: list[Reply], error: psycopg.Error | None) -> None:
        """The server has answered: that comes back in its time."""
        random, postgres = self._database.random, self._database.postgres
        if random.random() < postgres.answers_lost:
            postgres.answers_lost %= 1.0
            self.cut(random)
        else:
            self._back(self._take, replies, error)

    def _back(self, what: Callable[..., None], *arguments: Any) -> None:
        now = self._loop.time()
        delay_s, held_s = self._database.weather.delay_s(), self._database.held_until_s
        self._back_s = max(self._back_s + NEXT_S, now + delay_s, held_s)
        self._database.latest_s = max(self._database.latest_s, self._back_s)
        self._loop.later(self._back_s - now, what, *arguments)

    def _take(self, replies: list[Reply], error: psycopg.Error | None) -> None:
        if not self.closed and self._gone is None and self._waits is not None and not self._waits.done():
            self._waits.set_result((replies, error))

    def hung_up(self) -> None:
        """The server has ended the session: the client hears of it in its time."""
        crashed = not self._database.postgres.up
        error: psycopg.Error = (
            psycopg.OperationalError("server closed the connection unexpectedly")
            if crashed
            else errors.AdminShutdown("terminating connection due to administrator command")
        )
        self._back(self._lost, error)

    def _lost(self, error: psycopg.Error) -> None:
        if self.closed or self._gone is not None:
            return
        self._gone = error
        self.pgconn.hang_up()
        if self._waits is not None:
            self._hear(error)

    def _hear(self, error: psycopg.Error) -> None:
        waits = self._waits
        self._finish()
        if waits is not None and not waits.done():
            waits.set_exception(error)
            waits.exception()  # it may be that nobody waits any more

    def _finish(self) -> None:
        self.closed = True
        self.pgconn.finish()
        self._database.closed(self)
        if self.session is not None:
            self._send(Message([], lambda *_: None, last=True))

    async def close(self) -> None:
        if not self.closed:
            self._finish()
        if self._waits is not None and not self._waits.done():
            self._waits.set_exception(psycopg.OperationalError("the connection is closed"))

    def cut(self, random: Random) -> None:
        """Break: what is on its way to the server arrives whole, in part, or not at all."""
        self._shorten(random)
        self._lost(psycopg.OperationalError("server closed the connection unexpectedly"))
        self._hear(psycopg.OperationalError("server closed the connection unexpectedly"))

    def kernel_closes(self, random: Random) -> None:
        """The process was killed."""
        if not self.closed:
            self._shorten(random)
            self._finish()

    def _shorten(self, random: Random) -> None:
        for handle, message in tuple(self._on_its_way.items()):
            draw = random.random()
            if draw < 0.3:
                handle.cancel()
                del self._on_its_way[handle]
            elif draw < 0.6 and message is not None and len(message.commands) > 1:
                del message.commands[random.randrange(1, len(message.commands)) :]


class SimDatabase:
    """What stands for `platform.db.Database` in one life of a process."""

    def __init__(self, postgres: Postgres, loop: ProcessLoop, random: Random, weather: Weather) -> None:
        self.postgres = postgres
        self.loop = loop
        self.weather = weather
        self.connections: list[SimConnection] = []
        self.latest_s = 0.0
        """When the last message arrives that is on its way."""
        self.held_until_s = 0.0
        """Nothing passes between the process and the server before."""
        self.refused_until_s = 0.0
        self.breaks_sending = False
        """The connection that sends the next commit breaks while that is on its way."""
        self.random = random

    async def dedicated(self, name: str, options: str = "") -> SimConnection:
        """Raises: `DatabaseUnavailable`."""
        await asyncio.sleep(self.weather.delay_s() * 2)
        now = self.loop.time()
        if self.held_until_s > now:
            await asyncio.sleep(min(self.held_until_s - now, _CONNECT_S))
        if self.refused_until_s > self.loop.time() or self.held_until_s > self.loop.time():
            raise DatabaseUnavailable
        made = SimConnection(self, name, sync="synchronous_commit=off" not in options)
        try:
            made.session = self.postgres.connect(name, sync=made.sync, hung_up=made.hung_up)
        except psycopg.OperationalError as error:
            made.pgconn.finish()
            raise DatabaseUnavailable from error
        self.connections.append(made)
        return made

    def closed(self, connection: SimConnection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)

    def cut(self) -> None:
        for connection in tuple(self.connections):
            connection.cut(self.random)

    def killed(self) -> None:
        for connection in tuple(self.connections):
            connection.kernel_closes(self.random)
