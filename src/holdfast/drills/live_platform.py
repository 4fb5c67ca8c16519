"""A whole platform for one live drill: `holdfast up` on free ports, in a folder that is gone afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import aiohttp

START_WITHIN_S: Final = 120.0


class LiveDrillError(RuntimeError):
    """The platform could not be started, or did not come to rest: the drill has no result."""


class Platform:
    """One `holdfast up` in a folder of its own."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="holdfast-drill-"))
        self.place.chmod(0o755)  # the database runs as a user of its own
        self.data = self.place / "data"
        self.port, self.sandbox_port = free_port(), free_port()
        self.log = self.place / "up.log"
        ports = (
            "--port",
            str(self.port),
            "--sandbox-port",
            str(self.sandbox_port),
            "--data",
            str(self.data),
            "--status-page-port",
            "0",
        )
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", "up", *ports],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=clean,
            )

    def url(self, path: str) -> str:
        """Return the address of `path` on the server."""
        return f"http://127.0.0.1:{self.port}{path}"

    def control(self, path: str) -> str:
        """Return the address of `path` in the sandbox's control API."""
        return f"http://127.0.0.1:{self.sandbox_port}/_control{path}"

    def said(self) -> str:
        """Return what its processes wrote so far."""
        return self.log.read_text(errors="replace")

    def kill_server(self) -> None:
        """End the server's processes outright, as a power cut or the kernel would.

        Raises: `LiveDrillError` when none runs.
        """
        found = [pid for pid in below(self.process.pid) if b"holdfast\0serve" in command_line(pid)]
        for pid in {one for server in found for one in (server, *below(server))}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            raise LiveDrillError(f"no server runs:\n{self.said()}")

    def end(self) -> None:
        """Stop everything and remove the folder."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.place, ignore_errors=True)


async def until_ready(platform: Platform, http: aiohttp.ClientSession) -> None:
    """Wait until it takes payments. Raises: `LiveDrillError` when it ends or takes too long."""
    end = time.monotonic() + START_WITHIN_S
    while time.monotonic() < end and platform.process.poll() is None:
        if "Open http://" in platform.said():
            with suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(platform.url("/readyz")) as reply:
                    if reply.status == 200:
                        return
        await asyncio.sleep(0.1)
    raise LiveDrillError(f"the platform did not start:\n{platform.said()}")


def free_port() -> int:
    """Return a port that nobody uses."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_line(pid: int) -> bytes:
    """Return the words of a process's command, each ended by a zero byte; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def below(pid: int) -> list[int]:
    """Return the processes that `pid` and its children have started."""
    try:
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [one for child in children for one in (child, *below(child))]
