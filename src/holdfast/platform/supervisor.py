"""One parent keeps the programs of one machine running.

Starts them in order, watches over them, restarts what falls, stops all cleanly. Whatever ends the parent,
`kill -9` included, ends its children: the kernel sees to that.

    starting → ready → (fallen → waiting → starting)* → stopped

A program counts as ready when its probe says so (an HTTP address that answers 200) or when it says so
itself (`READY=1`). Once ready it must go on answering, or sending `WATCHDOG=1`; a program that is silent
too long is killed and started again. One that never becomes ready at the very start is a mistake, not a
crash: then everything stops, with its last words.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from holdfast.base.errors import HoldfastError, Unavailable
from holdfast.platform.log import mask_text
from holdfast.platform.processes import die_with_parent

BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_S: Final = 30.0
"""Up for so long, a program has earned a fresh back-off."""
FIRST_READY_S: Final = 90.0
FIRST_FALLS_MAX: Final = 4
SILENT_S_MAX: Final = 30.0
PROBE_EVERY_S: Final = 2.0
PROBE_TIMEOUT_S: Final = 5.0
LOG_BYTES_MAX: Final = 10 * 1024 * 1024
LAST_WORDS: Final = 12
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: unix(7), SCM_CREDENTIALS

Say = Callable[[str, str, str], None]
"""Prints one event: who, what happened in plain words, and how it bodes (`good`, `bad`, `plain`)."""


class ProgramNotStarted(Unavailable):
    """A program did not start."""

    code = "program_not_started"


@dataclass(frozen=True, slots=True)
class Program:
    """What to keep running.

    `probe` is an address that answers 200 when it is ready; None: it says so by itself.

    `pulse` answers 200 as long as it lives, whatever it waits for; the same as `probe` when None.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    probe: str | None = None
    pulse: str | None = None
    where: str = ""
    stop_timeout_s: float = 5.0


@dataclass(slots=True)
class _Ear:
    """Hears what a program says of itself (`sd_notify`); only from processes of our own user."""

    address: str = field(default_factory=lambda: f"holdfast-notify-{secrets.token_hex(8)}")
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    heard_s: float = 0.0
    _socket: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))

    def open(self) -> None:
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("\0" + self.address)
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _hear(self) -> None:
        try:
            said, extra, _flags, _from = self._socket.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
        except OSError:
            return
        owners = [
            _CREDENTIALS.unpack(data)[1] for _level, kind, data in extra if kind == socket.SCM_CREDENTIALS
        ]
        if owners != [os.geteuid()]:
            return
        self.heard_s = time.monotonic()
        if b"READY=1" in said.split(b"\n"):
            self.ready.set()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits for what, seconds."""

    first_ready_s: float = FIRST_READY_S
    silent_s: float = SILENT_S_MAX
    probe_every_s: float = PROBE_EVERY_S
    steady_s: float = STEADY_S


class Supervised:
    """One program, kept running until `stop`."""

    def __init__(self, program: Program, *, logs: Path, say: Say, patience: Patience) -> None:
        self.program = program
        self.first_ready = asyncio.Event()
        self._say = say
        self._patience = patience
        self._log = logs / f"{program.name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        self._ear = _Ear()
        self._stopping = asyncio.Event()
        self._falls = 0

    @property
    def pid(self) -> int | None:
        """The program's process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def keep(self) -> None:
        """Run it, again and again, until `stop`.

        Raises: `ProgramNotStarted` when it never becomes ready at the start.
        """
        self._ear.open()
        try:
            while not self._stopping.is_set():
                began_s = time.monotonic()
                was_ready, how = await self._run_once()
                if self._stopping.is_set():
                    return
                if time.monotonic() - began_s > self._patience.steady_s and was_ready:
                    self._falls = 0
                self._falls += 1
                if not self.first_ready.is_set() and self._falls >= FIRST_FALLS_MAX:
                    raise ProgramNotStarted(
                        f"The {self.program.name} {how} and did not start. {self.last_words()}"
                    )
                pause_s = BACKOFF_S[min(self._falls, len(BACKOFF_S)) - 1]
                self._say(self.program.name, f"{how}; starting again in {pause_s:g} s", "bad")
                await self._pause(pause_s)
        finally:
            self._ear.close()

    def last_words(self) -> str:
        """What it wrote last, for a message."""
        words = " / ".join(line.strip() for line in list(self._words)[-3:] if line.strip())
        return mask_text(
            f"Its last words: {words} (all of them: {self._log})" if words else f"Its log: {self._log}"
        )

    async def stop(self) -> None:
        """Ask it to stop, insist when it takes longer than its time."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        _signal_group(process.pid, signal.SIGTERM, group=False)
        try:
            await asyncio.wait_for(_ended(process.pid), self.program.stop_timeout_s)
        except TimeoutError:
            self._say(
                self.program.name, f"did not stop within {self.program.stop_timeout_s:g} s; killed", "bad"
            )
        _signal_group(process.pid, signal.SIGKILL, group=True)
        await process.wait()

    async def _pause(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay_s)

    async def _run_once(self) -> tuple[bool, str]:
        """Start it and stay until it ends; return whether it became ready, and how it ended, in words."""
        self._ear.ready.clear()
        process = await asyncio.create_subprocess_exec(
            *self.program.command,
            env={**self.program.environment, "NOTIFY_SOCKET": f"@{self._ear.address}"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_orphan_guard(os.getpid()),
        )
        self._process = process
        if self._stopping.is_set():
            _signal_group(process.pid, signal.SIGKILL, group=True)
        reader = asyncio.ensure_future(self._read(process))
        watcher = asyncio.ensure_future(self._watch(process))
        await _ended(process.pid)
        watcher.cancel()
        _signal_group(process.pid, signal.SIGKILL, group=True)  # whatever it left behind
        await process.wait()
        await asyncio.gather(watcher, reader, return_exceptions=True)
        was_ready = watcher.done() and not watcher.cancelled() and watcher.exception() is None
        return was_ready or self._ear.ready.is_set(), ending(process.returncode)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        began_s = time.monotonic()
        while not await self._is_ready():
            if time.monotonic() - began_s > self._patience.first_ready_s:
                self._say(
                    self.program.name, f"is not ready after {self._patience.first_ready_s:g} s; killed", "bad"
                )
                _signal_group(process.pid, signal.SIGKILL, group=True)
                return
            await asyncio.sleep(0.1)
        where = f" on {self.program.where}" if self.program.where else ""
        again = " again" if self.first_ready.is_set() else ""
        self._say(self.program.name, f"ready{again}{where} ({time.monotonic() - began_s:.1f} s)", "good")
        self.first_ready.set()
        self._ear.heard_s = time.monotonic()
        while True:
            await asyncio.sleep(self._patience.probe_every_s)
            pulse = self.program.pulse or self.program.probe
            if pulse is not None and await _answers(pulse):
                self._ear.heard_s = time.monotonic()
            if time.monotonic() - self._ear.heard_s > self._patience.silent_s:
                self._say(
                    self.program.name, f"has not answered for {self._patience.silent_s:g} s; killed", "bad"
                )
                _signal_group(process.pid, signal.SIGKILL, group=True)
                return

    async def _is_ready(self) -> bool:
        if self.program.probe is None:
            return self._ear.ready.is_set()
        return await _answers(self.program.probe)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Keep what it writes in its log, bounded: one file and the one before it."""
        if process.stdout is None:
            return
        log = self._log.open("ab")
        try:
            while chunk := await process.stdout.read(65_536):
                self._words.extend(chunk.decode(errors="replace").splitlines())
                if log.tell() > LOG_BYTES_MAX:
                    log.close()
                    self._log.replace(self._log.with_suffix(".log.1"))
                    log = self._log.open("ab")
                log.write(chunk)
                log.flush()
        finally:
            log.close()


