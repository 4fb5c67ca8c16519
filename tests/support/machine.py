"""A whole Holdfast for tests: `holdfast up` as a process, watched from outside."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

from tests.support.waiting import until

_READY_S = 120.0


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def name_of(pid: int) -> str:
    """Return what the kernel calls a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def free_port() -> int:
    """Return a port that nobody uses."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_user(user: int | None) -> list[str]:
    """Return the prefix that runs a command as `user`, without any group or capability of root's.

    Where this very interpreter lies in root's home, the right to read (and only that) is left to it.
    """
    if user is None:
        return []
    drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"]
    # Through a shell: setpriv itself still has root's rights when it looks for the program.
    look = ["/bin/sh", "-c", f"exec {sys.executable} -c 'import holdfast.cli'"]
    probe = subprocess.run([*drop, *look], check=False, cwd="/", timeout=60, capture_output=True)
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return drop if probe.returncode == 0 else [*drop, *reading]


class Up:
    """One `holdfast up`, its output in a file."""

    def __init__(
        self, data: Path, *arguments: str, user: int | None = None, home: Path | None = None
    ) -> None:
        self.port, self.sandbox_port = free_port(), free_port()
        self.output = data.with_name(data.name + ".out")
        environment = {"PATH": os.environ["PATH"], "HOME": str(home or data.parent), "LANG": "C.UTF-8"}
        ports = (
            "--port",
            str(self.port),
            "--sandbox-port",
            str(self.sandbox_port),
            "--data",
            str(data),
            "--status-page-port",
            "0",
        )
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*as_user(user), sys.executable, "-m", "holdfast", "up", *ports, *arguments],
                stdout=out, stderr=subprocess.STDOUT, env=environment, cwd="/",
            )  # fmt: skip

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    def until(self, words: str, *, within_s: float = _READY_S) -> str:
        """Wait until it has printed `words` (a pattern)."""

        def seen() -> re.Match[str] | None:
            found = re.search(words, self.said)
            if found is None and self.process.poll() is not None:
                raise AssertionError(f"it ended before it said {words!r}:\n{self.said}")
            return found

        try:
            return until(seen, words, within_s=within_s).group()  # type: ignore[union-attr]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said}") from error

    def get(self, path: str) -> int:
        """Return the status of GET `path`; raises `OSError` for 400 and above, and when nobody answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return int(answer.status)

    def processes(self) -> list[int]:
        """Every process below this one, and this one."""
        parents: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = stat.read_text()
            except OSError:
                continue
            parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(text.split()[0]))
        found, below = [], [self.process.pid]
        while below:
            found.append(below.pop())
            below += parents.get(found[-1], [])
        return found

    def pid_of(self, command: str) -> int:
        """Return the process id of `holdfast COMMAND`."""
        for pid in self.processes():
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"holdfast {command}" in line:
                return pid
        raise AssertionError(f"no {command} runs")

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
