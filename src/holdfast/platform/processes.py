"""What one process owes to the others on its machine.

To hold a port alone, to say when it is ready, to die with its parent.

Readiness is told as systemd wants it (`sd_notify`, datagrams to the socket named by NOTIFY_SOCKET), so that
a process behaves the same under `holdfast up` and under a unit with `Type=notify` and `WatchdogSec=`.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from holdfast import __version__
from holdfast.base.errors import Refused

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)  # loaded here: between fork and exec nothing should be
DATA_FORMAT: Final = 1
"""Layout of the data folder that this version reads and writes."""


class PortTaken(Refused):
    """Another program listens on this port. Choose another."""

    code = "port_taken"


class DataFolderInUse(Refused):
    """Another Holdfast uses this data folder."""

    code = "data_folder_in_use"


class DataFolderForeign(Refused):
    """The data folder belongs to another version of Holdfast."""

    code = "data_folder_foreign"


def die_with_parent(how: signal.Signals, *, parent: int) -> None:
    """Have the kernel send `how` to this process when the thread that started it is gone.

    `parent` is the process that should be alive: when it was gone before the kernel was told, this one ends.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, how)
    if os.getppid() != parent:
        os._exit(1)


def work_in_long_turns() -> None:
    """Ask the kernel not to interrupt this thread, or those that it starts, whenever another one wakes up.

    For a server whose threads hand each other work all the time (SCHED_BATCH, sched(7)): with the kernel's
    default, each request cost four changes of thread. Where the policy is not to be had, nothing changes.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


@contextmanager
def hold_port(host: str, port: int, *, option: str) -> Iterator[None]:
    """Be the only one to serve `port`, and keep others of our kind off until the block ends.

    Servers that set SO_REUSEPORT share a port silently, so binding proves nothing: this binds once without
    it, and holds a name in the kernel that a second Holdfast cannot take and that disappears with the
    process. Raises: `PortTaken`.
    """
    check_port(host, port, option=option)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as name:
        try:
            name.bind(f"\0holdfast-port-{port}")
        except OSError as error:
            raise _taken(host, port, option) from error
        yield


def check_port(host: str, port: int, *, option: str) -> None:
    """Refuse when somebody listens on `port` already. Raises: `PortTaken`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise PortTaken(
                f"Port {port} needs rights that this user has not. Choose one from 1024 up with {option}."
            ) from error
        except OSError as error:
            raise _taken(host, port, option) from error


def _taken(host: str, port: int, option: str) -> PortTaken:
    return PortTaken(
        f"Port {port} on {host} is taken by another program. Stop it, or choose another port with {option}.",
        port=port,
    )


def notify(state: str) -> None:
    """Tell whoever supervises this process: `READY=1`, `WATCHDOG=1`, `STOPPING=1`, `STATUS=…`.

    Nobody there: nothing happens.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        try:
            out.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
            out.send(state.encode())
        except OSError:
            return  # the supervisor is gone or busy: it looks again by itself


@contextmanager
def hold_data_folder(folder: Path) -> Iterator[None]:
    """Take the data folder for this process. Raises: `DataFolderInUse`, `DataFolderForeign`.

    The lock is the kernel's (`flock`): it is gone with the process, however that ends.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataFolderForeign(
            f"{folder}: {error.strerror}. Choose a folder of your own with --data."
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 64, 0).decode(errors="replace").strip() or "unknown"
            raise DataFolderInUse(
                f"{folder} is in use by another Holdfast (process {holder}). Stop it, "
                "or choose another folder with --data."
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        _check_format(folder)
        yield
    finally:
        os.close(lock)


def _check_format(folder: Path) -> None:
    mark = folder / "holdfast.json"
    if not mark.exists():
        mark.write_text(json.dumps({"format": DATA_FORMAT, "made_by": __version__}) + "\n")
        return
    try:
        found = json.loads(mark.read_text())
        form, made_by = int(found["format"]), str(found["made_by"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataFolderForeign(
            f"{mark} cannot be read. Restore it, or choose another folder with --data."
        ) from error
    if form != DATA_FORMAT:
        raise DataFolderForeign(
            f"{folder} belongs to another version of Holdfast ({made_by}, format {form}; this is "
            f"{__version__}, format {DATA_FORMAT}). Start that version, or choose another folder with --data."
        )
