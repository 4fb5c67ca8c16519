"""A real server and worker for tests, as `holdfast serve` and `holdfast worker` run them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Program:
    """One process of ours, with what it wrote."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait until it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        """Kill it at once, with every process that it has started."""
        for pid in (*_children(self.process.pid), self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text(errors="replace")


def _children(pid: int) -> list[int]:
    """Return the processes that `pid` and its children have started."""
    started = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [below for child in started for below in (*_children(child), child)]


def start(name: str, folder: Path, environment: Mapping[str, str], *arguments: str) -> Program:
    """Start `holdfast NAME` with no settings but `environment`."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
    log = folder / f"{name}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", "from holdfast.cli import main; main()", name, *arguments],
            env=clean | {"HOLDFAST_DATA_DIR": str(folder), **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    return Program(name, process, log)


def until_ready(program: Program, url: str) -> None:
    """Wait until `url` answers 200; fail with what the program wrote when it never does."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and program.process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"{program.name} did not become ready:\n{program.said()}")


@contextmanager
def running(
    name: str, folder: Path, environment: Mapping[str, str], *, ready: str | None = None
) -> Iterator[Program]:
    """Run `holdfast NAME`; stop it at the end."""
    program = start(name, folder, environment)
    try:
        if ready is not None:
            until_ready(program, ready)
        yield program
    finally:
        program.end()
