"""A PostgreSQL of our own, in memory and in virtual time: rows, row locks, sessions, transactions, a log.

It knows READ COMMITTED as far as the ledger needs it: a statement sees what is committed and what its own
transaction did, waits for a row that another transaction has locked, and is then run again. A commit with
`synchronous_commit` is visible once it is durable; one without is visible at once, and lost when the server
crashes before its log is flushed. What the statements mean is in `statements`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import psycopg
from psycopg import errors

from holdfast.drills.virtual_time import EPOCH
from tests.ledger.sim.loop import GATE, Gate, ProcessLoop

Key = tuple[str, Any]
"""A table, and the key of a row in it."""
Rows = list[tuple[Any, ...]]
_STATEMENT_TIMEOUT_S = 30.0
_LOG_FLUSH_S = 0.2
_MISSING = object()


class Blocked(Exception):
    """Another transaction holds a lock that the statement needs."""

    def __init__(self, key: Key) -> None:
        self.key = key


@dataclass(slots=True)
class Reply:
    """What a statement came to."""

    rows: Rows = field(default_factory=list)
    count: int = 0


@dataclass(slots=True)
class Message:
    """Statements sent together; after the first error none of the rest is run. `last`: the client is gone."""

    commands: list[tuple[str, Sequence[Any]]]
    answer: Callable[[list[Reply], psycopg.Error | None], None]
    last: bool = False


@dataclass(slots=True, eq=False)
class Lock:
    holders: dict[Session, bool] = field(default_factory=dict)
    """Each with whether it is exclusive."""
    waiters: list[Session] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Commit:
    """One transaction as it stands in the log. `at_s`: when it became visible."""

    session: str
    owner: Gate | None
    rows: dict[Key, Any]
    noted: list[Any]
    at_s: float = 0.0
    before: dict[Key, Any] | None = None
    durable: bool = False


class Transaction:
    """What a session has changed and not committed, and the locks that it holds."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.rows: dict[Key, Any] = {}
        self.noted: list[Any] = []
        self.sync = session.sync
        self.failed = False
        self.implicit = False
        self._locked: list[Key] = []
        self._statement: list[tuple[Key, Any]] = []

    @property
    def database(self) -> Postgres:
        return self.session.database

    def now(self) -> datetime:
        return self.database.now()

    def get(self, table: str, key: Any) -> Any:
        """Return a row, None when there is none."""
        found = self.rows.get((table, key), _MISSING)
        return self.database.tables.get(table, {}).get(key) if found is _MISSING else found

    def scan(self, table: str) -> dict[Any, Any]:
        """Return all rows of a table by key."""
        committed = self.database.tables.get(table, {})
        if not any(key[0] == table for key in self.rows):
            return committed
        merged = dict(committed)
        for (name, key), row in self.rows.items():
            if name == table:
                merged[key] = row
        return {key: row for key, row in merged.items() if row is not None}

    def lock(self, table: str, key: Any, *, shared: bool = False) -> None:
        """Raises: `Blocked`."""
        place = (table, key)
        lock = self.database.locks.setdefault(place, Lock())
        mine = lock.holders.get(self.session)
        if mine is None or not (mine or shared):
            if any(s is not self.session and (x or not shared) for s, x in lock.holders.items()):
                raise Blocked(place)
            if mine is None:
                self._locked.append(place)
            lock.holders[self.session] = not shared

    def put(self, table: str, key: Any, row: Any) -> None:
        """Change a row, or add it. Raises: `Blocked`."""
        self.lock(table, key)
        place = (table, key)
        self._statement.append((place, self.rows.get(place, _MISSING)))
        self.rows[place] = row

    def insert(self, table: str, key: Any, row: Any) -> None:
        """Add a row. Raises: `Blocked`, `UniqueViolation`."""
        self.lock(table, key)
        if self.get(table, key) is not None:
            raise errors.UniqueViolation(f"{table} {key} stands twice")
        self.put(table, key, row)

    def statement_begins(self) -> None:
        self._statement.clear()

    def statement_undone(self) -> None:
        for place, row in reversed(self._statement):
            if row is _MISSING:
                del self.rows[place]
            else:
                self.rows[place] = row
        self._statement.clear()

    def release(self) -> None:
        for place in self._locked:
            lock = self.database.locks[place]
            lock.holders.pop(self.session, None)
            waiters, lock.waiters = lock.waiters, []
            for waiter in waiters:
                waiter.woken(place)
            if not lock.holders and not waiters:
                del self.database.locks[place]
        self._locked.clear()


