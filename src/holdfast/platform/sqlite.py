"""One SQLite file, for those who must live without PostgreSQL: the sandbox and the status service."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

BUSY_MS: Final = 5_000
"""How long a writer waits for another process or thread that writes."""


class SqliteFile:
    """The file, with a write-ahead log. One connection, of one thread.

    `durable`: what was committed survives a power cut (`synchronous=FULL`), not only the end of this process.
    """

    def __init__(self, path: Path, *, durable: bool) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
        self._db.execute(f"pragma busy_timeout = {BUSY_MS}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what happens inside, or nothing of it."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def _create(self, schema: str) -> None:
        """Create what is missing of a schema, all or nothing. No statement may hold a semicolon."""
        with self.transaction():
            for statement in schema.split(";"):
                self._db.execute(statement)
