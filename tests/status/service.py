"""One status service of a test's own, run as it runs for everybody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from holdfast.platform.outcomes import Report, Row


class Service:
    """One `holdfast status serve` in a folder of its own, with nothing else of Holdfast running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0
        self.url = self.key = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "LANG": "C.UTF-8"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "status", "serve", "--data", str(self.folder / "data"),
             "--port", "0", *arguments],
            stdout=subprocess.PIPE, env=environment, cwd="/",
        )  # fmt: skip
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        self.url, self.key = said["ready"], said["key"]

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20)

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "holdfast", "status", *arguments],
            capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment},
        )  # fmt: skip

    def token(self, role: str, name: str) -> str:
        made = self.command("token", "--data", str(self.folder / "data"), "--role", role, "--name", name)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def ask(
        self, method: str, path: str, body: object = None, token: str = ""
    ) -> tuple[int, Any, dict[str, str]]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if not isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                content, status, headers = answer.read(), answer.status, dict(answer.headers)
        except urllib.error.HTTPError as error:
            content, status, headers = error.read(), error.code, dict(error.headers)
        is_json = headers.get("Content-Type", "").endswith("json") and content
        return status, json.loads(content) if is_json else content, headers

    def report(self, token: str, *rows: Row) -> bool:
        body = msgspec.json.encode(Report("server-1", self.number, rows, 3, 12.0))
        self.number += 1
        status, answer, _ = self.ask("POST", "/v1/facts", body, token)
        assert status == 200, answer
        return bool(answer["taken"])

    def summary(self) -> Any:
        return self.ask("GET", "/api/v2/summary.json")[1]


@contextmanager
def service(folder: Path, *arguments: str) -> Iterator[Service]:
    one = Service(folder)
    one.start(*arguments)
    try:
        yield one
    finally:
        one.kill()