async def run_once(program: Program, *, logs: Path, timeout_s: float) -> tuple[int, str]:
    """Run a program to its end and return its exit code and the last line that it wrote.

    -9 when it took too long.
    """
    process = await asyncio.create_subprocess_exec(
        *program.command,
        env=dict(program.environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_orphan_guard(os.getpid()),
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        out = f"it took longer than {timeout_s:g} s".encode()
    finally:
        _signal_group(process.pid, signal.SIGKILL, group=True)
        await process.wait()
    with (logs / f"{program.name}.log").open("ab") as log:
        log.write(out)
    lines = [line.strip() for line in out.decode(errors="replace").splitlines() if line.strip()]
    return process.returncode or 0, mask_text(lines[-1]) if lines else ""


class Supervisor:
    """Starts programs in order, keeps them, and stops them in the opposite order."""

    def __init__(self, *, logs: Path, say: Say, patience: Patience | None = None) -> None:
        self._logs = logs
        self._patience = patience or Patience()
        self._say = say
        self.kept: list[Supervised] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: HoldfastError | None = None
        self._failed = asyncio.Event()

    async def start(self, *programs: Program) -> None:
        """Start programs side by side and wait until all are ready. Raises: `ProgramNotStarted`."""
        started = [
            Supervised(program, logs=self._logs, say=self._say, patience=self._patience)
            for program in programs
        ]
        for each in started:
            self.kept.append(each)
            self._tasks.append(asyncio.ensure_future(self._keep(each)))
        ready = asyncio.ensure_future(_all_set([each.first_ready for each in started]))
        failed = asyncio.ensure_future(self._failed.wait())
        try:
            await asyncio.wait((ready, failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            failed.cancel()
        if self.failure is not None:
            raise self.failure

    async def _keep(self, each: Supervised) -> None:
        try:
            await each.keep()
        except HoldfastError as error:
            self.failure = error
            self._failed.set()
        except OSError as error:
            self.failure = ProgramNotStarted(f"The {each.program.name} cannot be started: {error}.")
            self._failed.set()

    async def stop(self, *names: str) -> None:
        """Stop the named programs side by side; all of them, the last started first, when none is named."""
        chosen: Sequence[Supervised] = (
            [k for k in self.kept if k.program.name in names] if names else self.kept[::-1]
        )
        if names:
            await asyncio.gather(*(each.stop() for each in chosen))
            return
        for each in chosen:
            await each.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _all_set(events: Sequence[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _orphan_guard(parent: int) -> Callable[[], None]:
    return lambda: die_with_parent(signal.SIGTERM, parent=parent)


async def _ended(pid: int) -> None:
    """Wait until a process has ended.

    asyncio's own `wait` goes on until nobody holds the pipes of the process, as one that it started, and that
    outlives it, may do for ever.
    """
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(watched, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)


def _signal_group(pid: int, how: signal.Signals, *, group: bool) -> None:
    try:
        if group:
            os.killpg(pid, how)
        else:
            os.kill(pid, how)
    except ProcessLookupError:
        return  # it is gone: that is what was wanted


def ending(returncode: int | None) -> str:
    """Say in words how a process ended."""
    if returncode is None:
        return "stopped"
    if returncode >= 0:
        return f"stopped with exit code {returncode}"
    try:
        return f"was stopped by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was stopped by signal {-returncode}"


async def _answers(url: str) -> bool:
    """Whether `GET url` answers 200 in time.

    Plain HTTP by hand: no client library in the parent, and no pool to leak.
    """
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(name, int(port or 80))
            try:
                writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return line.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))


def python_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line that runs `holdfast …` with this very interpreter."""
    return (sys.executable, "-m", "holdfast", *arguments)