class Session:
    """One session's server process."""

    def __init__(self, database: Postgres, name: str, *, sync: bool, hung_up: Callable[[], None]) -> None:
        self.database = database
        self.name = name
        self.owner = GATE.get()
        self.sync = sync
        self.alive = True
        self.transaction: Transaction | None = None
        self.waits_for: Key | None = None
        self._hung_up = hung_up
        self._inbox: deque[Message] = deque()
        self._message: Message | None = None
        self._at = 0
        self._done: list[Reply] = []
        self._turn = 0
        self._doomed = False
        self._committing = self._waited = False

    def receive(self, message: Message) -> None:
        if self.alive:
            self._inbox.append(message)
            self._next()

    def _next(self) -> None:
        if self._message is not None or not self.alive:
            return
        if self._doomed:
            self.end()
            return
        if not self._inbox:
            return
        self._message = self._inbox.popleft()
        self._at, self._done = 0, []
        if self._message.last:
            self.end(tell=False)
        elif self._message.commands:
            self._soon()
        else:
            self._tell(None)

    def _soon(self) -> None:
        self._turn += 1
        self.database.loop.later(self.database.pace_s(), self._step, self._turn)

    def _step(self, turn: int) -> None:
        if not self.alive or turn != self._turn or self._message is None:
            return
        if self._doomed:
            self.end()
            return
        sql, parameters = self._message.commands[self._at]
        if self._interfered(sql):
            return
        slow_s = self.database.slow_s.get(sql, 0.0)
        if slow_s and not self._waited:
            self._waited = True
            self.database.latest_s = max(self.database.latest_s, self.database.loop.time() + slow_s)
            self.database.loop.later(slow_s, self._step, turn)
            return
        self._waited = False
        word = sql.lower()
        if word in ("commit", "rollback"):
            self._finish(commit=word == "commit")
            return
        if word == "begin":
            self.transaction = Transaction(self)
            self._answered(Reply())
            return
        self._run(sql, parameters, turn)

    def _interfered(self, sql: str) -> bool:
        """Show a statement to who wants to see it; True when that has ended the session."""
        if self.database.before_statement is not None:
            self.database.before_statement(self, sql)
        return not self.alive

    def _run(self, sql: str, parameters: Sequence[Any], turn: int) -> None:
        if self.transaction is None:
            self.transaction = Transaction(self)
            self.transaction.implicit = True
        transaction = self.transaction
        if transaction.failed:
            self._failed(errors.InFailedSqlTransaction("the transaction is aborted"))
            return
        transaction.statement_begins()
        try:
            reply = self.database.interpret(transaction, sql, parameters)
        except Blocked as blocked:
            transaction.statement_undone()
            self.waits_for = blocked.key
            self.database.locks[blocked.key].waiters.append(self)
            self.database.loop.later(_STATEMENT_TIMEOUT_S, self._too_long, turn)
        except psycopg.Error as error:
            transaction.statement_undone()
            self._failed(error)
        else:
            if transaction.implicit:
                self._finish(commit=True, reply=reply)
            else:
                self._answered(reply)

    def woken(self, place: Key) -> None:
        if self.waits_for == place:
            self.waits_for = None
            self._soon()

    def cancel(self) -> None:
        """Cancel the statement that runs (`pg_cancel_backend`)."""
        self._too_long(self._turn)

    def _too_long(self, turn: int) -> None:
        if self.alive and turn == self._turn and (self.waits_for is not None or self._waited):
            self._stop_waiting()
            self._waited = False
            self._failed(errors.QueryCanceled("canceling statement"))

    def _stop_waiting(self) -> None:
        if self.waits_for is not None:
            lock = self.database.locks.get(self.waits_for)
            if lock is not None and self in lock.waiters:
                lock.waiters.remove(self)
            self.waits_for = None
        self._turn += 1

    def _answered(self, reply: Reply) -> None:
        assert self._message is not None
        self._done.append(reply)
        self._at += 1
        if self._at < len(self._message.commands):
            self._soon()
        else:
            self._tell(None)

    def _failed(self, error: psycopg.Error) -> None:
        transaction = self.transaction
        if transaction is not None:
            transaction.failed = True
            if transaction.implicit:
                self.transaction = None
            transaction.release()
        self._tell(error)

    def _tell(self, error: psycopg.Error | None) -> None:
        message, self._message = self._message, None
        if message is not None:
            message.answer(self._done, error)
        self._next()

    def _finish(self, *, commit: bool, reply: Reply | None = None) -> None:
        transaction, self.transaction = self.transaction, None
        if transaction is None:
            self._answered(reply or Reply())
            return
        if not commit or transaction.failed or not transaction.rows:
            transaction.release()
            self._answered(reply or Reply())
            return
        self._committing = True
        self.database.commit(transaction, lambda: self._committed(reply))

    def _committed(self, reply: Reply | None) -> None:
        self._committing = False
        if self._doomed and self.database.random.random() < 0.5:
            self.end()  # what it was told came first
        if self.alive:
            self._answered(reply or Reply())

    def terminate(self) -> None:
        """End the session as soon as it can be interrupted: a commit is carried through."""
        database = self.database
        delay_s = database.pace_s() + database.random.random() * database.deaf_s
        database.latest_s = max(database.latest_s, database.loop.time() + delay_s)
        database.loop.later(delay_s, self._interrupted)

    def _interrupted(self) -> None:
        self._doomed = True
        idle = self._message is None or self.waits_for is not None or self._waited
        if self.alive and not self._committing and idle:
            self.end()

    def end(self, *, tell: bool = True) -> None:
        """Roll back and go. `tell`: the client learns of it."""
        if not self.alive:
            return
        self.alive = False
        self._stop_waiting()
        if self.transaction is not None:
            self.transaction.release()
            self.transaction = None
        self.database.sessions.remove(self)
        if tell:
            self._hung_up()


class Postgres:
    """The server: what is committed, who is connected, and what would survive a crash now."""

    def __init__(self, loop: ProcessLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.up = True
        self.skew = timedelta(seconds=random.choice((0, 0, -7, 3600)))
        self.tables: dict[str, dict[Any, Any]] = {}
        self.locks: dict[Key, Lock] = {}
        self.sessions: list[Session] = []
        self.commits: list[Commit] = []
        """Every transaction that changed something, in the order in which they became visible."""
        self.flush_s = 0.001
        self.latest_s = 0.0
        """Until when something takes long that has begun."""
        self.answers_lost = 0.0
        """How many connections break just when an answer is to go out; 1: the next one."""
        self.slow_s: dict[str, float] = {}
        """Statements that take long, and how long."""
        self.fails: set[str] = set()
        """Statements that there is no room on the disk for."""
        self.deaf_s = 0.0
        """How long at most a session goes on that is to end."""
        self.broken: frozenset[str] = frozenset()
        """Rules of the schema that a mutant has left out."""
        self.statements: dict[str, Callable[[Transaction, Sequence[Any]], Reply]] = {}
        self.before_statement: Callable[[Session, str], None] | None = None
        self._log: list[tuple[Commit, Transaction]] = []
        self._life = 0

    def now(self) -> datetime:
        """Return the server's own time."""
        return EPOCH + timedelta(seconds=self.loop.time()) + self.skew

    def pace_s(self) -> float:
        return 0.00005 + self.random.random() * 0.0002

    def interpret(self, transaction: Transaction, sql: str, parameters: Sequence[Any]) -> Reply:
        statement = self.statements.get(sql)
        if statement is None:
            raise AssertionError(f"the simulated database does not know the statement {sql!r}")
        if sql in self.fails:
            raise errors.DiskFull("no space left on device")
        return statement(transaction, parameters)

    def connect(self, name: str, *, sync: bool, hung_up: Callable[[], None]) -> Session:
        """Raises: `OperationalError`."""
        if not self.up:
            raise psycopg.OperationalError("the database system is starting up")
        session = Session(self, name, sync=sync, hung_up=hung_up)
        self.sessions.append(session)
        return session

    def commit(self, transaction: Transaction, then: Callable[[], None]) -> None:
        commit = Commit(
            transaction.session.name, transaction.session.owner, transaction.rows, transaction.noted
        )
        self._log.append((commit, transaction))
        if transaction.sync:
            delay_s = self.flush_s * self.random.uniform(0.5, 1.5)
            self.latest_s = max(self.latest_s, self.loop.time() + delay_s)
            self.loop.later(delay_s, self._durable, commit, transaction, then, self._life)
        else:
            self._apply(commit, transaction)
            self.loop.later(_LOG_FLUSH_S, self._flush, commit, self._life)
            then()

    def _durable(self, commit: Commit, transaction: Transaction, then: Callable[[], None], life: int) -> None:
        if life == self._life:
            self._flush(commit, life)
            self._apply(commit, transaction)
            then()

    def _flush(self, commit: Commit, life: int) -> None:
        """Make durable what stands in the log up to a commit."""
        if life == self._life and not commit.durable:
            while self._log:
                flushed, _ = self._log.pop(0)
                flushed.durable = True
                if flushed is commit:
                    break

    def _apply(self, commit: Commit, transaction: Transaction | None) -> None:
        commit.at_s = self.loop.time()
        commit.before = {}
        for (table, key), row in commit.rows.items():
            rows = self.tables.setdefault(table, {})
            commit.before[table, key] = rows.get(key)
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row
        self.commits.append(commit)
        if transaction is not None:
            transaction.release()

    def crash(self) -> None:
        """Lose every session, and what of the log had not reached the disk, or only some of that."""
        self.up = False
        self._life += 1
        log, self._log = self._log, []
        kept = self.random.randint(0, len(log))
        for commit, _ in reversed(log[kept:]):
            if commit.before is not None:
                self._take_back(commit)
        for session in tuple(self.sessions):
            session.end()
        for commit, _ in log[:kept]:
            if commit.before is None:
                self._apply(commit, None)
        self.locks.clear()

    def _take_back(self, commit: Commit) -> None:
        assert commit.before is not None
        for (table, key), row in commit.before.items():
            if row is None:
                self.tables[table].pop(key, None)
            else:
                self.tables[table][key] = row
        self.commits.remove(commit)

    def restart(self) -> None:
        self.up = True
